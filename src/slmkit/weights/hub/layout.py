"""How Hugging Face's cache lies on this disk, which other programs share; read here without its client.

    HUB/models--OWNER--NAME/blobs/ETAG           a file, by its checksum; ETAG.incomplete while it arrives
                            snapshots/COMMIT/FILE  a link to its blob; the file itself where links are not to be had
                            refs/REVISION          the commit that a branch or a tag was when it was last asked for
                            .no_exist/COMMIT/FILE  a file that a program asked for and that is not in the repository

Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slmkit.errors import StorageError
from slmkit.weights.atomic import make_folder

ELSEWHERE = "set HF_HOME to a folder that you may write to and that has room"
# What a folder from another program must have before it is used without asking the hub what belongs to it: without
# these the model would answer otherwise. A file that is noted as not existing need not be there.
NEEDED = ("generation_config.json", "tokenizer_config.json")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_STALE = 3600.0  # seconds; noting a commit takes less than one


def hub_folder() -> Path:
    """The cache that huggingface_hub uses: $HF_HUB_CACHE, or `hub` in $HF_HOME, or ~/.cache/huggingface/hub."""
    base = os.environ.get("XDG_CACHE_HOME", os.path.join(os.path.expanduser("~"), ".cache"))
    home = _expanded(os.environ.get("HF_HOME", os.path.join(base, "huggingface")))
    older = os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return Path(_expanded(os.environ.get("HF_HUB_CACHE", older)))


@dataclass(frozen=True)
class Repository:
    """A repository's folder in the cache."""

    folder: Path

    @classmethod
    def of(cls, repo: str) -> Repository:
        return cls(hub_folder() / f"models--{repo.replace('/', '--')}")

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    @property
    def locks(self) -> Path:
        """Where huggingface_hub has one lock for each blob."""
        return self.folder.parent / ".locks" / self.folder.name

    def snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def commit(self, revision: str) -> str | None:
        """The commit that a revision was when somebody last asked the hub."""
        if _COMMIT.fullmatch(revision):
            return revision
        try:
            text = (self.folder / "refs" / revision).read_bytes()[:100].decode("ascii").strip()
        except (OSError, ValueError):
            return None
        return text if _COMMIT.fullmatch(text) else None

    def remember(self, revision: str, commit: str) -> None:
        """Note the commit of a revision, as huggingface_hub does. Raises StorageError."""
        if revision == commit:
            return
        path = self.folder / "refs" / revision
        make_folder(path.parent, ELSEWHERE)
        partial = self.folder / f".ref-{os.getpid()}"  # not in refs, where others would read it
        self._remove_stale()
        try:
            partial.write_bytes(commit.encode())
            os.replace(partial, path)
        except OSError as error:
            raise StorageError(f"{path} could not be written ({error.strerror}); {ELSEWHERE}") from None

    def _remove_stale(self) -> None:
        """Remove what processes that were killed in `remember` left."""
        for left in self.folder.glob(".ref-*"):
            with suppress(OSError):
                if time.time() - left.lstat().st_mtime > _STALE:
                    left.unlink()

    def note_absent(self, commit: str, names: set[str]) -> None:
        """Note, as huggingface_hub does, which of the files that decide over answers are not in the repository."""
        for name in set(NEEDED) - names:
            mark = self.folder / ".no_exist" / commit / name
            with suppress(OSError):
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))
