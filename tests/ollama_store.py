"""A store as Ollama writes it, for tests: manifests and blobs in a folder of the test's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
PHI3_CONFIG = {
    "model_format": "gguf",
    "model_family": "phi3",
    "model_families": ["phi3"],
    "model_type": "3.8B",
    "file_type": "Q4_0",
    "architecture": "amd64",
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": []},
}
LIBRARY_TEMPLATE = (  # of phi3 and phi3.5 in Ollama's library
    "{{ if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}{{ if .Prompt }}<|user|>\n{{ .Prompt }}<|end|>\n"
    "{{ end }}<|assistant|>\n{{ .Response }}<|end|>"
)
STOPS = ["<|end|>", "<|user|>", "<|assistant|>"]


class OllamaStore:
    """Writes what `ollama pull` would leave behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "manifests").mkdir(parents=True)
        (root / "blobs").mkdir()

    def blob(self, data: bytes, separator: str = "-") -> dict[str, Any]:
        """Its digest and size, as a layer has them."""
        sha256 = hashlib.sha256(data).hexdigest()
        (self.root / "blobs" / f"sha256{separator}{sha256}").write_bytes(data)
        return {"digest": f"sha256:{sha256}", "size": len(data)}

    def blob_path(self, layer: dict[str, Any]) -> Path:
        return self.root / "blobs" / layer["digest"].replace(":", "-")

    def layer(self, kind: str, data: bytes | str) -> dict[str, Any]:
        data = data.encode() if isinstance(data, str) else data
        return {"mediaType": f"application/vnd.ollama.image.{kind}", **self.blob(data)}

    def manifest(self, layers: list[dict[str, Any]], config: Any = None) -> dict[str, Any]:
        about = {"mediaType": "application/vnd.docker.container.image.v1+json"}
        blob = self.blob(json.dumps(PHI3_CONFIG if config is None else config).encode())
        return {"schemaVersion": 2, "mediaType": MANIFEST, "config": about | blob, "layers": layers}

    def write(self, name: str, manifest: Any, folder: str = "manifests") -> Path:
        """name: HOST/NAMESPACE/MODEL/TAG, or MODEL/TAG of the library."""
        full = name if name.count("/") == 3 else f"registry.ollama.ai/library/{name}"
        path = self.root / folder / full
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
        return path

    def add(self, name: str, model: bytes = b"GGUF and so on", config: Any = None, **texts: Any) -> Path:
        """A whole model; texts are its other layers by kind, JSON for params and messages."""
        layers = [self.layer("model", model)]
        layers += [
            self.layer(kind, text if isinstance(text, str) else json.dumps(text)) for kind, text in texts.items()
        ]
        return self.write(name, self.manifest(layers, config))
