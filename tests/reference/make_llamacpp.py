"""Stores what llama.cpp makes of the files that `slm export gguf` writes: tests/reference/llamacpp.json.

    pip install xllamacpp==2026.10.11549 and slmkit's own dependencies, then
    PYTHONPATH=src:tests python tests/reference/make_llamacpp.py

Conditions: float32 weights, float32 key and value cache, no flash attention, a context of 512, end of text ignored,
one thread. So the numbers are the same up to the order of sums, and greedy answers are equal.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import xllamacpp

from gguf_models import RANDOM, STORED, export
from gguf_vocabularies import BYTE_LEVEL, write_byte_level

PROMPTS = (
    "The dog ran over the hill and did not move at all.",
    "<|user|>\nTell me a story about a dog.<|end|>\n<|assistant|>\n",
    "Numbers such as 0, 1, 2 are cut into digits, and the children walked home again in the evening.",
)
TEXTS = (
    *PROMPTS,
    "",
    " ",
    "   two  spaces   \n\n\tand a tab\t\n",
    "Größe, Straße und Übung; 日本語の文。 😀 é̀",
    "don't I'LL we've 12345 1a2b !?... ///\r\n x",
    "HelloWorld camelCase ABCdef ÀÉîõ ſtraße ǅungla",
    "<|end|>\n\n x<|user|> y</s>\nz<s> <unk> <|endoftext|> \nend",
)
N_NEW = 40


def server(path: Path) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, 0
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(params)


def ask(runs: xllamacpp.Server, verb: str, **job: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{runs.listening_address}/{verb}", json.dumps(job).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def tokens(runs: xllamacpp.Server, text: str) -> list[int]:
    return ask(runs, "tokenize", content=text, add_special=True, parse_special=True)["tokens"]


def greedy(runs: xllamacpp.Server, ids: list[int]) -> list[int]:
    job = {"n_predict": N_NEW, "temperature": 0, "ignore_eos": True, "return_tokens": True, "cache_prompt": False}
    return ask(runs, "completion", prompt=ids, **job)["tokens"]


def main() -> None:
    stored: dict[str, Any] = {"made_by": "llama.cpp through xllamacpp 2026.10.11549", "models": {}, "vocabularies": {}}
    with tempfile.TemporaryDirectory() as place:
        for name in ("tiny", *RANDOM):
            path = export(name, Path(place))
            runs = server(path)
            answers = [{"ids": ids, "greedy": greedy(runs, ids)} for ids in (tokens(runs, text) for text in PROMPTS)]
            stored["models"][name] = {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "texts": [{"text": text, "ids": tokens(runs, text)} for text in TEXTS],
                "answers": answers,
            }
            del runs
        for type in ("bf16", "f16", "q8_0", "q4_0"):  # loaded, and said something
            runs = server(export("tiny", Path(place), type))
            assert len(greedy(runs, tokens(runs, PROMPTS[1]))) == N_NEW
            del runs
        for name in BYTE_LEVEL:
            runs = server(write_byte_level(Path(place) / f"{name}.gguf", name))
            stored["vocabularies"][name] = [{"text": text, "ids": tokens(runs, text)} for text in TEXTS]
            del runs
    STORED.write_text(json.dumps(stored, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
