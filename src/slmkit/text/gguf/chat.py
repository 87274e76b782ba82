"""The chat template of a GGUF file, and the ids that end its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmkit.errors import TemplateError
from slmkit.models.gguf_config import SOURCE
from slmkit.text.gguf.vocabulary import Vocabulary
from slmkit.text.known import fallback_template
from slmkit.text.sandbox import LARGEST_SOURCE
from slmkit.text.template import ChatTemplate

# Ends of an answer that llama.cpp knows by their text, named in the file or not.
ENDS = ("<|end|>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>")


def read_template(metadata: Mapping[str, Any]) -> ChatTemplate:
    """The chat template that the metadata carry, or of the family's own for one with Phi-3's tokens.

    Raises TemplateError if there is none, TokenizerError or UnsupportedModel for a broken or unknown vocabulary.
    """
    vocabulary = Vocabulary(metadata)
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    tokens = {variable: text for variable, name in names.items() if (text := vocabulary.text(name))}
    source = metadata.get("tokenizer.chat_template", "")
    if not isinstance(source, str) or len(source) > LARGEST_SOURCE:
        raise TemplateError(
            f"{SOURCE} has a tokenizer.chat_template that is no text of at most {LARGEST_SOURCE} characters; take "
            "another file, or use `slm complete`, which needs none"
        )
    if source.strip():
        return ChatTemplate(source, tokens)
    if not vocabulary.has_phi3_tokens:
        raise TemplateError(
            f"{SOURCE} has no chat template, and its vocabulary is not Phi-3's; use `slm complete`, which needs none"
        )
    return ChatTemplate(fallback_template("phi3"), tokens)


def read_stop_ids(metadata: Mapping[str, Any], vocab_size: int) -> frozenset[int]:
    """Every id that ends an answer: those the metadata name, and tokens known by their text.

    A GGUF file has no generation_config.json. The published ones of Phi-3 also end at <|assistant|>, so a vocabulary
    with Phi-3's tokens does: a file answers as the folder that it was made from.
    vocab_size: rows of the embedding; ids beyond them cannot come up.
    Raises TokenizerError or UnsupportedModel for a broken or unknown vocabulary.
    """
    vocabulary = Vocabulary(metadata)
    ids = {vocabulary.id(name) for name in ("eos", "eot", "eom")}
    ids |= {vocabulary.special[text] for text in ENDS if text in vocabulary.special}
    if vocabulary.has_phi3_tokens:
        ids.add(vocabulary.special["<|assistant|>"])
    return frozenset(i for i in ids if i is not None and i < vocab_size)
