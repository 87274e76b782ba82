import hashlib
import json
import os
import stat

import pytest

from ollama_store import LIBRARY_TEMPLATE, MANIFEST, PHI3_CONFIG, STOPS, OllamaStore
from slmkit.errors import CheckpointError, ModelNotFound, RequestError, UnsupportedModel
from slmkit.request import Message
from slmkit.weights.ollama import model as ollama
from slmkit.weights.ollama import store as ollama_store

MODEL = b"GGUF and so on"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The only store of this machine."""
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setattr(ollama_store, "SERVICE", tmp_path / "service" / "models")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return OllamaStore(tmp_path / "home" / ".ollama" / "models")


def test_a_model_is_found_with_all_that_goes_with_it(store):
    manifest = store.add(
        "phi3.5/latest",
        template=LIBRARY_TEMPLATE,
        system="Be brief.",
        params={"stop": STOPS, "num_ctx": 8192, "temperature": 0.5},
        messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        license="MIT",
    )
    found = ollama.find("ollama-store:phi3.5")
    assert found.name == "phi3.5"
    assert found.path.read_bytes() == MODEL
    assert found.path == store.root / "blobs" / f"sha256-{hashlib.sha256(MODEL).hexdigest()}"
    assert found.template == LIBRARY_TEMPLATE
    assert found.system == "Be brief."
    assert found.options == {"stop": tuple(STOPS), "temperature": 0.5}
    assert found.ctx == 8192
    assert found.messages == (Message("user", "Hi"), Message("assistant", "Hello"))
    assert found.licence == "MIT"
    assert (found.family, found.parameters, found.quantization) == ("phi3", "3.8B", "Q4_0")
    assert found.modified == manifest.stat().st_mtime
    assert found.size == sum(layer["size"] for layer in json.loads(manifest.read_text())["layers"])


def test_a_bare_model_has_nothing_but_its_file(store):
    store.add("m/latest", config={})
    found = ollama.find("m")
    assert (found.template, found.system, found.options, found.ctx, found.messages) == (None, None, {}, None, ())
    assert found.licence == ""


@pytest.mark.parametrize(
    "typed", ["phi3:mini", "PHI3:Mini", "library/phi3:mini", "registry.ollama.ai/library/phi3:mini"]
)
def test_case_and_defaults_do_not_matter(store, typed):
    store.add("Phi3/mini")
    assert ollama.find(typed).path.read_bytes() == MODEL


def test_the_right_spelling_goes_first_and_no_other_is_guessed(store):
    store.add("Phi3/latest", model=b"one")
    store.add("phi3/latest", model=b"two")
    assert ollama.find("Phi3").path.read_bytes() == b"one"
    assert ollama.find("phi3").path.read_bytes() == b"two"
    with pytest.raises(RequestError, match="in other letters"):
        ollama.find("PHI3")


def test_every_name_is_listed_once_in_order(store):
    for name in ("phi3/mini", "phi3/latest", "hf.co/ada/Phi-GGUF/Q4_K_M", "registry.ollama.ai/ada/b/latest"):
        store.add(name)
    store.write("bad name/latest", "{}")
    store.write(".hidden/latest", "{}")
    (store.root / "manifests" / ".DS_Store").write_text("")
    (store.root / "manifests" / "registry.ollama.ai" / "library" / "empty").mkdir()
    names = [str(name) for name in ollama_store.Store(store.root).names()]
    assert names == ["hf.co/ada/Phi-GGUF:Q4_K_M", "ada/b", "phi3", "phi3:mini"]
    assert all(ollama.find(name).name == name for name in names)


def test_the_newer_folder_of_linked_manifests_is_read_and_goes_first(store):
    old = store.add("phi3/latest", model=b"old")
    layer = store.layer("model", b"new")
    blob = store.blob_path(store.blob(json.dumps(store.manifest([layer])).encode()))
    link = store.root / "manifests-v2" / old.relative_to(store.root / "manifests")
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    assert ollama.find("phi3").path.read_bytes() == b"new"
    assert [str(name) for name in ollama_store.Store(store.root).names()] == ["phi3"]
    blob.write_text(blob.read_text() + " ")
    with pytest.raises(CheckpointError, match="another hash"):
        ollama.find("phi3")


@pytest.mark.parametrize("inline", [True, False])
def test_of_a_list_of_manifests_the_one_with_a_gguf_file_is_taken(store, inline):
    ours = store.manifest([store.layer("model", b"ours")])
    child = ours if inline else {"mediaType": MANIFEST, **store.blob(json.dumps(ours).encode())}
    mlx = store.manifest([store.layer("tensor", b"")]) | {"runner": "mlx", "format": "safetensors"}
    listed = {"mediaType": "application/vnd.ollama.manifest.list.v2+json",
              "manifests": [mlx, child | {"runner": "llamacpp", "format": "gguf"}]}  # fmt: skip
    store.write("m/latest", listed)
    assert ollama.find("m").path.read_bytes() == b"ours"
    store.write("n/latest", listed | {"manifests": [mlx]})
    with pytest.raises(UnsupportedModel, match="only versions for 'mlx'"):
        ollama.find("n")


def test_old_blobs_have_a_colon_in_their_name(store):
    path = store.add("m/latest")
    digest = json.loads(path.read_text())["layers"][0]["digest"]
    (store.root / "blobs" / digest.replace(":", "-")).rename(store.root / "blobs" / digest)
    assert ollama.find("m").path == store.root / "blobs" / digest


def test_several_licences_are_one_text(store):
    layers = [store.layer("model", MODEL), store.layer("license", "MIT"), store.layer("license", "Use it well.")]
    store.write("m/latest", store.manifest(layers))
    assert ollama.find("m").licence == "MIT\n\nUse it well."


def test_the_template_of_the_first_versions_is_called_prompt(store):
    store.add("m/latest", prompt="{{ .Prompt }}")
    assert ollama.find("m").template == "{{ .Prompt }}"


def test_what_is_asked_for_goes_before_the_environment_before_home_before_the_service(store, tmp_path, monkeypatch):
    roots = {name: OllamaStore(tmp_path / name) for name in ("asked", "environment", "service/models")}
    for name, other in roots.items():
        other.add("m/latest", model=name.encode())
    assert ollama.find("m").path.read_bytes() == b"service/models"
    store.add("m/latest", model=b"home")
    assert ollama.find("m").path.read_bytes() == b"home"
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "environment"))
    assert ollama.find("m").path.read_bytes() == b"environment"
    assert ollama.find("m", tmp_path / "asked").path.read_bytes() == b"asked"
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "nowhere"))
    with pytest.raises(ModelNotFound, match=r"nowhere \(\$OLLAMA_MODELS\) is no store"):
        ollama.find("m")
    monkeypatch.setenv("OLLAMA_MODELS", "")
    assert ollama.find("m").path.read_bytes() == b"home"


def test_a_name_that_is_not_there_is_refused_with_those_that_are(store, tmp_path, monkeypatch):
    store.add("phi3/mini")
    with pytest.raises(ModelNotFound, match=r"no model 'phi3'; it has phi3:mini; `ollama pull phi3`"):
        ollama.find("phi3")
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(ModelNotFound, match="set OLLAMA_MODELS"):
        ollama.find("phi3")
    assert ollama_store.stores() == []


def test_a_whole_folder_may_be_a_link_to_another_disk(store, tmp_path):
    store.add("m/latest")
    (store.root / "blobs").rename(tmp_path / "big")
    (store.root / "blobs").symlink_to(tmp_path / "big")
    assert ollama.find("m").path.read_bytes() == MODEL
    store.root.rename(tmp_path / "models")
    store.root.symlink_to(tmp_path / "models")
    assert ollama.find("m").path.read_bytes() == MODEL


def test_nothing_in_the_store_is_written(store):
    store.add("phi3/latest", template=LIBRARY_TEMPLATE, params={"stop": STOPS})

    def picture():
        return {str(p): (s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
                for p in [store.root, *store.root.rglob("*")] if (s := p.lstat())}  # fmt: skip

    for path in sorted(store.root.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = picture()
    try:
        found = ollama.find("PHI3")
        assert found.path.read_bytes() == MODEL
        assert [str(name) for name in ollama_store.Store(store.root).names()] == ["phi3"]
        with pytest.raises(ModelNotFound):
            ollama.find("other")
        assert picture() == before
    finally:
        for path in store.root.rglob("*"):
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


# What is refused, because the answer would not be the one that Ollama gives


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"remote_host": "https://ollama.com:443", "remote_model": "gpt-oss:120b"}, "runs on 'https://ollama.com:443'"),
        ({"remote_model": "x"}, "not on this machine"),
        ({"model_format": "safetensors"}, "format 'safetensors'"),
        ({"model_format": ["gguf"]}, "format"),
        ({"model_format": "gguf", "renderer": "qwen3-coder"}, "renderer inside Ollama, 'qwen3-coder'"),
        ({"model_format": "gguf", "parser": "harmony"}, "parser inside Ollama, 'harmony'"),
    ],
)
def test_a_model_that_is_made_elsewhere_is_refused(store, config, words):
    store.add("m/latest", config=config)
    with pytest.raises(UnsupportedModel, match=words):
        ollama.find("m")


@pytest.mark.parametrize(
    ("kind", "words"),
    [("projector", "image encoder"), ("adapter", "adapter"), ("tensor", "single tensors"), ("vision", "'vision'")],
)
def test_a_layer_that_would_be_lost_is_refused(store, kind, words):
    store.add("m/latest", **{kind: "x"})
    with pytest.raises(UnsupportedModel, match=f"Ollama's model m has .*{words}.*run it with Ollama"):
        ollama.find("m")


@pytest.mark.parametrize("kind", ["embed", "draft", "json"])
def test_a_layer_that_changes_no_answer_is_passed_over(store, kind):
    store.add("m/latest", **{kind: "x"})
    assert ollama.find("m").path.read_bytes() == MODEL


@pytest.mark.parametrize("count", [0, 2])
def test_there_is_exactly_one_model_file(store, count):
    store.write("m/latest", store.manifest([store.layer("model", bytes([i])) for i in range(count)] or
                                           [store.layer("license", "MIT")]))  # fmt: skip
    with pytest.raises(UnsupportedModel, match=r"exactly one"):
        ollama.find("m")


@pytest.mark.parametrize("kind", ["template", "system", "params", "messages"])
def test_two_texts_of_one_kind_are_a_riddle(store, kind):
    layers = [store.layer("model", MODEL), store.layer(kind, "{}"), store.layer(kind, '{"a": 1}')]
    store.write("m/latest", store.manifest(layers))
    with pytest.raises(CheckpointError, match=f"two {kind} layers"):
        ollama.find("m")


@pytest.mark.parametrize(
    "messages",
    [{"role": "user"}, [1], [{"role": "robot", "content": "x"}], [{"role": "user", "content": 5}],
     [{"role": "user", "content": "x", "images": ["aGk="]}], [{"role": ["user"], "content": "x"}],
     '[], "more": 1', "null"],
)  # fmt: skip
def test_messages_that_are_more_than_text_are_refused(store, messages):
    store.add("m/latest", messages=messages)
    with pytest.raises(UnsupportedModel, match="messages layer"):
        ollama.find("m")


def test_a_parameter_that_slmkit_has_not_is_refused(store):
    store.add("m/latest", params={"mirostat": 2})
    with pytest.raises(UnsupportedModel, match=r"Ollama's model m has the parameter mirostat = 2"):
        ollama.find("m")


# Hostile and damaged stores


def broken(store, name="m/latest", **changes):
    """A manifest with other values in its model layer."""
    manifest = store.manifest([store.layer("model", MODEL) | changes])
    return store.write(name, manifest)


@pytest.mark.parametrize(
    "digest",
    ["sha256:../../../etc/passwd", "../../etc/passwd", "sha256:" + "a" * 63, "sha256:" + "a" * 65, "sha256:" + "g" * 64,
     "sha256:" + "a" * 64 + "\n", "sha256/" + "a" * 64, "md5:" + "a" * 64, "", None, 5, ["sha256:" + "a" * 64],
     "sha256:" + "٣" * 64, "sha256-" + "/" * 64],
)  # fmt: skip
def test_a_digest_that_is_none_builds_no_path(store, digest):
    broken(store, digest=digest)
    with pytest.raises(CheckpointError, match="64 hexadecimal digits"):
        ollama.find("m")


@pytest.mark.parametrize("size", [-1, 13, 15, 2**70, 14.0, "14", True, None])
def test_a_size_that_is_not_the_files_is_refused(store, size):
    broken(store, size=size)
    with pytest.raises(CheckpointError, match=r"its manifest says|describes a layer"):
        ollama.find("m")


@pytest.mark.parametrize(
    "manifest",
    ["", "null", "[]", "[[[", "{}", '{"layers": {}}', '{"layers": []}', '{"layers": [5]}', '{"layers": [[]]}',
     '{"layers": [{"mediaType": 5}]}', '{"layers": null}', "[" * 100_000, '{"a":' * 100_000,
     '{"layers": [], "layers": []}',
     '{"layers": NaN}', '{"layers": [{}' + ",{}" * 2000 + "]}", " " * (2 << 20),
     '{"mediaType": "application/vnd.ollama.manifest.list.v2+json", "manifests": 5}',
     '{"mediaType": "application/vnd.ollama.manifest.list.v2+json", "manifests": [5]}',
     '{"mediaType": "application/vnd.ollama.manifest.list.v2+json", "manifests": [{"digest": "../x"}]}'],
)  # fmt: skip
def test_a_manifest_that_is_none_is_one_sentence(store, manifest):
    store.write("m/latest", manifest)
    with pytest.raises(CheckpointError) as refused:
        ollama.find("m")
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)


def test_a_list_that_refers_to_a_list_ends(store):
    listed = {"mediaType": "application/vnd.ollama.manifest.list.v2+json"}
    inner = store.blob(json.dumps(listed | {"manifests": []}).encode())
    store.write("m/latest", listed | {"manifests": [inner]})
    with pytest.raises(CheckpointError, match="layers"):
        ollama.find("m")


@pytest.mark.parametrize("kind", ["template", "system", "params", "messages", "license"])
def test_a_text_without_end_or_with_other_content_is_refused(store, kind):
    path = store.add("m/latest", **{kind: "{}"})
    layer = json.loads(path.read_text())["layers"][1]
    store.blob_path(layer).write_text("[]")
    with pytest.raises(CheckpointError, match="SHA-256 is not its name"):
        ollama.find("m")
    with store.blob_path(layer).open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte of zeros
    with pytest.raises(CheckpointError, match="1048576 bytes"):
        ollama.find("m")


def test_a_text_is_unicode_and_of_its_size(store):
    layers = [store.layer("model", MODEL), store.layer("system", b"caf\xe9")]
    store.write("m/latest", store.manifest(layers))
    with pytest.raises(CheckpointError, match=r"system layer .*not UTF-8"):
        ollama.find("m")
    store.write("m/latest", store.manifest([layers[0], store.layer("system", "x") | {"size": 2}]))
    with pytest.raises(CheckpointError, match="has 1 bytes, its manifest says 2"):
        ollama.find("m")


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
@pytest.mark.parametrize("what", ["model", "system", "manifest"])
def test_only_regular_files_are_opened(store, kind, what):
    path = store.add("m/latest", system="x")
    layers = json.loads(path.read_text())["layers"]
    place = {"model": store.blob_path(layers[0]), "system": store.blob_path(layers[1]), "manifest": path}[what]
    place.unlink()
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=r"not a regular file|leads out of the store"):
        ollama.find("m")


@pytest.mark.parametrize("what", ["model", "system", "manifest", "host"])
def test_a_link_that_leaves_the_store_is_refused(store, tmp_path, what):
    path = store.add("m/latest", system="x")
    layers = json.loads(path.read_text())["layers"]
    place = {"model": store.blob_path(layers[0]), "system": store.blob_path(layers[1]), "manifest": path,
             "host": path.parents[2]}[what]  # fmt: skip
    place.rename(tmp_path / "outside")
    place.symlink_to(tmp_path / "outside")
    with pytest.raises(CheckpointError, match="leads out of the store"):
        ollama.find("m")


def test_links_in_a_circle_end(store):
    path = store.add("m/latest")
    blob = store.blob_path(json.loads(path.read_text())["layers"][0])
    blob.unlink()
    blob.symlink_to(blob.name)
    with pytest.raises(CheckpointError):
        ollama.find("m")


def test_a_model_that_is_missing_or_was_fetched_in_part_says_so(store):
    path = store.add("m/latest")
    blob = store.blob_path(json.loads(path.read_text())["layers"][0])
    blob.rename(f"{blob}-partial")
    with pytest.raises(CheckpointError, match=r"fetched only in part; pull the model again"):
        ollama.find("m")
    os.rename(f"{blob}-partial", f"{blob}-elsewhere")
    with pytest.raises(CheckpointError, match=r"missing from the store; pull the model again"):
        ollama.find("m")


@pytest.mark.parametrize("config", ["[]", "null", "{", "[" * 100_000, '{"a": 1, "a": 2}'])
def test_a_configuration_that_is_none_is_one_sentence(store, config):
    manifest = store.manifest([store.layer("model", MODEL)])
    manifest["config"] |= store.blob(config.encode())
    store.write("m/latest", manifest)
    with pytest.raises(CheckpointError, match="configuration of Ollama's model m"):
        ollama.find("m")


def test_ollamas_own_configuration_of_phi3_is_accepted(store):
    store.add("phi3/latest", config=PHI3_CONFIG)
    assert ollama.find("phi3").family == "phi3"
