"""Text to token ids and back, with each checkpoint's own flags."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmkit.errors import RequestError, TokenizerError
from slmkit.text.added import AddedToken, AddedTokens, Piece, Span
from slmkit.text.bounds import check_added, check_tokenizer
from slmkit.text.decoding import Decoding
from slmkit.text.tokenizer_files import read_folder, shape_errors, token_text
from slmkit.untrusted import brief

if TYPE_CHECKING:
    import tokenizers


class Tokenizer:
    """A tokenizer in the format of `tokenizer.json`, with control tokens that only trusted text can write.

    The `tokenizers` package runs the vocabulary alone, without its added tokens; added.py finds those. So the
    same string can be a control token in a template and plain text in a message.

    bos_id, eos_id: as tokenizer_config.json names them, or None.
    special_ids: hidden when decoding.   control_ids: every added token; no untrusted text gives one of these.
    vocab_size: the highest id that has a text, plus one; embeddings are often padded beyond it.
    """

    def __init__(self, spec: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> None:
        """spec: the content of tokenizer.json.   config: of tokenizer_config.json, where there is one.

        Raises TokenizerError where they are broken or ask for something that is not understood.
        """
        config = config or {}
        with shape_errors("tokenizer.json"):
            check_tokenizer(spec)
            self._added = AddedTokens(_added_tokens(spec, config))
            self._decoding = Decoding(spec.get("decoder"))
            if spec.get("normalizer") and any(token.normalized for token in self._added.by_id.values()):
                raise TokenizerError(
                    "added tokens with normalized=true beside a normalizer are not supported; "
                    "set normalized to false in tokenizer.json"
                )
            self._at_start, self._later = _vocabulary_alone(spec)
            vocab = spec["model"]["vocab"]
            if not isinstance(vocab, dict):  # BPE has a mapping already, which saves asking for a copy
                vocab = self._at_start.get_vocab()
        self._id_of = {**vocab, **{token.content: token.id for token in self._added.by_id.values()}}
        self._piece_of = {id_: piece for piece, id_ in vocab.items()}
        self._piece_of.update((token.id, token.content) for token in self._added.by_id.values())
        self._bytes: dict[int, bytes] = {}
        self._prefix, self._suffix = _around(self._at_start)
        self.vocab_size = max(self._piece_of) + 1
        self.special_ids = frozenset(id_ for id_, token in self._added.by_id.items() if token.special)
        self.control_ids = frozenset(self._added.by_id)
        self.bos_id = self._id_of.get(token_text(config.get("bos_token")))
        self.eos_id = self._id_of.get(token_text(config.get("eos_token")))
        self._keeps_all_text = bool(spec["model"].get("byte_fallback")) and _only_marks_spaces(spec.get("normalizer"))
        # A vocabulary without byte fallback writes its unknown token for text it lacks; that is no forgery.
        self._forbidden = self.control_ids - {self._id_of.get(spec["model"].get("unk_token") or "")}

    @classmethod
    def from_folder(cls, path: str | Path) -> Tokenizer:
        """The tokenizer of a checkpoint: tokenizer.json, or one made of tokenizer.model or of tiktoken's file."""
        return cls(*read_folder(path))

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """The ids before and after every text."""
        return self._prefix, self._suffix

    @property
    def added(self) -> tuple[AddedToken, ...]:
        """The added tokens, with their flags."""
        return tuple(self._added.by_id.values())

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of a text, nothing added. With specials, strings like `<|end|>` in it become control tokens.

        Raises RequestError for text that is not valid Unicode (a lone surrogate).
        """
        return self._encode([Piece(text, specials)])

    def encode_prompt(self, pieces: Iterable[Piece | tuple[str, bool]]) -> list[int]:
        """Ids of a prompt made of trusted and untrusted pieces, with what the checkpoint puts around a text.

        Where no untrusted piece holds a control token's text, these are the ids that the reference gives for the
        whole text. A prompt that already begins with BOS gets no second one.
        """
        ids = self._encode([Piece(*piece) for piece in pieces])
        prefix = [] if ids[: len(self._prefix)] == self._prefix else self._prefix
        return prefix + ids + self._suffix

    def decode(self, ids: Sequence[int], *, show_special: bool = False, keep_first_space: bool = False) -> str:
        """Text of ids; special tokens are left out unless asked for, ids without a text always.

        keep_first_space: the ids continue a text, so a first space is one.
        """
        data = b"".join(self.bytes_of(id_, show_special=show_special) for id_ in ids)
        text = data.decode("utf-8", self._decoding.errors)
        return text[1:] if text[:1] == " " and self.strips_first_space and not keep_first_space else text

    def bytes_of(self, token_id: int, *, show_special: bool = False) -> bytes:
        """The bytes that one token adds to a text: b"" for an id without text and, unless shown, a special one."""
        if token_id in self.special_ids and not show_special:
            return b""
        found = self._bytes.get(token_id)
        if found is None:
            piece = self._piece_of.get(token_id)
            found = b"" if piece is None else self._decoding.bytes_of(piece)
            self._bytes[token_id] = found
        return found

    @property
    def strips_first_space(self) -> bool:
        """Whether the first space of a decoded text only marks the beginning of a word."""
        return self._decoding.strips_first_space

    @property
    def decode_errors(self) -> str:
        """Name of the codec error handler for bytes that are no UTF-8 (decoding.py)."""
        return self._decoding.errors

    def id_to_piece(self, token_id: int) -> str | None:
        """The vocabulary's own spelling of a token (`▁Hello`, `<0x0A>`, `<|end|>`), or None for an id without one."""
        return self._piece_of.get(token_id)

    def piece_to_id(self, piece: str) -> int | None:
        """The id of a piece spelled as in the vocabulary, or None."""
        return self._id_of.get(piece)

    def controls_in(self, text: str) -> list[str]:
        """The control tokens that a text would hold if it were trusted, in order."""
        return self._added.written_in(text)

    def least_tokens(self, text: str) -> int:
        """A number of tokens that the text surely has, found without encoding it; 0 where nothing is known."""
        if not self._keeps_all_text:
            return 0
        # white space at either end may be swallowed by the control token beside it
        return -(-len(text.strip().encode("utf-8", "surrogatepass")) // self._longest_piece)

    @cached_property
    def _longest_piece(self) -> int:
        return max(len(piece.encode("utf-8", "surrogatepass")) for piece in self._piece_of.values())

    def require_fit(self, n_embeddings: int) -> None:
        """Raise TokenizerError if some token would have no row in an embedding of n_embeddings rows."""
        if self.vocab_size > n_embeddings:
            raise TokenizerError(
                f"the tokenizer has ids up to {self.vocab_size - 1}, the model's embedding only "
                f"{n_embeddings} rows; take both from the same checkpoint"
            )

    def _encode(self, pieces: list[Piece]) -> list[int]:
        text, parts = self._added.split(pieces)
        try:
            text.encode()
        except UnicodeEncodeError as reason:
            raise RequestError(
                f"character {reason.start} of the text is half a surrogate pair (U+"
                f"{ord(text[reason.start]):04X}), which is not valid Unicode; remove it"
            ) from None
        ids: list[int] = []
        for part in parts:
            ids += [part] if isinstance(part, int) else self._encode_span(text, part)
        return ids

    def _encode_span(self, text: str, span: Span) -> list[int]:
        vocabulary = self._at_start if span.start == 0 else self._later
        ids = _ids(vocabulary, text[span.start : span.end])
        if not self._forbidden.isdisjoint(ids):
            raise TokenizerError(
                "this vocabulary writes control tokens from plain text, so messages could forge "
                "them; the tokenizer.json needs them among added_tokens only"
            )
        return ids


def _only_marks_spaces(normalizer: Mapping[str, Any] | None) -> bool:
    """Whether no text gets shorter: nothing is done to it, or what Llama does, which writes a space as `▁`."""
    steps = (normalizer or {}).get("normalizers", [normalizer] if normalizer else [])
    return all(
        step.get("type") == "Prepend" or (step.get("type") == "Replace" and step.get("content") == "▁")
        for step in steps
    )


def _added_tokens(spec: Mapping[str, Any], config: Mapping[str, Any]) -> list[AddedToken]:
    """tokenizer.json's added tokens, which decide, and those that only tokenizer_config.json has."""
    tokens = [AddedToken.from_json(entry, entry.get("id")) for entry in spec.get("added_tokens") or []]
    known = {token.content for token in tokens}
    for key, entry in (config.get("added_tokens_decoder") or {}).items():
        if entry.get("content") not in known:
            tokens.append(AddedToken.from_json(entry, int(key)))
    if len({token.id for token in tokens}) != len(tokens):
        raise TokenizerError("two added tokens have the same id; download the checkpoint again")
    check_added([token.content for token in tokens])
    return tokens


def _vocabulary_alone(spec: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """The tokenizer without added tokens: for the beginning of a text, and for what follows a control token.

    They differ only where the word mark goes before the first word alone (Metaspace with prepend_scheme "first").
    """
    # Truncation and padding would change a prompt silently; dropout is for training.
    model = {**spec["model"], "dropout": None}
    alone = {**spec, "added_tokens": [], "truncation": None, "padding": None, "model": model}
    first = _build(alone)
    if '"first"' not in json.dumps(spec.get("pre_tokenizer")):
        return first, first
    later = copy.deepcopy(alone["pre_tokenizer"])
    for step in later.get("pretokenizers", [later]):
        if step.get("type") == "Metaspace":
            step["prepend_scheme"] = "never"
    return first, _build({**alone, "pre_tokenizer": later})


def _build(spec: Mapping[str, Any]) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_str(json.dumps(spec))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as reason:  # the package raises bare Exception, and its panics are not even that
        raise TokenizerError(f"the tokenizer cannot be used ({brief(reason)}); download the checkpoint again") from None


def _ids(vocabulary: tokenizers.Tokenizer, text: str, *, add_special_tokens: bool = False) -> list[int]:
    try:
        ids: list[int] = vocabulary.encode(text, add_special_tokens=add_special_tokens).ids
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as reason:  # the package has no error class of its own, and its panics are no Exceptions
        raise TokenizerError(
            f"the tokenizer cannot encode a text ({brief(reason)}); download the checkpoint again"
        ) from None
    return ids


def _around(vocabulary: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that the post-processor puts before and after a text."""
    probe = "a"
    bare, full = _ids(vocabulary, probe), _ids(vocabulary, probe, add_special_tokens=True)
    for at in range(len(full) - len(bare) + 1):
        if bare and full[at : at + len(bare)] == bare:
            return full[:at], full[at + len(bare) :]
    raise TokenizerError("the tokenizer cannot encode the letter 'a'; download the checkpoint again")
