"""The chat template of a GGUF file, and the ids that end its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmkit.errors import TemplateError
from slmkit.models.gguf_config import SOURCE
from slmkit.text.gguf.vocabulary import PHI3_TOKENS, Vocabulary
from slmkit.text.known import fallback_template
from slmkit.text.template import ChatTemplate

LONGEST_TEMPLATE = 2**18

# Ends of an answer, by their text: what llama.cpp ends at, and <|assistant|>, at which Phi-3's generation_config does.
ENDS = ("<|end|>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>")


def read_template(metadata: Mapping[str, Any]) -> ChatTemplate:
    """The chat template that the metadata carry, or of the family's own for one with Phi-3's tokens.

    Raises TemplateError if there is none.
    """
    vocabulary = Vocabulary(metadata)
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    tokens = {theirs: text for ours, theirs in names.items() if (text := vocabulary.text(ours))}
    source = metadata.get("tokenizer.chat_template", "")
    if not isinstance(source, str) or len(source) > LONGEST_TEMPLATE:
        raise TemplateError(
            f"{SOURCE} has a tokenizer.chat_template that is no text of at most {LONGEST_TEMPLATE} characters; take "
            "another file, or use `slm complete`, which needs none"
        )
    if source.strip():
        return ChatTemplate(source, tokens)
    if vocabulary.special_of(PHI3_TOKENS).keys() != set(PHI3_TOKENS):
        raise TemplateError(
            f"{SOURCE} has no chat template, and its vocabulary is not Phi-3's; use `slm complete`, which needs none"
        )
    return ChatTemplate(fallback_template("phi3"), tokens)


def read_stop_ids(metadata: Mapping[str, Any], vocab_size: int) -> frozenset[int]:
    """Every id that ends an answer: those the metadata name, and tokens known by their text.

    A GGUF file has no generation_config.json. The published ones of Phi-3 also end at <|assistant|>, so a vocabulary
    with Phi-3's tokens does: a file answers as the folder that it was made from.
    """
    vocabulary = Vocabulary(metadata)
    named = {vocabulary.id(name) for name in ("eos", "eot", "eom")}
    phi3 = vocabulary.special_of(PHI3_TOKENS)
    written = [*vocabulary.special_of(ENDS).values(), *(phi3.values() if len(phi3) == len(PHI3_TOKENS) else ())]
    ids = (named | set(written)) - {None, phi3.get("<|user|>")}
    return frozenset(i for i in ids if i is not None and i < vocab_size)
