"""Names of models that are no paths: short names of the published family, and references to the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from slmkit.errors import ModelNotFound, RequestError
from slmkit.untrusted import shown

BUNDLED = "tiny"
MAIN = "main"

_MINI_4K = "microsoft/Phi-3-mini-4k-instruct"
_MINI_128K = "microsoft/Phi-3-mini-128k-instruct"
_SMALL_8K = "microsoft/Phi-3-small-8k-instruct"
_SMALL_128K = "microsoft/Phi-3-small-128k-instruct"
_MEDIUM_4K = "microsoft/Phi-3-medium-4k-instruct"
_MEDIUM_128K = "microsoft/Phi-3-medium-128k-instruct"
_VISION = "microsoft/Phi-3-vision-128k-instruct"
_MINI_35 = "microsoft/Phi-3.5-mini-instruct"
_VISION_35 = "microsoft/Phi-3.5-vision-instruct"
_MOE_35 = "microsoft/Phi-3.5-MoE-instruct"

# The first name of each model is the one that lists show. Those with a colon are how Ollama's library calls them.
SHORT_NAMES = {
    "phi3": _MINI_4K,
    "phi3:mini": _MINI_4K,
    "phi3:mini-4k": _MINI_4K,
    "phi3:3.8b": _MINI_4K,
    "phi-3-mini-4k": _MINI_4K,
    "phi3:mini-128k": _MINI_128K,
    "phi-3-mini-128k": _MINI_128K,
    "phi3:small": _SMALL_8K,
    "phi3:small-8k": _SMALL_8K,
    "phi-3-small-8k": _SMALL_8K,
    "phi3:small-128k": _SMALL_128K,
    "phi-3-small-128k": _SMALL_128K,
    "phi3:medium": _MEDIUM_4K,
    "phi3:medium-4k": _MEDIUM_4K,
    "phi3:14b": _MEDIUM_4K,
    "phi-3-medium-4k": _MEDIUM_4K,
    "phi3:medium-128k": _MEDIUM_128K,
    "phi-3-medium-128k": _MEDIUM_128K,
    "phi3-vision": _VISION,
    "phi3:vision": _VISION,
    "phi-3-vision": _VISION,
    "phi3.5": _MINI_35,
    "phi3.5:mini": _MINI_35,
    "phi3.5:3.8b": _MINI_35,
    "phi-3.5-mini": _MINI_35,
    "phi3.5-vision": _VISION_35,
    "phi3.5:vision": _VISION_35,
    "phi-3.5-vision": _VISION_35,
    "phi3.5-moe": _MOE_35,
    "phi3.5:moe": _MOE_35,
    "phi-3.5-moe": _MOE_35,
}
PUBLISHED = tuple(dict.fromkeys(SHORT_NAMES.values()))  # the ten ids of the family

# Prefixes that name another runtime or a cloud; a name with one of them never means a model of this engine.
RESERVED = ("transformers", "onnx", "openvino", "mlx", "llamacpp", "ollama", "azure", "nim", "github", "openai")

_FORM = "owner/name[:QUANTIZATION or FILE.gguf][@revision]"
_MOST_CHARACTERS = 96  # of owner/name, as on the hub
_PART = re.compile(r"[A-Za-z0-9](?:[\w.-]*[\w])?", re.ASCII)
_QUANTIZATION = re.compile(r"[A-Za-z0-9](?:[\w.-]*[\w])?", re.ASCII)
_FILE_PART = re.compile(r"[A-Za-z0-9_][\w.+()\[\], -]*", re.ASCII)
_NOT_IN_NAMES = set('\\:*?"<>|')
_REVISION_PART = re.compile(r"[\w][\w.+-]*", re.ASCII)


@dataclass(frozen=True)
class HubRef:
    """A model on the hub, or in its cache.

    repo: "owner/name".   selection: of a repository with GGUF files, a quantization such as "Q4_K_M" or a file's path
    in it; None leaves the choice to the rule in hub/files.py.   revision: a branch, a tag or a commit.
    """

    repo: str
    selection: str | None = None
    revision: str = MAIN

    def __str__(self) -> str:
        selection = f":{self.selection}" if self.selection else ""
        revision = f"@{self.revision}" if self.revision != MAIN else ""
        return self.repo + selection + revision


def short_name(repo: str) -> str | None:
    """The short name that lists show for a hub id, if it has one."""
    return next((short for short, id in SHORT_NAMES.items() if id == repo), None)


def known_reference(name: str) -> HubRef | None:
    """The reference that a short name stands for, with or without `@revision`; None for any other name."""
    short, at, revision = name.partition("@")
    if short not in SHORT_NAMES:
        return None
    return HubRef(SHORT_NAMES[short], None, _checked_revision(revision, name) if at else MAIN)


def hub_reference(name: str) -> HubRef | None:
    """The reference that a name spells, short or in full; None for one that is not of the form owner/name.

    Raises RequestError for one that begins like a reference and goes on in a way that none does.
    """
    if known := known_reference(name):
        return known
    if _begins_like_path(name) or "/" not in name.partition(":")[0]:
        return None
    rest, at, revision = name.partition("@")
    repo, colon, selection = rest.partition(":")
    parts = repo.split("/")
    if len(parts) != 2 or not all(parts) or "\\" in name or (not colon and repo.lower().endswith(".gguf")):
        return None
    if not all(_PART.fullmatch(part) for part in parts) or len(repo) > _MOST_CHARACTERS or ".." in repo or "--" in repo:
        raise RequestError(f"{shown(repo)} is no name of a repository; those of the hub are like {PUBLISHED[-1]}")
    return HubRef(
        repo,
        _checked_selection(selection, name) if colon else None,
        _checked_revision(revision, name) if at else MAIN,
    )


def refuse_reserved(name: str) -> None:
    """Raise RequestError for a name with the prefix of another runtime, where a model's own files are looked at."""
    prefix, colon, rest = name.partition(":")
    if colon and prefix in RESERVED and not rest.startswith("\\"):
        hint = f"; for a model in Ollama's own store write ollama-store:{rest}" if prefix == "ollama" else ""
        raise RequestError(
            f"{shown(name)} is a model of another runtime, and this looks into files of our own engine's models; "
            f"`slm run` and `slm compare` take it, and `slm backends` says what {prefix}: can do{hint}"
        )


def suggestion(name: str) -> str:
    """`did you mean ...?` for a name near one that is known, or ""."""
    prefix, colon, rest = name.partition(":")
    if colon and (near := get_close_matches(prefix, RESERVED, 1, cutoff=0.75)):
        return f"did you mean {near[0]}:{rest}?"
    word = name.lower().strip("/").partition("@")[0]
    ids = {id.lower(): id for id in PUBLISHED} | {id.lower().partition("/")[2]: id for id in PUBLISHED}
    known = {short: short for short in (BUNDLED, *SHORT_NAMES)} | ids
    found = get_close_matches(word, list(known), 1, cutoff=0.75)
    return f"did you mean {known[found[0]]}?" if found else ""


def check_path_in_repository(path: str, error: type[Exception], what: str) -> None:
    """Raise `error` for a file's name that could lead out of a folder, or that no file system should be given."""
    parts = path.split("/") if isinstance(path, str) else []
    plain = all(part.isprintable() and part not in ("", ".", "..") and not set(part) & _NOT_IN_NAMES for part in parts)
    if not parts or not plain or len(path) > 400:
        raise error(f"{what} {shown(path)}, which is no plain name of a file in a repository; nothing of it is fetched")


def _checked_selection(selection: str, name: str) -> str:
    if selection.lower().endswith(".gguf"):
        good = all(_FILE_PART.fullmatch(part) and ".." not in part for part in selection.split("/"))
    else:
        good = bool(_QUANTIZATION.fullmatch(selection))
    if not good or len(selection) > 300:
        raise RequestError(
            f"{shown(selection)} in {shown(name)} is neither a quantization such as Q4_K_M nor a .gguf file; "
            f"the form is {_FORM}"
        )
    return selection


def _checked_revision(revision: str, name: str) -> str:
    parts = revision.split("/")
    if not all(_REVISION_PART.fullmatch(part) for part in parts) or ".." in revision or len(revision) > 200:
        raise RequestError(
            f"{shown(revision)} in {shown(name)} is no revision: a branch, a tag or a commit; the form is {_FORM}"
        )
    return revision


def unknown(name: str, accepted: str) -> ModelNotFound:
    """The error for a name that nothing answers to."""
    hint = suggestion(name)
    if not hint and is_path(name):
        return ModelNotFound(f"there is no file or folder {shown(name)}; check the path")
    family, colon, _ = name.partition(":")
    if colon and family in SHORT_NAMES:
        tags = [short for short in SHORT_NAMES if short.startswith(f"{family}:")]
        return ModelNotFound(
            f"no model answers to {shown(name)}; {f'{hint} ' if hint else ''}{family} has {', '.join(tags)}"
        )
    hint = hint or "check the spelling; `slm models` shows the family, and ./NAME means a path"
    return ModelNotFound(f"no model answers to {shown(name)}; accepted are {accepted}; {hint}")


def is_path(name: str) -> bool:
    """Whether a name can be nothing but a path: by how it begins, by `.gguf` at its end, by its many parts."""
    return _begins_like_path(name) or name.lower().endswith(".gguf") or name.count("/") > 1


def _begins_like_path(name: str) -> bool:
    return name[:1] in ("/", ".", "~", "\\") or bool(re.match(r"[A-Za-z]:[\\/]", name))
