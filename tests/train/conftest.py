"""A data folder of a few made-up rows, a recipe that trains in a second, and its tokenizer."""

from __future__ import annotations

import json
import lzma

import pytest

from slmkit.train import recipe

WORDS = "the a dog cat bird ran sat saw ate big small red on under near tree house river and then"


def _sentence(i: int) -> str:
    words = WORDS.split()
    return " ".join(words[(i * step + step) % len(words)] for step in range(3, 11)).capitalize() + "."


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    texts = [{"text": f"{_sentence(i)} {_sentence(i + 7)}", "source": "made", "lang": "en"} for i in range(300)]
    talks = [
        {
            "messages": [{"role": "user", "content": _sentence(i)}, {"role": "assistant", "content": _sentence(i + 1)}],
            "source": "made", "lang": "en" if i % 3 else "fr", "task": "qa" if i % 2 else "story",
        }
        for i in range(300)
    ]  # fmt: skip
    for name, rows in {"texts": texts, "talks": talks}.items():
        with lzma.open(folder / f"{name}.jsonl.xz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


RAW = {
    "name": "small",
    "seed": 3,
    "hold_out": 0.1,
    "model": {
        "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64,
    },
    "tokenizer": [{"name": "texts", "share": 1.0}],
    "stages": [
        {"name": "read", "steps": 4, "warmup_steps": 2, "sequence_length": 16, "batch_rows": 4,
         "mixture": [{"name": "texts", "share": 0.7}, {"name": "talks", "share": 0.3}]},
        {"name": "tune", "steps": 3, "decay_steps": 3, "sequence_length": 32, "batch_rows": 2,
         "mixture": [{"name": "talks", "share": 1.0}]},
    ],
    "generation": {"do_sample": True, "temperature": 0.5},
}  # fmt: skip


@pytest.fixture
def raw():
    return json.loads(json.dumps(RAW))


@pytest.fixture(scope="session")
def small():
    return recipe.build(json.loads(json.dumps(RAW)))


@pytest.fixture(scope="session")
def tokenizer(small, data_folder, tmp_path_factory):
    from slmkit.train import prepare

    return prepare.tokenizer_of(small, data_folder, tmp_path_factory.mktemp("tokenizer"), lambda _: None)
