"""Trains the small SentencePiece model that the tests read: tests/data/spm/tokenizer.model.

    pip install sentencepiece==0.2.3 && python tests/data/make_spm.py

BPE with byte fallback, identity normalizer, as Llama's and Phi-3's. The text below is our own. Also stores what
sentencepiece itself says about some texts, so that the ordinary tests need no such package.
"""

import io
import json
import random
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent / "spm"

TEXT = """
The tokenizer cuts a text into pieces that the model knows. A piece is a word, a part of a word, or a single byte.
When two pieces stand side by side often enough, they are merged into one, and the next round begins.
A dog ran over the hill. The cat, which had seen the dog before, did not move at all.
In the morning the children walked to the school at the river, and in the evening they walked home again.
Numbers such as 0, 1, 2, 10, 100 and 2026 are cut into digits or into pairs of digits.
    def merge(left, right):
        if left + right in vocabulary:
            return left + right
        return None
Ein kleiner Hund läuft über die Brücke. Größe, Straße und Übung brauchen ihre eigenen Zeichen.
Le garçon a mangé des crêpes à la fenêtre. El niño comió una manzana en la montaña.
Он читает книгу. 日本語の文。中文也有。 한국어 문장.
"""

ALPHABET = [
    *" \n\t▁aaeehhinorst.,0123=-ßüñ日本語中ИЖ😀é<>|",
    "  ",
    "    ",
    "the",
    "ing",
    " and",
    "e\u0301",
    "\u200d",
    "\x00",
    "\U0010ffff",
    "<s>",
    "</s>",
    "<0x41>",
]


def train() -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.strip("\n").split("\n") * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=640,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.99,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def main() -> None:
    data = train()
    reference = sentencepiece.SentencePieceProcessor(model_proto=data)
    rng = random.Random(2)
    texts = TEXT.strip("\n").split("\n") + ["".join(rng.choices(ALPHABET, k=rng.randrange(1, 30))) for _ in range(400)]
    runs = [
        rng.choices([*range(3, 259), *[rng.randrange(259, 640) for _ in range(200)]], k=rng.randrange(1, 20))
        for _ in range(200)
    ]
    stored = {
        "sentencepiece": sentencepiece.__version__,
        "encoded": [[text, reference.encode(text)] for text in texts],
        "decoded": [[ids, reference.decode(ids)] for ids in runs],
    }
    HERE.mkdir(exist_ok=True)
    (HERE / "tokenizer.model").write_bytes(data)
    (HERE / "expected.json").write_text(json.dumps(stored, ensure_ascii=True, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
