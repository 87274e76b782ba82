"""GGUF files that nobody meant well with: one sentence for each fault, and no memory or time by their own account."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from gguf_bytes import ARRAY, BOOL, F32, I32, STRING, U8, U32, array, entry, gguf_bytes, pair, text
from hypothesis import given, settings
from hypothesis import strategies as st

from slmkit.errors import CheckpointError, ModelError, UnsupportedModel
from slmkit.weights.gguf.file import open_gguf
from slmkit.weights.gguf.header import MOST_ENTRIES
from slmkit.weights.gguf.reader import MOST_HEADER_BYTES, MOST_TEXT_BYTES, MOST_TEXTS
from slmkit.weights.mapped import FileIdentity

HUGE = 2**64 - 1


def u64(n: int) -> bytes:
    return struct.pack("<Q", n)


def u32(n: int) -> bytes:
    return struct.pack("<I", n)


def aligned(kind: int, value: bytes) -> bytes:
    return gguf_bytes([pair("general.alignment", kind, value)], [entry("w", [1])], bytes(4))


WRONG = [
    ("empty", b"", "0 bytes left where its magic number takes 4"),
    ("four bytes", b"GGUF", "0 bytes left"),
    ("another magic", gguf_bytes(magic=b"PK\x03\x04"), "no GGUF file: it begins with b'PK"),
    ("more tensors than bytes", gguf_bytes(n_tensors=HUGE), "18446744073709551615 tensors"),
    ("more keys than bytes", gguf_bytes(n_pairs=1 << 40), "1099511627776 metadata takes"),
    ("a key longer than the file", gguf_bytes([u64(1000) + b"k"]) + bytes(99), "the name of metadata key 1 takes 1008"),
    ("a key of 2^64 bytes", gguf_bytes([u64(HUGE) + b"k" * 20]), "a text of 18446744073709551615 bytes"),
    ("a key that is not UTF-8", gguf_bytes([pair(b"\xff", U8, b"1")]), "not UTF-8"),
    ("a text that is not UTF-8", gguf_bytes([pair("k", STRING, text(b"\xc3"))]), "key 'k' a text that is not UTF-8"),
    ("a surrogate in UTF-8", gguf_bytes([pair("k", STRING, text(b"\xed\xa0\x80"))]), "not UTF-8"),
    ("a token that is not UTF-8", gguf_bytes([pair("k", ARRAY, array(STRING, 1, text(b"\x80")))]), "not UTF-8"),
    ("a key twice", gguf_bytes([pair("k", U8, b"1"), pair("k", U8, b"2")]), "the metadata key 'k' twice"),
    ("a value of type 13", gguf_bytes([pair("k", 13, bytes(8))]), "unknown type 13"),
    ("an array of type 13", gguf_bytes([pair("k", ARRAY, array(13, 1, bytes(8)))]), "array of the unknown type 13"),
    ("a bool of 2", gguf_bytes([pair("k", BOOL, b"\x02")]), "a 2 where 0 or 1"),
    ("a bool of 255 in an array", gguf_bytes([pair("k", ARRAY, array(BOOL, 2, b"\x01\xff"))]), "a 255 where 0 or 1"),
    ("an array longer than the file", gguf_bytes([pair("k", ARRAY, array(F32, 100, bytes(396)))]), "key 'k' takes 400"),
    ("an array of 2^64", gguf_bytes([pair("k", ARRAY, array(F32, HUGE, bytes(8)))]), "elements of metadata key 'k'"),
    ("texts of 2^61", gguf_bytes([pair("k", ARRAY, array(STRING, 1 << 61, bytes(8)))]), "elements of metadata key 'k'"),
    ("a text cut off in an array", gguf_bytes([pair("k", ARRAY, array(STRING, 2, text("a") + u64(99)))]), "takes 107"),
    ("no dimensions", gguf_bytes([], [entry("w", [])], bytes(64)), "tensor 'w' 0 dimensions"),
    ("five dimensions", gguf_bytes([], [entry("w", [1] * 5)], bytes(64)), "tensor 'w' 5 dimensions"),
    ("2^32 - 1 dimensions", gguf_bytes([], [text("w") + u32(2**32 - 1)], bytes(64)), "4294967295 dimensions"),
    ("a dimension of 0", gguf_bytes([], [entry("w", [4, 0])], bytes(64)), "a dimension of 0"),
    ("a product over 2^64", gguf_bytes([], [entry("w", [1 << 40, 1 << 40])], bytes(64)), "cut short or damaged"),
    ("a product that wraps to 0", gguf_bytes([], [entry("w", [1 << 32, 1 << 32])], bytes(64)), "cut short or damaged"),
    ("half a block", gguf_bytes([], [entry("w", [48], 8)], bytes(64)), "rows of 48, no multiple of Q8_0's 32"),
    ("half a superblock", gguf_bytes([], [entry("w", [128, 2], 12)], bytes(999)), "no multiple of Q4_K's 256"),
    ("an offset between", gguf_bytes([], [entry("w", [1], 0, 4)], bytes(64)), "at byte 4, no multiple of its align"),
    ("an offset past the end", gguf_bytes([], [entry("w", [1], 0, 64)], bytes(64)), "ends at byte 132 of 128"),
    ("an offset of 2^64 - 32", gguf_bytes([], [entry("w", [1], 0, 2**64 - 32)], bytes(64)), "cut short or damaged"),
    ("one byte short", gguf_bytes([], [entry("w", [2])], bytes(7)), "ends at byte 72 of 71"),
    ("a tensor twice", gguf_bytes([], [entry("w", [1])] * 2, bytes(64)), "the tensor 'w' twice"),
    ("tensors on one another", gguf_bytes([], [entry("a", [9]), entry("b", [1], 0, 32)], bytes(64)), "'b' .* overlaps"),
    ("tensors in one place", gguf_bytes([], [entry("a", [1]), entry("b", [1])], bytes(64)), "overlaps"),
    ("no data at all", gguf_bytes([], [entry("w", [1])])[:-20], "cut short"),
    ("alignment 0", aligned(U32, u32(0)), "general.alignment 0"),
    ("alignment 24", aligned(U32, u32(24)), "general.alignment 24"),
    ("alignment 2^31", aligned(U32, u32(1 << 31)), "general.alignment 2147483648"),
    ("alignment -32", aligned(I32, struct.pack("<i", -32)), "general.alignment -32"),
    ("alignment True", aligned(BOOL, b"\x01"), "general.alignment that is no whole"),
    ("alignment 32.0", aligned(F32, struct.pack("<f", 32)), "no whole number"),
    ("alignment '32'", aligned(STRING, text("32")), "no whole number"),
    ("an array as alignment", aligned(ARRAY, array(U32, 2, u32(32) * 2)), "no whole number"),
    ("an array as split.count", gguf_bytes([pair("split.count", ARRAY, array(U8, 2, b"33"))]), "no whole number"),
]
NOT_READ = [
    ("version 1", gguf_bytes(version=1), "GGUF version 1; slmkit reads versions 2 and 3"),
    ("version 4", gguf_bytes(version=4), "GGUF version 4; slmkit reads versions 2 and 3"),
    ("big-endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    ("the format before GGUF", b"tjgg" + bytes(40), "a GGJT file, which GGUF replaced"),
    ("arrays in arrays", gguf_bytes([pair("k", ARRAY, array(ARRAY, 1, array(U8, 1, b"1")))]), "an array of arrays"),
    ("IQ4_XS", gguf_bytes([], [entry("w", [256], 23)], bytes(200)), "type IQ4_XS; slmkit reads F32, .*Q6_K"),
    ("TQ1_0", gguf_bytes([], [entry("w", [256], 34)], bytes(200)), "the type TQ1_0"),
    ("MXFP4", gguf_bytes([], [entry("w", [32], 39)], bytes(200)), "the type MXFP4"),
    ("I32", gguf_bytes([], [entry("w", [1], 26)], bytes(200)), "the type I32"),
    ("a type of nobody", gguf_bytes([], [entry("w", [1], 999)], bytes(200)), "the unknown type 999"),
]


def refused(path: Path, kind: type[ModelError], said: str) -> None:
    with pytest.raises(kind, match=said) as error:
        open_gguf(path)
    message = str(error.value)
    assert type(error.value) is kind
    assert str(path) in message
    assert message.isprintable()
    assert len(message) < 700


@pytest.mark.parametrize(("content", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    refused(path, CheckpointError, said)


@pytest.mark.parametrize(("content", "said"), [case[1:] for case in NOT_READ], ids=[case[0] for case in NOT_READ])
def test_what_is_understood_and_not_read_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    refused(path, UnsupportedModel, said)


def test_names_are_quoted_so_that_they_cannot_move_a_cursor(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes([], [entry("\x1b[2J" + "x" * 5000, [0])], bytes(64)))
    refused(path, CheckpointError, r"tensor '\\x1b\[2Jx+")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (gguf_bytes(n_tensors=MOST_ENTRIES + 1), f"{MOST_ENTRIES + 1} tensors, where slmkit reads up to"),
        (gguf_bytes(n_pairs=MOST_ENTRIES + 1), f"{MOST_ENTRIES + 1} metadata keys, where slmkit reads up to"),
        (gguf_bytes(n_pairs=1 << 30), f"more than the {MOST_HEADER_BYTES} bytes"),
        (gguf_bytes([text("k") + u32(ARRAY) + u32(F32) + u64(1 << 34)]).rstrip(b"\x00"), "more than the"),
        (
            gguf_bytes([text("k") + u32(ARRAY) + u32(STRING) + u64(MOST_TEXTS + 1)]),
            "texts up to metadata key 'k', where",
        ),
        (gguf_bytes([text("k") + u32(STRING) + u64(MOST_TEXT_BYTES + 1)]), f"a text of {MOST_TEXT_BYTES + 1} bytes"),
        (gguf_bytes([], [entry("w", [1 << 45])]), "ends at byte"),
    ],
    ids=["tensors", "keys", "bytes of keys", "numbers", "texts", "a text", "a tensor"],
)
def test_a_file_of_a_terabyte_may_not_claim_what_it_could_hold(tmp_path: Path, head: bytes, said: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(head)
    os.truncate(path, 1 << 40)  # all zeros, and takes no room on the disk
    refused(path, CheckpointError, said)


@pytest.mark.skipif(os.name == "nt", reason="there are none")
def test_pipes_devices_folders_and_links_to_nowhere_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "link.gguf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zero.gguf").symlink_to("/dev/zero")
    (tmp_path / "folder.gguf").mkdir()
    for name, said in [("pipe", "not a regular"), ("link", "missing"), ("zero", "not a reg"), ("folder", "not a reg")]:
        refused(tmp_path / f"{name}.gguf", CheckpointError, said)


GOOD = gguf_bytes(
    [
        pair("general.architecture", STRING, text("phi3")),
        pair("n", U32, u32(7)),
        pair("tokens", ARRAY, array(STRING, 3, text("a") + text("▁b") + text(""))),
        pair("scores", ARRAY, array(F32, 2, bytes(8))),
        pair("yes", BOOL, b"\x01"),
    ],
    [entry("a", [64, 2], 8), entry("b", [3], 0, 160), entry("c", [256], 12, 192)],
    bytes(192 + 144),
)


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(GOOD)
    open_gguf(path)
    for size in range(len(GOOD))[::-1]:
        os.truncate(path, size)
        with pytest.raises(CheckpointError):
            open_gguf(path)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=300)
def test_no_change_of_bytes_does_more_than_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(GOOD)
    for at, value in changes:
        content[at] = value
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(content)
    with suppress(ModelError):  # any other error fails
        (file,) = open_gguf(path)
        for name in file.tensors:
            file.blocks(name).tobytes()


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes([pair("k", ARRAY, array(STRING, 3, text("abc") * 3))]))
    was = path.stat()

    def shrink(fd: int) -> FileIdentity:
        os.truncate(path, 60)
        return FileIdentity(was.st_dev, was.st_ino, was.st_size, was.st_mtime_ns, was.st_ctime_ns)

    monkeypatch.setattr(FileIdentity, "of", shrink)
    refused(path, CheckpointError, "became shorter")
