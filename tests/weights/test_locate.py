"""What a model's name means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slmkit.errors import ModelNotFound, RequestError, SlmError, UnsupportedModel
from slmkit.weights.locate import Found, locate


def test_a_folder_is_found_by_relative_and_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "phi").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "models")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("phi", "./phi", "../models/phi", "./../models/phi/", str(tmp_path / "models" / "phi"), "~/models/phi"):
        assert os.path.samefile(locate(name).path, tmp_path / "models" / "phi")


def test_tiny_is_the_bundled_model_even_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package" / "data" / "tiny").mkdir(parents=True)
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("slmkit.weights.locate.files", lambda _: tmp_path / "package")
    assert locate("tiny").path == tmp_path / "package" / "data" / "tiny"
    assert os.path.samefile(locate("./tiny").path, tmp_path / "tiny")
    (tmp_path / "package" / "data" / "tiny").rmdir()
    with pytest.raises(ModelNotFound, match="lacks the bundled model"):
        locate("tiny")


@pytest.fixture(autouse=True)
def _an_empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no hub cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "no store"))


@pytest.mark.parametrize(
    "name", ["a/b/c", "C:\\x", "C:/x", "./no", "/no", "../no", "a/b.gguf", "no.gguf", "NO.GGUF", "./" + "x" * 5000]
)
def test_what_can_only_be_a_path_is_said_not_to_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match=r"^there is no file or folder '.*check the path$") as refused:
        locate(name)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("name", ["no-such", "no such", "x" * 5000])
def test_a_name_that_nothing_answers_to_says_what_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match=r"tiny .the bundled model., short .*, owner/name .*, folders") as refused:
        locate(name)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("name", ["phi3", "microsoft/Phi-3-mini-4k-instruct", "phi3@v2", "a/b:Q4_K_M"])
def test_offline_a_hub_name_that_is_not_cached_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ModelNotFound, match=rf"is not in the cache .* fetched offline; run `slm pull {name}` where there is a network"
    ):
        locate(name, offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFound, match="nothing is fetched offline"):
        locate(name)


def test_a_short_name_means_itself_and_another_name_a_path_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("phi3", "models/phi"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match="microsoft/Phi-3-mini-4k-instruct is not in the cache"):
        locate("phi3", offline=True)
    assert locate("./phi3").path.samefile(tmp_path / "phi3")
    assert locate("models/phi").path.samefile(tmp_path / "models" / "phi")


@pytest.mark.parametrize("name", ["transformers:phi3", "ollama:phi3.5", "azure:x", "openai:http://host/v1"])
def test_names_of_other_runtimes_are_refused_where_files_are_looked_at(name: str) -> None:
    with pytest.raises(RequestError, match=rf"says what {name.partition(':')[0]}: can do"):
        locate(name)


def test_a_name_of_ollama_s_store_is_looked_up_there() -> None:
    with pytest.raises(ModelNotFound, match="store"):
        locate("ollama-store:phi3.5")


@pytest.mark.parametrize("name", ["microsoft/../../etc", "owner/..", "a\\..\\b"])
def test_a_hub_like_name_cannot_lead_upwards_even_to_a_folder_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "here" / "microsoft").mkdir(parents=True)
    (tmp_path / "here" / "owner").mkdir()
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(RequestError, match=r"'\.\.'"):
        locate(name)


@pytest.mark.parametrize("name", ["", " ", "\t", "a\0b", "\x1b[2Jtiny", "tiny\n", "\ud800"])
def test_empty_names_and_control_characters_are_refused_in_printable_words(name: str) -> None:
    with pytest.raises(RequestError) as refused:
        locate(name)
    assert str(refused.value).isprintable()


def test_a_gguf_file_is_found_and_of_a_split_only_the_first(tmp_path: Path) -> None:
    for name in ("m.gguf", "M.GGUF", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"):
        (tmp_path / name).touch()
    for name in ("m.gguf", "M.GGUF", "m-00001-of-00002.gguf"):
        assert locate(str(tmp_path / name)) == Found(str(tmp_path / name), tmp_path / name)
    with pytest.raises(UnsupportedModel, match=r"first one, m-00001-of-00002\.gguf"):
        locate(str(tmp_path / "m-00002-of-00002.gguf"))


def test_a_folder_with_one_gguf_model_means_that(tmp_path: Path) -> None:
    for name in ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "mmproj-m.gguf", "config.json"):
        (tmp_path / name).touch()
    assert locate(str(tmp_path)).path == tmp_path / "m-00001-of-00002.gguf"
    (tmp_path / "n.gguf").touch()
    with pytest.raises(UnsupportedModel, match=r"several GGUF models; give one of m-00001-of-00002\.gguf, n\.gguf"):
        locate(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    assert locate(str(tmp_path)).path == tmp_path


def test_of_a_model_that_is_here_in_part_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "no hub cache" / "models--microsoft--Phi-3.5-mini-instruct" / "blobs").mkdir(parents=True)
    with pytest.raises(ModelNotFound, match="is not all in the cache"):
        locate("phi3.5", offline=True)


def test_an_unknown_tag_of_a_short_name_is_told_the_others() -> None:
    with pytest.raises(
        ModelNotFound, match=r"^no model answers to 'phi3:nonsense'; phi3 has phi3:mini, .*phi3:vision$"
    ):
        locate("phi3:nonsense")
    with pytest.raises(ModelNotFound, match=r"did you mean phi3:small\? phi3 has phi3:mini, "):
        locate("phi3:smal")


def test_a_folder_that_is_called_like_a_gguf_file_is_called_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").mkdir()
    with pytest.raises(UnsupportedModel, match=r"x\.gguf is a folder, not a GGUF file, and holds no model"):
        locate(str(tmp_path / "x.gguf"))
    (tmp_path / "x.gguf" / "config.json").touch()
    assert locate(str(tmp_path / "x.gguf")).path == tmp_path / "x.gguf"


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, says in (("m.bin", "give a .gguf file"), ("model.safetensors", "the folder that holds")):
        (tmp_path / name).touch()
        with pytest.raises(UnsupportedModel, match=says):
            locate(str(tmp_path / name))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SlmError):
        locate(str(tmp_path / "fifo"))


@pytest.mark.parametrize("name", ["Tiny", "tinny", "tiny/", "TINY"])
def test_a_misspelt_tiny_gets_the_right_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match=r"did you mean tiny\?"):
        locate(name)


def test_the_home_of_nobody_is_not_found() -> None:
    with pytest.raises(ModelNotFound, match=r"'~no-such-user/phi'"):
        locate("~no-such-user/phi")


def test_a_folder_in_one_that_is_closed_to_us_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: object, **settings: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("slmkit.weights.locate.os.stat", closed)
        with pytest.raises(ModelNotFound, match=r"Permission denied.*check the path"):
            locate(str(tmp_path))


def test_spaces_of_other_scripts_may_be_in_a_name(tmp_path: Path) -> None:
    (tmp_path / "モデル\u3000\u00a0一").mkdir()
    assert locate(str(tmp_path / "モデル\u3000\u00a0一")).path.is_dir()
