"""Short names and references to the hub."""

from __future__ import annotations

import pytest

from slmkit.errors import DownloadError, RequestError
from slmkit.weights.names import (
    PUBLISHED,
    SHORT_NAMES,
    HubRef,
    check_path_in_repository,
    hub_reference,
    known_reference,
    refuse_reserved,
    short_name,
    suggestion,
)


def test_every_published_model_has_a_short_name_that_means_it() -> None:
    assert len(PUBLISHED) == 10
    for repo in PUBLISHED:
        assert SHORT_NAMES[short_name(repo) or ""] == repo
    assert SHORT_NAMES["phi3"] == SHORT_NAMES["phi3:mini"] == SHORT_NAMES["phi3:mini-4k"] == PUBLISHED[0]
    assert SHORT_NAMES["phi3.5"] == "microsoft/Phi-3.5-mini-instruct"
    assert short_name("owner/name") is None


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        ("phi3.5", HubRef("microsoft/Phi-3.5-mini-instruct")),
        ("phi3.5@refs/pr/3", HubRef("microsoft/Phi-3.5-mini-instruct", None, "refs/pr/3")),
        ("owner/name", HubRef("owner/name")),
        ("0w-n_er/N.a-m_e.2", HubRef("0w-n_er/N.a-m_e.2")),
        ("owner/name@v1.0", HubRef("owner/name", None, "v1.0")),
        ("owner/name:Q4_K_M", HubRef("owner/name", "Q4_K_M")),
        ("owner/name:Q4_K_M@main", HubRef("owner/name", "Q4_K_M")),
        ("owner/name:sub/model-Q8_0.gguf@v2", HubRef("owner/name", "sub/model-Q8_0.gguf", "v2")),
    ],
)
def test_references_are_read_and_written_alike(name: str, ref: HubRef) -> None:
    assert hub_reference(name) == ref
    assert hub_reference(str(ref)) == ref


@pytest.mark.parametrize(
    "name",
    [
        "phi",
        "a/b/c",
        "./a/b",
        "../a",
        "/a/b",
        "~/a",
        "C:\\x.gguf",
        "C:/x.gguf",
        "a\\b/c",
        "a/b.gguf",
        "name:Q4",
        "a/",
        "",
    ],
)
def test_what_has_another_form_is_left_to_paths(name: str) -> None:
    assert hub_reference(name) is None


@pytest.mark.parametrize(
    "name",
    ["a/..", "a/b--c", "a/b c", "a/bé", "-a/b", "a/.b", "a/b.", "a/" + "b" * 96, "a/b:", "a/b:../x.gguf", "a/b:/x.gguf",
     "a/b:x/../y.gguf", "a/b:Q4 K", "a/b:Q4:Q5", "a/b@", "a/b@..", "a/b@/x", "a/b@x/../y", "a/b@x@y", "a/b@-x",
     "a/b@" + "x" * 201, "phi3@x y"],
)  # fmt: skip
def test_a_bad_reference_is_one_sentence(name: str) -> None:
    with pytest.raises(RequestError) as refused:
        hub_reference(name)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_prefixes_of_other_backends_are_reserved_and_windows_drives_are_not() -> None:
    for name in ("transformers:phi3", "ollama:phi3", "nim:x/y"):
        with pytest.raises(RequestError, match="is a model of another runtime"):
            refuse_reserved(name)
    with pytest.raises(RequestError, match="ollama-store:phi3"):
        refuse_reserved("ollama:phi3")
    for name in ("phi3:mini", "C:\\x.gguf", "ollama-store:phi3", "transformers"):
        refuse_reserved(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [("Phi3.5", "phi3.5"), ("phi35", "phi3.5"), ("tinny", "tiny"), ("phi3:mini-129k", "phi3:mini-128k"),
     ("openia:phi3", "openai:phi3"),
     ("Phi-3.5-mini-instruct", "microsoft/Phi-3.5-mini-instruct"), ("microsoft/phi-3-mini-4k-instruc", PUBLISHED[0])],
)  # fmt: skip
def test_a_near_miss_gets_the_right_spelling(name: str, near: str) -> None:
    assert suggestion(name) == f"did you mean {near}?"


def test_nothing_is_suggested_for_what_is_far_from_every_name() -> None:
    assert suggestion("llama-70b") == ""
    assert known_reference("llama") is None


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../b", "a//b", "a\\b", "C:x", "", ".", "a\0b", "a\nb", "x" * 401, None, 3, "a/b/"]
)
def test_file_names_that_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(DownloadError, match="no plain name"):
        check_path_in_repository(path, DownloadError, "the listing has")


def test_ordinary_file_names_pass() -> None:
    for path in ("config.json", ".gitattributes", "sub/Model (1) v2+x.gguf", "日本.txt"):
        check_path_in_repository(path, DownloadError, "the listing has")
