import pytest
from inventory import GGUF, TINY

from cached_models import cache_model, files_of

Q4_0 = (GGUF / "tiny-Q4_0.gguf").read_bytes()
Q4_K = (GGUF / "tiny-Q4_K_M.gguf").read_bytes()


@pytest.fixture
def answers(monkeypatch):
    """A terminal on both sides, where a person types this."""

    def type_in(text):
        asked = []
        monkeypatch.setattr("slmkit.cli.terminal.is_interactive", lambda: True)
        monkeypatch.setattr("builtins.input", lambda: asked.append(1) or text)
        return asked

    return type_in


def load(real_slm, name):
    assert real_slm("run", name, "hi", "--max-tokens", "1", "-q").code == 0


def copies(places):
    return sorted((places.cache / "packed").glob("*.safetensors"))


def test_a_pulled_model_goes_with_its_packed_copy_and_nothing_else(real_slm, places):
    one = cache_model(places.hub, "ada/One", files_of(TINY))
    two = cache_model(places.hub, "ada/Two", files_of(TINY) | {"extra.txt": b"x"})
    load(real_slm, "ada/One")
    load(real_slm, str(GGUF / "tiny-Q4_0.gguf"))
    assert len(copies(places)) == 2
    done = real_slm("rm", "ada/One", "--yes")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("removed ada/One: ")
    assert not one.exists()
    assert (two / "model.safetensors").read_bytes() == (TINY / "model.safetensors").read_bytes()
    assert len(copies(places)) == 1
    real_slm("rm", "ada/One", "--yes").fails(3, "ada/One was not pulled")


def test_of_several_gguf_files_one_goes_and_none_is_guessed(real_slm, places):
    snapshot = cache_model(places.hub, "ada/G", {"t.Q4_0.gguf": Q4_0, "t.Q4_K_M.gguf": Q4_K})
    real_slm("rm", "ada/G", "--yes").fails(2, "several models here: ada/G:Q4_0, ada/G:Q4_K_M")
    assert real_slm("rm", "ada/g:q4_0", "--yes").out == "removed ada/G:Q4_0: 0.8 MB freed\n"
    assert [path.name for path in snapshot.iterdir()] == ["t.Q4_K_M.gguf"]
    assert real_slm("rm", "ada/G", "--yes").code == 0
    assert not snapshot.exists()


def test_a_short_name_means_its_model(real_slm, places):
    snapshot = cache_model(places.hub, "microsoft/Phi-3.5-mini-instruct", files_of(TINY))
    assert real_slm("rm", "phi3.5", "-y").code == 0
    assert not snapshot.exists()


def test_nothing_goes_without_a_yes(real_slm, places, answers):
    snapshot = cache_model(places.hub, "ada/One", files_of(TINY))
    real_slm("rm", "ada/One").fails(2, "would remove ada/One", "shared with other programs", "--yes does it")
    for text in ("", "n", "no", "x", "ye"):
        asked = answers(text)
        done = real_slm("rm", "ada/One")
        assert (done.code, asked) == (2, [1])
        assert done.out.startswith("remove ada/One, 6.")
        assert done.err == "slm: nothing was removed\n"
    assert snapshot.is_dir()
    answers("Y")
    assert real_slm("rm", "ada/One").code == 0
    assert not snapshot.exists()


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("tiny", 2, "comes with slmkit"),
        ("ollama-store:phi3", 2, "`ollama rm phi3`"),
        (str(TINY), 2, "is a path of yours"),
        (str(GGUF / "tiny-Q4_0.gguf"), 2, "delete it yourself"),
        ("nothing", 3, "no pulled model is called 'nothing'"),
        ("phi3.5", 3, "was not pulled"),
        ("../x", 3, "no pulled model"),
        ("a/../b", 3, "no pulled model"),
        ("ada/One:../x.gguf", 2, "neither a quantization"),
    ],
)
def test_what_is_not_slmkits_to_remove_stays(real_slm, places, name, code, words):
    before = files_of(TINY)
    places.ollama.add("phi3/latest", model=Q4_0)
    real_slm("rm", name, "--yes").fails(code, words)
    assert files_of(TINY) == before


def test_rm_needs_a_name(real_slm, places):
    real_slm("rm", "--yes").fails(2, "MODEL is missing", "--packed")


def test_packed_copies_go_all_or_those_of_one_model(real_slm, places):
    places.ollama.add("phi3/latest", model=Q4_K)
    load(real_slm, "tiny")
    load(real_slm, "ollama-store:phi3")
    load(real_slm, str(GGUF / "tiny-Q4_0.gguf"))
    assert len(copies(places)) == 3
    real_slm("rm", "tiny", "--packed").fails(2, "1 packed copy, 3.4 MB", "--yes does it")
    assert real_slm("rm", "tiny", "--packed", "--yes").out == "removed 1 packed copy: 3.4 MB freed\n"
    assert real_slm("rm", "tiny", "--packed", "--yes").out == "there is no packed copy of tiny\n"
    assert real_slm("rm", "ollama-store:phi3", "--packed", "--yes").out.startswith("removed 1 packed copy: ")
    assert len(copies(places)) == 1
    load(real_slm, "tiny")
    (places.cache / "packed" / ("0" * 64 + ".safetensors")).write_bytes(b"damaged")
    (places.cache / "packed" / "notes.txt").write_text("not ours")
    assert real_slm("rm", "--packed", "--yes").out.startswith("removed 3 packed copies: ")
    assert [path.name for path in (places.cache / "packed").iterdir()] == ["notes.txt"]
    assert real_slm("rm", "--packed", "--yes").out == "there is no packed copy\n"
    load(real_slm, "tiny")  # and it is made again


def test_a_model_that_changed_has_no_copy_of_what_it_was(real_slm, places, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, data in files_of(TINY).items():
        (folder / name).write_bytes(data)
    load(real_slm, str(folder))
    (folder / "model.safetensors").write_bytes((TINY / "model.safetensors").read_bytes())
    assert real_slm("rm", str(folder), "--packed", "--yes").out == f"there is no packed copy of {folder}\n"
    assert len(copies(places)) == 1


def test_what_an_interrupted_pull_left_goes_and_nothing_beside_it(real_slm, places, tmp_path):
    blobs = places.hub / "models--ada--Half" / "blobs"
    blobs.mkdir(parents=True)
    (tmp_path / "mine").write_bytes(b"mine")
    (blobs / "1.incomplete").write_bytes(bytes(2_000_000))
    (blobs / "2.incomplete").symlink_to(tmp_path / "mine")
    (blobs / "3").write_bytes(b"whole")
    real_slm("rm", "ada/Half").fails(2, "the unfinished pull of ada/Half, 2.0 MB in", "--yes does it")
    assert (blobs / "1.incomplete").exists()
    assert real_slm("rm", "ada/Half", "--yes").out == "removed the unfinished pull of ada/Half: 2.0 MB freed\n"
    assert sorted(path.name for path in blobs.iterdir()) == ["2.incomplete", "3"]
    assert (tmp_path / "mine").read_bytes() == b"mine"
    real_slm("rm", "ada/Half", "--yes").fails(3, "ada/Half was not pulled")


def test_a_pull_that_is_running_is_left_alone(real_slm, places):
    from huggingface_hub.utils import WeakFileLock

    folder = places.hub / "models--ada--Half"
    locks = places.hub / ".locks" / folder.name
    for path in (folder / "blobs", locks):
        path.mkdir(parents=True)
    (folder / "blobs" / "1.incomplete").write_bytes(b"half")
    with WeakFileLock(locks / "1.lock"):
        real_slm("rm", "ada/Half", "--yes").fails(2, "is being fetched by another process")
    assert (folder / "blobs" / "1.incomplete").exists()


def test_a_running_pull_outlives_the_last_snapshot_of_its_repository(real_slm, places):
    from huggingface_hub.utils import WeakFileLock

    snapshot = cache_model(places.hub, "ada/One", files_of(TINY))
    folder = places.hub / "models--ada--One"
    locks = places.hub / ".locks" / folder.name
    locks.mkdir(parents=True)
    arriving = folder / "blobs" / f"{'1' * 64}.incomplete"
    arriving.write_bytes(b"half")
    with WeakFileLock(locks / f"{'1' * 64}.lock"):
        real_slm("rm", "ada/One", "--yes").fails(2, "ada/One is being fetched by another process")
    assert arriving.read_bytes() == b"half"
    assert (snapshot / "model.safetensors").read_bytes() == (TINY / "model.safetensors").read_bytes()
    assert real_slm("rm", "ada/One", "--yes").code == 0  # nobody is fetching it any more
    assert not folder.exists()


@pytest.mark.parametrize("linked", ["", "snapshots", "blobs", "refs"])
def test_a_folder_that_is_a_link_keeps_what_it_leads_to(real_slm, places, linked):
    cache_model(places.hub, "ada/One", files_of(TINY))
    folder = places.hub / "models--ada--One" / linked
    elsewhere = folder.with_name("moved")  # beside it, so that the links in it still lead to the blobs
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    before = sorted(path for path in elsewhere.rglob("*"))
    real_slm("rm", "ada/One", "--yes").fails(2, "is a symbolic link to", "delete the link")
    assert folder.is_symlink()
    assert sorted(path for path in elsewhere.rglob("*")) == before


def test_an_unfinished_pull_behind_a_link_stays(real_slm, places, tmp_path):
    (tmp_path / "elsewhere" / "blobs").mkdir(parents=True)
    (tmp_path / "elsewhere" / "blobs" / "1.incomplete").write_bytes(b"half")
    places.hub.mkdir(parents=True)
    (places.hub / "models--ada--Half").symlink_to(tmp_path / "elsewhere")
    real_slm("rm", "ada/Half", "--yes").fails(2, "is a symbolic link to")
    assert (tmp_path / "elsewhere" / "blobs" / "1.incomplete").exists()


def test_a_path_in_an_advice_can_be_copied_into_a_shell(real_slm, places, tmp_path):
    (tmp_path / "my model").mkdir()
    path = str(tmp_path / "my model")
    real_slm("rm", path, "--yes").fails(2, "is a path of yours", f"`slm rm '{path}' --packed`")
    assert (tmp_path / "my model").is_dir()
