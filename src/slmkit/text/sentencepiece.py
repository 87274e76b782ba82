"""SentencePiece `tokenizer.model` files: read without protobuf, and turned into the same BPE as a tokenizer.json."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from slmkit.errors import TokenizerError
from slmkit.text.bounds import LONGEST_PIECE, MOST_PIECES
from slmkit.text.tokenizer_json import around_texts, bpe_model

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

# Kinds of pieces and models, as sentencepiece_model.proto numbers them.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
ABSENT = 0  # not SentencePiece's: the place of an id that has no text
BPE = 2
WORD_MARK = "▁"
_MOST_CUTS = 2**22  # characters of all pieces together: each is a way to cut one in two
_MOST_FIELDS = 2**16  # of one message; the trainer's settings name a file each
_MOST_MERGES = 2**20  # Gemma's 262,144 pieces stand for 580,604
_MOST_MERGE_CHARS = 2**23  # of all merges together; 6 million there


@dataclass
class SentencePieceModel:
    """What the file says, as far as BPE needs it. A piece is (text, score, kind); its place is its id."""

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    model_type: int = 1
    bos_id: int = 1
    eos_id: int = 2
    mark_after_word: bool = False
    character_map: bytes = b""
    adds_first_space: bool = True
    removes_extra_spaces: bool = True
    marks_spaces: bool = True


def parse(data: bytes) -> SentencePieceModel:
    """Read a serialized ModelProto.

    Raises TokenizerError where the bytes end too early or are no such message.
    Source: sentencepiece_model.proto of the SentencePiece project (field numbers in the comments below).
    """
    model = SentencePieceModel()
    for number, value in _fields(data, MOST_PIECES + _MOST_FIELDS):
        if number == 1:  # pieces
            model.pieces.append(_piece(_message(value)))
            if len(model.pieces) > MOST_PIECES:
                raise TokenizerError(f"tokenizer.model has more than {MOST_PIECES} pieces; is it the right file?")
        elif number == 2:  # trainer_spec
            spec = _fields_of(value)
            model.model_type = _number(spec.get(3, 1))
            model.mark_after_word = bool(_number(spec.get(24, 0)))
            model.bos_id, model.eos_id = _signed(spec.get(41, 1)), _signed(spec.get(42, 2))
        elif number == 3:  # normalizer_spec
            spec = _fields_of(value)
            model.character_map = _message(spec.get(2, b""))
            model.adds_first_space = bool(_number(spec.get(3, 1)))
            model.removes_extra_spaces = bool(_number(spec.get(4, 1)))
            model.marks_spaces = bool(_number(spec.get(5, 1)))
    if not model.pieces:
        raise TokenizerError("tokenizer.model has no pieces; it is damaged or no SentencePiece model")
    return model


def convert(
    model: SentencePieceModel, added: Sequence[Mapping[str, Any]] = (), *, add_bos: bool = False
) -> dict[str, Any]:
    """The same tokenizer in the format of tokenizer.json.

    added: entries as tokenizer.json's added_tokens; they go before what the model itself calls control pieces, and
    user-defined pieces must be among them.
    add_bos: write the model's BOS before a text.
    Raises TokenizerError for models that are not BPE, or would give other ids than SentencePiece does.
    """
    _require_plain_bpe(model, {entry.get("content") for entry in added})
    pieces = model.pieces
    unknown = next((text for text, _, kind in pieces if kind == UNKNOWN), None)
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": WORD_MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    normalizers: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": " "}, "content": WORD_MARK}]
    if model.adds_first_space:
        normalizers.insert(0, {"type": "Prepend", "prepend": WORD_MARK})
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "pre_tokenizer": None,
        "added_tokens": _with_control_pieces(pieces, added),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "decoder": {"type": "Sequence", "decoders": decoders},
        "post_processor": _bos_first(model) if add_bos else None,
        "model": bpe_model(
            {text: id_ for id_, (text, _, kind) in enumerate(pieces) if kind != ABSENT},
            merges(pieces),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=any(kind == BYTE for _, _, kind in pieces),
        ),
    }


def merges(pieces: Sequence[tuple[str, float, int]]) -> list[tuple[str, str]]:
    """The merge rules that the scores stand for, best first: every way to put a piece together from two others.

    Rules of the same score go by id, of the piece and then of its parts, as in the checkpoints' own tokenizer.json;
    SentencePiece has no order among them. Raises TokenizerError for more rules than any vocabulary has.
    """
    if sum(len(text) for text, _, kind in pieces if kind == NORMAL) > _MOST_CUTS:
        raise TokenizerError(f"the vocabulary has more than {_MOST_CUTS} characters; is it the right file?")
    scores = {text: score for text, score, kind in pieces if kind == NORMAL}
    ids = {text: id_ for id_, (text, _, _) in enumerate(pieces)}
    found = (
        (-score, ids[text], ids[text[:cut]], ids[text[cut:]], text, cut)
        for text, score in scores.items()
        for cut in range(1, len(text))
        if text[:cut] in scores and text[cut:] in scores
    )
    rules = sorted(islice(found, _MOST_MERGES + 1))
    if len(rules) > _MOST_MERGES or sum(len(text) for *_, text, _ in rules) > _MOST_MERGE_CHARS:
        raise TokenizerError(
            f"the vocabulary stands for more than {_MOST_MERGES} merge rules, or {_MOST_MERGE_CHARS} characters of "
            "them; is it the right file?"
        )
    return [(text[:cut], text[cut:]) for *_, text, cut in rules]


def _require_plain_bpe(model: SentencePieceModel, added: Collection[Any]) -> None:
    present = [piece for piece in model.pieces if piece[2] != ABSENT]
    kinds = {kind for _, _, kind in present}
    refused = [
        what
        for refuse, what in (
            (model.model_type != BPE, "a model type other than BPE"),
            (bool(model.character_map), "a character map (its normalizer is not identity)"),
            (model.removes_extra_spaces, "removal of extra spaces"),
            (not model.marks_spaces, "spaces that are not marked"),
            (model.mark_after_word, "word marks after the word"),
            (any(kind == USER_DEFINED and text not in added for text, _, kind in present), "user-defined pieces"),
            (UNUSED in kinds, "unused pieces"),
            (not kinds <= {NORMAL, UNKNOWN, CONTROL, BYTE, USER_DEFINED, UNUSED}, "pieces of an unknown kind"),
            (
                BYTE in kinds and sum(kind == BYTE for _, _, kind in present) != 256,
                "only some of the 256 byte pieces",
            ),
            (len({text for text, _, _ in present}) != len(present), "the same piece twice"),
        )
        if refuse
    ]
    if refused:
        raise TokenizerError(
            f"tokenizer.model has {' and '.join(refused)}, which is not converted here; put the "
            f"checkpoint's tokenizer.json beside it"
        )


def _with_control_pieces(
    pieces: Sequence[tuple[str, float, int]], added: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    given = {entry.get("content") for entry in added}
    own = [
        {"id": id_, "content": text, "special": True}
        for id_, (text, _, kind) in enumerate(pieces)
        if kind in (UNKNOWN, CONTROL) and text not in given
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return [{**flags, **entry} for entry in [*own, *added]]


def _bos_first(model: SentencePieceModel) -> dict[str, Any] | None:
    if not 0 <= model.bos_id < len(model.pieces):
        raise TokenizerError(
            "tokenizer_config.json wants a BOS and tokenizer.model has none; set add_bos_token to false"
        )
    return around_texts({model.pieces[model.bos_id][0]: model.bos_id}, {})


def _piece(data: bytes) -> tuple[str, float, int]:
    if len(data) > 4 * LONGEST_PIECE:
        raise TokenizerError(f"tokenizer.model has a piece of {len(data)} bytes; is it the right file?")
    found = _fields_of(data)
    try:
        text = _message(found.get(1, b"")).decode("utf-8")
    except UnicodeDecodeError:
        raise TokenizerError("tokenizer.model has a piece that is not UTF-8; it is damaged") from None
    score = found.get(2, 0.0)
    if not isinstance(score, float) or score != score or not text:
        raise TokenizerError("tokenizer.model has a piece without a text or whose score is no number; it is damaged")
    return text, score, _number(found.get(3, NORMAL))


# The wire format: https://protobuf.dev/programming-guides/encoding/. A value is an int (wire type 0), a float (5) or
# bytes (2); 64-bit values (1) are not used by this message and only stepped over.
_Value = int | float | bytes


def _fields(data: bytes, most: int = _MOST_FIELDS) -> Iterator[tuple[int, _Value]]:
    at = 0
    for _ in range(most):
        if at == len(data):
            return
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            size, at = _varint(data, at)
        if size is None or number == 0:
            raise TokenizerError(f"tokenizer.model is no SentencePiece model (wire type {wire} at byte {at})")
        if size > len(data) - at:
            raise TokenizerError(f"tokenizer.model ends inside a field of {size} bytes; download it again")
        chunk = data[at : at + size]
        at += size
        if wire != 1:
            yield number, struct.unpack("<f", chunk)[0] if wire == 5 else chunk
    if at < len(data):
        raise TokenizerError(f"tokenizer.model has more than {most} fields in one message; is it the right file?")


def _fields_of(value: _Value) -> dict[int, _Value]:
    """The fields of a nested message; the last of a repeated one counts, as protobuf has it for single fields."""
    return dict(_fields(_message(value)))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise TokenizerError("tokenizer.model ends inside a number, or has one of more than 64 bits; download it again")


def _message(value: _Value) -> bytes:
    if not isinstance(value, bytes):
        raise TokenizerError("tokenizer.model has a number where a text belongs; it is damaged")
    return value


def _number(value: _Value) -> int:
    if not isinstance(value, int):
        raise TokenizerError("tokenizer.model has a text where a number belongs; it is damaged")
    return value


def _signed(value: _Value) -> int:
    """An int32, which protobuf writes as a 64-bit two's complement (-1 stands for "none")."""
    number = _number(value)
    return number - 2**64 if number >= 2**63 else number
