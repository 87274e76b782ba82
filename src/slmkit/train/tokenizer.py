"""The tokenizer of a trained model: byte-pair encoding in the manner of Llama 2, with Phi-3's special tokens.

Blanks become "▁", one is put before every text, and what the vocabulary lacks is spelled in bytes. The file carries
no pre-tokenizer; pieces still never cross a word, because they were learned from single words.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

if TYPE_CHECKING:
    from collections.abc import Iterable

BASE = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{value:02X}>" for value in range(256)]
SPECIAL = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
# As in the July 2024 tokenizer of Phi-3-mini: white space right after these is swallowed.
SWALLOWS_BLANKS = {"</s>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"}

# Letters, marks and single digits apart, each with the blank before it: so "dog." and "dog" share a piece.
WORDS = r"▁?\p{L}+|▁?[^\p{L}\p{N}▁]+|▁?\p{N}|▁+"


# Phi-3.5-mini's: as that of Phi-3-mini since July 2024, but an empty system message is left out.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' and message['content'] %}"
    "{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer with `vocab_size` ids, special tokens included, learned from `texts`."""
    learner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    learner.normalizer = _normalizer()
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL),
        special_tokens=BASE + BYTES,
        limit_alphabet=110,
        show_progress=False,
        min_frequency=8,
    )
    # Line breaks stay out of the alphabet, so that they are spelled <0x0A>, as Llama 2 does.
    learner.train_from_iterator((line for text in texts for line in text.split("\n") if line), trainer)
    learned = json.loads(learner.to_str())["model"]
    return Tokenizer.from_str(json.dumps(tokenizer_json(learned["vocab"], learned["merges"])))


def tokenizer_json(vocab: dict[str, int], merges: list[Any]) -> dict[str, Any]:
    """The content of tokenizer.json for a learned vocabulary, with the special tokens after it."""
    ids = {**{token: vocab[token] for token in BASE}, **{t: len(vocab) + i for i, t in enumerate(SPECIAL)}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": token in SWALLOWS_BLANKS,
                "normalized": False,
                "special": True,
            }
            for token, i in ids.items()
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
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
