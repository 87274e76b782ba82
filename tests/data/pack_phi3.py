"""Packs the four Phi-3 tokenizers into tests/data/phi3: one whole, the others as what differs from it.

    python tests/data/pack_phi3.py FOLDER      # FOLDER holds phi-3/, phi-3-mini/, phi-3-medium/, phi-3-vision/

The files come from microsoft/onnxruntime-extensions (SOURCES.md). Each variant's hash is that of its JSON with
sorted keys, so it holds for the original and for what the tests put together again.
"""

import hashlib
import json
import lzma
import sys
from pathlib import Path

BASE = "phi-3-mini"
HERE = Path(__file__).parent / "phi3"


def digest(spec: dict) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def put_together(base: dict, variant: dict) -> dict:
    return {**base, **variant["top"], "model": {**base["model"], **variant["model"]}}


def difference(base: dict, spec: dict) -> dict:
    assert set(base) == set(spec)
    assert set(base["model"]) <= set(spec["model"])
    top = {key: value for key, value in spec.items() if key != "model" and base[key] != value}
    model = {key: value for key, value in spec["model"].items() if base["model"].get(key, ...) != value}
    return {"top": top, "model": model, "sha256": digest(spec)}


def main(folder: Path) -> None:
    files = sorted(folder.glob("phi-3*/tokenizer.json"))
    specs = {file.parent.name: json.loads(file.read_text("utf-8")) for file in files}
    variants = {name: difference(specs[BASE], spec) for name, spec in specs.items()}
    for name, variant in variants.items():
        assert digest(put_together(specs[BASE], variant)) == digest(specs[name])
    packed = json.dumps(specs[BASE], ensure_ascii=False, separators=(",", ":")).encode()
    (HERE / "tokenizer.json.xz").write_bytes(lzma.compress(packed, preset=9 | lzma.PRESET_EXTREME))
    (HERE / "variants.json").write_text(json.dumps(variants, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
