"""The files of a checkpoint that say how its text becomes tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slmkit.errors import TokenizerError
from slmkit.untrusted import Kind, brief, is_there, read_bytes, read_json

LARGEST_FILE = 64 * 2**20  # the largest published tokenizer.json has about 35 MB (Gemma 3)
LARGEST_SETTINGS = 8 * 2**20  # tokenizer_config.json and the like; about 1 MB there
LARGEST_SENTENCEPIECE = 16 * 2**20  # about 5 MB there


def read_folder(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of a checkpoint's tokenizer.json, or its tokenizer.model or tiktoken file as one; and of
    tokenizer_config.json."""
    folder = Path(path)
    config = optional_json(folder / "tokenizer_config.json")
    if is_there(folder / "tokenizer.json", TokenizerError):
        return read_json(folder / "tokenizer.json", LARGEST_FILE, TokenizerError), config
    if is_there(folder / "tokenizer.model", TokenizerError):
        from slmkit.text import sentencepiece

        model = sentencepiece.parse(read_bytes(folder / "tokenizer.model", LARGEST_SENTENCEPIECE, TokenizerError))
        with shape_errors("added_tokens.json or tokenizer_config.json"):
            added = _added_of_sentencepiece(optional_json(folder / "added_tokens.json"), config)
        # LlamaTokenizer's own default is to write BOS.
        return sentencepiece.convert(model, added, add_bos=config.get("add_bos_token") is not False), config
    if is_there(folder / "cl100k_base.tiktoken", TokenizerError):
        from slmkit.text import tiktoken

        tokens = tiktoken.parse(read_bytes(folder / tiktoken.FILE, LARGEST_SENTENCEPIECE, TokenizerError))
        with shape_errors("tokenizer_config.json"):
            return tiktoken.convert(tokens, _added_of_sentencepiece({}, config)), config
    raise TokenizerError(
        f"{folder} has neither tokenizer.json nor tokenizer.model nor cl100k_base.tiktoken; copy one of them "
        f"there from the checkpoint the weights came from"
    )


def optional_json(path: Path, error: Kind = TokenizerError) -> dict[str, Any]:
    """The object in a JSON file of the checkpoint; {} when there is no such file."""
    return read_json(path, LARGEST_SETTINGS, error) if is_there(path, error) else {}


def token_text(value: Any) -> str:
    """The text of a token as tokenizer_config.json writes it: a string, an object with `content`, or nothing."""
    text = value.get("content") if isinstance(value, Mapping) else value
    return text if isinstance(text, str) else ""


@contextmanager
def shape_errors(name: str) -> Iterator[None]:
    """Turn what goes wrong when JSON has another shape than expected into one sentence."""
    try:
        yield
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as reason:
        raise TokenizerError(
            f"{name} is damaged ({type(reason).__name__}: {brief(reason)}); download the checkpoint again"
        ) from None


def _added_of_sentencepiece(added: Mapping[str, Any], config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Added tokens with flags from tokenizer_config.json, or bare ones from added_tokens.json of older checkpoints."""
    entries = [{**entry, "id": int(key)} for key, entry in (config.get("added_tokens_decoder") or {}).items()]
    known = {entry.get("content") for entry in entries}
    return entries + [{"content": text, "id": id_, "special": True} for text, id_ in added.items() if text not in known]
