"""The files of Ollama's model store, read in place: nothing in it is ever written, locked or renamed.

    ROOT/manifests/HOST/NAMESPACE/MODEL/TAG     JSON; in newer stores under manifests-v2, often as links into blobs
    ROOT/blobs/sha256-HEX                       the model file, and the small texts that go with it

Source: https://github.com/ollama/ollama, folders manifest, types/model and envconfig.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmkit.errors import CheckpointError, ModelNotFound, RequestError, UnsupportedModel
from slmkit.untrusted import is_there, open_regular, parse_json, read_bytes, shown
from slmkit.weights.ollama.names import Name

SERVICE = Path("/usr/share/ollama/.ollama/models")  # where Ollama's own Linux service has it
MOST_TEXT_BYTES = 1 << 20  # of a manifest, and of each text that goes with a model
MOST_LAYERS = 1000
MOST_ENTRIES = 10_000  # that are looked at in one folder
_FOLDERS = ("manifests-v2", "manifests")  # Ollama, too, looks in the newer one first
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_LIST = "application/vnd.ollama.manifest.list.v2+json"
_RUNNERS = ("", "ollama", "llamacpp")  # of the entries in a list, those that run GGUF files
_LAYER = "application/vnd.ollama.image."


@dataclass(frozen=True)
class Layer:
    """One blob that a manifest names: its kind, its SHA-256 in lower case, its size in bytes."""

    kind: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a model consists of. config: where Ollama noted what it is; None in a manifest without one."""

    layers: tuple[Layer, ...]
    config: Layer | None
    modified: float


def stores(root: str | Path | None = None) -> list[Store]:
    """The stores of this machine, the one to look in first at the front.

    Given `root` or $OLLAMA_MODELS only that one; then ModelNotFound is raised if it is none.
    """
    chosen = root or os.environ.get("OLLAMA_MODELS")
    if chosen:
        if not _is_store(Path(chosen)):
            given = "" if root else " ($OLLAMA_MODELS)"
            raise ModelNotFound(f"{chosen}{given} is no store of Ollama: it has no folder manifests that can be read")
        return [Store(Path(chosen))]
    usual = (Path(os.path.expanduser("~")) / ".ollama" / "models", SERVICE)
    return [Store(path) for path in dict.fromkeys(usual) if _is_store(path)]


class Store:
    """One store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        inner = [root, root / "blobs", *(root / folder for folder in _FOLDERS)]
        # Whole folders are often moved to a larger disk and linked; a link below them that leads elsewhere is refused.
        self._homes = tuple(os.path.join(os.path.realpath(path), "") for path in inner)

    def names(self) -> list[Name]:
        """Every name that has a manifest, in order; what can be no name is passed over, as Ollama does."""
        found: dict[tuple[str, ...], Name] = {}
        for folder in _FOLDERS:
            for parts in _entries(self.root / folder):
                try:
                    name = Name(*parts)
                except RequestError:
                    continue
                found.setdefault(tuple(part.lower() for part in parts), name)
        return [name for _, name in sorted(found.items())]

    def path(self, name: Name) -> Path | None:
        """The file of the manifest, found without regard to case; None if there is none.

        Raises RequestError if several names differ in nothing but case and none is spelled like this one.
        """
        for folder in _FOLDERS:
            exact = self.root.joinpath(folder, *name.parts)
            if is_there(exact):
                return exact
            found = [self.root / folder]
            for part in name.parts:
                found = [path / entry for path in found for entry in _listed(path) if entry.lower() == part.lower()]
            if len(found) > 1:
                raise RequestError(f"{self.root} has several models called {name}, in other letters; write it like one")
            if found:
                return found[0]
        return None

    def manifest(self, path: Path) -> Manifest:
        """What the manifest says, every field checked. Raises CheckpointError, UnsupportedModel."""
        raw = parse_json(self._manifest_bytes(path), str(path))
        if raw.get("mediaType") == _LIST:
            raw = self._chosen(raw, path)
        layers, config = raw.get("layers"), raw.get("config")
        if not isinstance(layers, list) or not layers or len(layers) > MOST_LAYERS:
            raise CheckpointError(f"{path} has no usable list of layers; pull the model again")
        named = isinstance(config, dict) and bool(config.get("digest"))
        modified = os.lstat(path).st_mtime
        return Manifest(tuple(_layer(e, path) for e in layers), _layer(config, path) if named else None, modified)

    def text(self, layer: Layer, what: str) -> str:
        """The text of a small blob, its size and hash checked; `what` names it in messages."""
        data = self._small(layer.sha256, what)
        if len(data) != layer.size:
            raise CheckpointError(f"{what} has {len(data)} bytes, its manifest says {layer.size}; pull the model again")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as reason:
            raise CheckpointError(f"{what} is not UTF-8 text (byte {reason.start}); pull the model again") from None

    def file(self, layer: Layer, what: str) -> Path:
        """A large blob, there and of the right size; its hash is not computed."""
        path = self._blob(layer.sha256, what)
        fd = open_regular(path)
        size = os.fstat(fd).st_size
        os.close(fd)
        if size != layer.size:
            raise CheckpointError(
                f"{path}, {what}, has {size} bytes, its manifest says {layer.size}; pull the model again"
            )
        return path

    def _chosen(self, raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """Of a list of manifests for several engines, the one with a GGUF file."""
        entries = raw.get("manifests")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise CheckpointError(f"{path} has no usable list of manifests; pull the model again")
        for entry in entries:
            if str(entry.get("runner") or "").lower() not in _RUNNERS or entry.get("format") not in (None, "", "gguf"):
                continue
            if entry.get("layers"):
                return dict(entry)
            what = f"the manifest that {path} refers to"
            return parse_json(self._small(_sha256(entry.get("digest"), path), what), what)
        made_for = ", ".join(sorted({shown(entry.get("runner")) for entry in entries}))
        raise UnsupportedModel(f"{path} lists no GGUF file, only versions for {made_for}; pull a model that has one")

    def _manifest_bytes(self, path: Path) -> bytes:
        self._require_inside(path)
        target = Path(os.path.realpath(path))
        data = read_bytes(target, MOST_TEXT_BYTES)
        if path.is_symlink():  # Ollama links manifests to blobs, which are named for their hash
            digest = _DIGEST.fullmatch(target.name)
            if digest is None or hashlib.sha256(data).hexdigest() != digest[1].lower():
                raise CheckpointError(f"{path} links to {target.name}, whose content has another hash; pull it again")
        return data

    def _small(self, sha256: str, what: str) -> bytes:
        data = read_bytes(self._blob(sha256, what), MOST_TEXT_BYTES)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CheckpointError(f"{what} is damaged: its SHA-256 is not its name; pull the model again")
        return data

    def _blob(self, sha256: str, what: str) -> Path:
        """Its file; old versions of Ollama wrote `sha256:` where `sha256-` stands now."""
        for between in "-:":
            path = self.root / "blobs" / f"sha256{between}{sha256}"
            if is_there(path):
                self._require_inside(path)
                return path
        began = any(entry.startswith(f"sha256-{sha256}-partial") for entry in _listed(self.root / "blobs"))
        problem = "was fetched only in part" if began else "is missing from the store"
        raise CheckpointError(f"{what} {problem}; pull the model again")

    def _require_inside(self, path: Path) -> None:
        real = os.path.realpath(path)
        if not real.startswith(self._homes):
            raise CheckpointError(
                f"{path} leads out of the store, to {shown(real)}; put the file itself in its place, or link the whole "
                "folder blobs"
            )


def _is_store(path: Path) -> bool:
    return any(os.access(path / folder, os.R_OK | os.X_OK) and (path / folder).is_dir() for folder in _FOLDERS)


def _entries(folder: Path, depth: int = 4) -> Iterator[tuple[str, ...]]:
    """The paths, as parts, of all that is no folder `depth` levels below."""
    for entry in _listed(folder):
        if depth > 1:
            yield from ((entry, *rest) for rest in _entries(folder / entry, depth - 1))
        elif not os.path.isdir(folder / entry):
            yield (entry,)


def _listed(folder: Path) -> list[str]:
    """The entries of a folder, in order; none of what cannot be read, or is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry, _ in zip(entries, range(MOST_ENTRIES), strict=False))
    except OSError:
        return []


def _layer(raw: Any, path: Path) -> Layer:
    kind, size = (raw.get("mediaType"), raw.get("size")) if isinstance(raw, dict) else (None, None)
    if not isinstance(kind, str) or type(size) is not int or not 0 <= size < 2**62:
        raise CheckpointError(f"{path} describes a layer by {shown(raw)}; mediaType, digest and size are needed")
    return Layer(kind.removeprefix(_LAYER), _sha256(raw.get("digest"), path), size)


def _sha256(digest: Any, path: Path) -> str:
    """The hexadecimal part of a digest. It becomes a file name, so nothing else may pass."""
    found = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if found is None:
        raise CheckpointError(f"{path} has the digest {shown(digest)}; sha256: and 64 hexadecimal digits are accepted")
    return found[1].lower()
