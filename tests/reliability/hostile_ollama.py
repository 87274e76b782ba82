"""Ollama stores whose manifests lead out of them, lie about their blobs, or ask for what is no number."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_parts
from cases import CANARY, add
from spoiling import endless

from ollama_store import LIBRARY_TEMPLATE, OllamaStore

NAME = "evil/latest"
GOOD = {"template": LIBRARY_TEMPLATE, "params": {"stop": ["<|end|>"], "num_ctx": 64}}


def store(name: str, change: Callable[[OllamaStore, dict[str, Any]], Any], called: str = "evil", **how: Any) -> None:
    """Add a store. `change` spoils it, or its manifest, or gives the manifest's text."""

    def build(folder: Path) -> str:
        made = OllamaStore(folder / "models")
        layers = [made.layer("model", gguf_parts.good().file())]
        layers += [made.layer(kind, raw if isinstance(raw, str) else json.dumps(raw)) for kind, raw in GOOD.items()]
        manifest = made.manifest(layers)
        path = made.write(NAME, manifest)
        changed = change(made, manifest)
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 1 << 30:
            return f"ollama-store:{called}"
        path.write_text(changed if isinstance(changed, str) else json.dumps(manifest))
        return f"ollama-store:{called}"

    how.setdefault("verb", "run")
    add(f"ollama-{name}", build, kind="ollama", environment={"OLLAMA_MODELS": "{folder}/models"}, **how)


def manifest_path(made: OllamaStore) -> Path:
    return made.root / "manifests" / "registry.ollama.ai" / "library" / NAME


def layer(name: str, number: int, **fields: Any) -> None:
    """Add a store whose manifest says other things of one layer: 0 the model, 1 the template, 2 the parameters."""
    store(f"layer-{number}-{name}", lambda made, manifest: manifest["layers"][number].update(fields) and None)


def content(kind: str, name: str, text: Any, **how: Any) -> None:
    """Add a store in which the layer of that kind holds this text."""

    def change(made: OllamaStore, manifest: dict[str, Any]) -> None:
        kept = [each for each in manifest["layers"] if not each["mediaType"].endswith(kind)]
        raw = text if isinstance(text, (str, bytes)) else json.dumps(text)
        manifest["layers"] = [*kept, made.layer(kind, raw)]

    store(f"{kind}-{name}", change, **how)


store("good", lambda made, manifest: None, harmless=True)
UP = "../../../../../../../../etc/passwd"
for number in (0, 1, 2):
    for name, digest in {
        "upwards": f"sha256:{UP}", "upwards-alone": UP, "upwards-by-dash": f"sha256-{UP}", "absolute": "/etc/passwd",
        "short": "sha256:abc", "long": "sha256:" + "a" * 65, "empty": "", "number": 7, "null": None,
        "list": ["sha256:"],
        "other-hash": "md5:" + "a" * 32, "zero-byte": "sha256:" + "a" * 63 + "\0",
        "newline": "sha256:" + "a" * 64 + "\n",
        "not-there": "sha256:" + "a" * 64, "megabyte": "sha256:" + "a" * 10**6,
        "full-width": "sha256:" + "\uff11" * 64, "slash-in-the-middle": "sha256:" + "a" * 30 + "/../" + "a" * 30,
    }.items():  # fmt: skip
        layer(f"digest-{name}", number, digest=digest)
    for name, size in {
        "zero": 0,
        "negative": -1,
        "huge": 2**63,
        "text": "5",
        "null": None,
        "off-by-one": 54_000,
    }.items():
        layer(f"size-{name}", number, size=size)
layer("kind-number", 0, mediaType=7)
layer("kind-unknown", 0, mediaType="application/vnd.ollama.image.tensor")
layer("kind-adapter-beside", 1, mediaType="application/vnd.ollama.image.adapter")
layer("kind-projector-beside", 1, mediaType="application/vnd.ollama.image.projector")
for name, text in {
    "empty": "", "no-json": "{", "list": "[]", "null": "null", "number": "7", "nan": '{"layers": NaN}',
    "deep": '{"layers":' + "[" * 100_000 + "]" * 100_000 + "}", "without-layers": "{}",
    "layers-null": '{"layers": null}',
    "layers-text": '{"layers": "x"}', "layers-of-numbers": '{"layers": [1]}', "layers-empty": '{"layers": []}',
    "key-twice": '{"layers": [], "layers": []}', "html": "<html>404</html>", "zeros": "\0" * 1000,
    "of-5-MB": '{"layers": "' + "x" * 5_000_000 + '"}', "schema-1": '{"schemaVersion": 1, "layers": []}',
}.items():  # fmt: skip
    store(f"manifest-{name}", lambda made, manifest, text=text: text)
store(
    "manifest-without-config", lambda made, manifest: manifest.pop("config") and None, harmless=True
)  # describes only
store("manifest-of-a-cloud-model", lambda made, manifest: manifest.update(
    config=made.manifest([], {"remote_host": "https://ollama.com", "remote_model": "x"})["config"]))  # fmt: skip
for name, text in {"list": [1], "text": "x", "unknown": {"evil": 1}, "negative": {"num_ctx": -1},
    "ctx-text": {"num_ctx": "64"},
                   "temperature-text": {"temperature": "hot"}, "temperature-negative": {"temperature": -1},
                   "stop-number": {"stop": 7}, "stop-empty": {"stop": [""]}, "top-k-fraction": {"top_k": 1.5},
                   "mirostat": {"mirostat": 1}}.items():  # fmt: skip
    content("params", name, text)
content("params", "broken", "{")
content("params", "infinite", '{"temperature": 1e999}')
content("params", "deep", "[" * 100_000)
content("params", "of-no-text", b"\xff\xfe")
for name, text in {"looping": '{{ range $i, $e := . }}{{ template "x" . }}{{ end }}',
                   "calling": '{{ call .Evil }}', "broken": "{{ if", "no-utf8": b"\xff\xfe",
                   "jinja": "{{ messages[0] }}",
                   "defining-itself": '{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}',
                   "of-a-megabyte": "{{ .Prompt }}" * 80_000,
                   "printing": '{{ printf "%1000000000d" 1 }}'}.items():  # fmt: skip
    content("template", name, text)
content("system", "no-utf8", b"\xff\xfe")
content("messages", "text", "x")
content("messages", "unknown-role", [{"role": "evil", "content": "x"}])
content("messages", "content-number", [{"role": "user", "content": 7}])
content("messages", "deep", "[" * 100_000)
content("model", "no-gguf", "x" * 1000)
content("model", "empty", "")
content("model", "pickle", f"cos\nsystem\n(S'touch ${CANARY}'\ntR.")


def special(name: str, put: Callable[[Path], object], what: str) -> None:
    """Add a store in which something else lies in the place of the manifest or of a blob."""

    def change(made: OllamaStore, manifest: dict[str, Any]) -> None:
        number = {"model": 0, "template": 1, "params": 2}.get(what)
        path = manifest_path(made) if number is None else made.blob_path(manifest["layers"][number])
        path.unlink()
        put(path)

    store(f"{name}-for-{what}", change)


for what in ("manifest", "model", "template", "params"):
    special("fifo", os.mkfifo, what)
    special("folder", lambda path: path.mkdir(), what)
    special("zeros-device", lambda path: path.symlink_to("/dev/zero"), what)
    special("link-to-itself", lambda path: path.symlink_to(path.name), what)
    special("link-out-to-passwd", lambda path: path.symlink_to("/etc/passwd"), what)
    special("endless", endless, what)
for name, called in {
    "upwards": "../../etc/passwd", "upwards-in-a-tag": "evil:../../../x", "absolute": "/etc/passwd", "empty": "",
    "zero-byte": "evil\0", "newline": "evil\n", "colon": ":", "slashes": "////", "megabyte": "e" * 10**6,
    "not-there": "nobody", "dots": "..", "five-parts": "a/b/c/d/e", "percent": "%2e%2e/evil", "space": "evil ",
    "escapes": "\x1b[2J", "windows": "..\\..\\evil",
}.items():  # fmt: skip
    if "\0" not in called and len(called) < 10**5:
        store(f"name-{name}", lambda made, manifest: None, called=called)
