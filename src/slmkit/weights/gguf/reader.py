"""The bytes of a GGUF header, taken piece by piece, and no piece that the file does not hold or that is too large."""

from __future__ import annotations

import struct
from typing import IO

from slmkit.errors import CheckpointError

# Published ones take up to 20 MB (vocabularies of 250,000 tokens with their merges).
MOST_HEADER_BYTES = 64 << 20
MOST_TEXT_BYTES = 16 << 20
MOST_TEXTS = 1 << 21

_U32 = struct.Struct("<I").unpack
_U64 = struct.Struct("<Q").unpack


class HeaderReader:
    """Reads an open file from its beginning.

    path: for messages.   subject: what is being read, which the caller sets, also for messages.
    at: how many bytes were taken.
    Every method raises CheckpointError for what the file cannot hold or slmkit does not read; OSError is the caller's.
    """

    def __init__(self, file: IO[bytes], file_bytes: int, path: object) -> None:
        self._file, self.file_bytes, self.path = file, file_bytes, path
        self.at = 0
        self.subject = "its magic number"
        self._texts = 0
        self._end = min(file_bytes, MOST_HEADER_BYTES)

    def wrong(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path} {what}; the file is damaged")

    def take(self, n: int) -> bytes:
        self.check_room(n)
        data = self._file.read(n)
        self.at += n
        self._check_whole()
        return data

    def check_room(self, n: int) -> None:
        """Raises CheckpointError unless the next n bytes can be part of the header."""
        if n <= self._end - self.at:
            return
        if n > self.file_bytes - self.at:
            raise CheckpointError(
                f"{self.path} has {self.file_bytes - self.at} bytes left where {self.subject} takes {n}: "
                "it is cut short or damaged, fetch it again"
            )
        raise CheckpointError(
            f"the header of {self.path} takes more than the {MOST_HEADER_BYTES} bytes that slmkit reads, "
            f"as {self.subject} shows; is it the right file?"
        )

    def u32(self) -> int:
        return int(_U32(self.take(4))[0])

    def u64(self) -> int:
        return int(_U64(self.take(8))[0])

    def count(self, what: str, smallest: int) -> int:
        """A number of things of `smallest` bytes at least, for which there is room."""
        n = self.u64()
        self.subject = f"{n} {what}"
        self.check_room(n * smallest)
        return n

    def text(self) -> str:
        return self.texts(1)[0]

    def texts(self, n: int) -> list[str]:
        """The next n texts. One loop without calls: a vocabulary has 200,000 of them."""
        self._texts += n
        if self._texts > MOST_TEXTS:
            raise self.wrong(f"has {self._texts} texts up to {self.subject}, where slmkit reads up to {MOST_TEXTS}")
        read, found = self._file.read, []
        try:
            for _ in range(n):
                length = int.from_bytes(read(8), "little")
                if length > MOST_TEXT_BYTES or self.at + 8 + length > self._end:
                    self._refuse_text(length)
                found.append(read(length).decode("utf-8"))
                self.at += 8 + length
        except UnicodeDecodeError:
            raise self.wrong(f"has in {self.subject} a text that is not UTF-8") from None
        self._check_whole()
        return found

    def _refuse_text(self, length: int) -> None:
        self.check_room(8)
        if length <= MOST_TEXT_BYTES:
            self.check_room(8 + length)
        raise self.wrong(f"has in {self.subject} a text of {length} bytes, over the {MOST_TEXT_BYTES} of any")

    def _check_whole(self) -> None:
        """Raises CheckpointError if fewer bytes came than were there."""
        if self._file.tell() != self.at:
            raise CheckpointError(f"{self.path} became shorter while it was being read; fetch it again")
