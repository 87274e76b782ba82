"""Writes tests/data/phi3_small/ids.json: what tiktoken itself makes of texts, with Phi-3-small's vocabulary.

    pip install tiktoken==0.12.0 && python tests/data/make_tiktoken_ids.py

The texts: those of llama.cpp's vocabulary tests, and random ones of letters, digits, signs and blanks of many kinds, of
blanks and line breaks alone, and of the vocabulary's own tokens.
"""

import json
import lzma
import random
from base64 import b64decode
from pathlib import Path

import tiktoken

# As tiktoken_ext.openai_public has it.
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
HERE = Path(__file__).parent
LETTERS = [*"aabcdeEÀéßſK's'tTlLvVeErR0123456789  \t\n\r\x0b\x0c\u00a0\u2028\u3000.,;!?-_(){}[]<>|=+*/\\\"#@~"]
LETTERS += [*"日本語ñ한글😀🇩🇪é ا٣²½"]


def main() -> None:
    lines = lzma.decompress((HERE / "phi3_small/cl100k_base.tiktoken.xz").read_bytes()).splitlines()
    ranks = {b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    encoding = tiktoken.Encoding("phi3small", pat_str=CL100K, mergeable_ranks=ranks, special_tokens={})
    rng = random.Random(5)
    stored = (HERE / "llama.cpp/ggml-vocab-phi-3.gguf.inp").read_text("utf-8")
    texts = stored.split("\n__ggml_vocab_test__\n")
    texts += ["".join(rng.choices(LETTERS, k=rng.randint(0, 40))) for _ in range(300)]
    texts += ["".join(rng.choices(" \n\r\ta'=", k=rng.randint(0, 30))) for _ in range(150)]
    vocabulary = list(ranks)
    texts += [b"".join(rng.choices(vocabulary, k=rng.randint(1, 8))).decode("utf-8", "replace") for _ in range(200)]
    rows = [[text, encoding.encode_ordinary(text)] for text in texts]
    (HERE / "phi3_small/ids.json").write_text(json.dumps(rows, separators=(",", ":")), "utf-8")


if __name__ == "__main__":
    main()
