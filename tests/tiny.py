"""A whole tiny model folder: stored random weights, and a tokenizer of one letter a token made for them."""

from __future__ import annotations

import json
import shutil
import string
from functools import cache
from typing import TYPE_CHECKING, Any

from checkpoints import CASES, REFERENCE
from slmkit.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

END, TURN_END = 120, 121  # both are stop ids of the stored checkpoints
CONTROLS = {END: "<|endoftext|>", TURN_END: "<|end|>", 122: "<|user|>", 123: "<|assistant|>", 124: "<|system|>"}
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def spec() -> dict[str, Any]:
    """tokenizer.json: letters, digits, signs and the two bytes of `é`, each one token."""
    pieces = ["<unk>", "<s>", "</s>", "▁", *string.ascii_letters, *string.digits, "\n"]
    pieces += ["<0xC3>", "<0xA9>"]
    pieces += [c for c in string.punctuation if c not in pieces]
    pieces += ["th", "he"]
    pieces += [f"<unused{i}>" for i in range(len(pieces), END)]
    special = {0: "<unk>", 1: "<s>", 2: "</s>", **CONTROLS}
    decoder = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": i in CONTROLS,
             "normalized": False, "special": True}
            for i, text in special.items()
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoder},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
            "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": [],
        },
    }  # fmt: skip


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer(spec(), {"bos_token": "<s>", "eos_token": "<|endoftext|>"})


def write_model(folder: Path, case: str = "gqa", **config: Any) -> Path:
    """A folder that `slmkit.load` takes, with changes to config.json; None removes a key."""
    shutil.copytree(REFERENCE / CASES[case]["folder"], folder)
    edit_json(folder / "config.json", **config)
    (folder / "tokenizer.json").write_text(json.dumps(spec()))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "<|endoftext|>", "chat_template": TEMPLATE})
    )
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON object; None removes one."""
    merged = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in merged.items() if value is not None}))
