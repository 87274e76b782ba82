"""Remove a pulled model, one made with `slm create`, packed copies, or kept system prompts.

The hub's cache is shared with other programs: what two models share stays while one of them is there. Packed copies
(--packed) are made again when their model is next loaded, system prompts (--prompts) when they are next read.
"""

from __future__ import annotations

import os
from shlex import quote
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.errors import ModelNotFound, RequestError, SlmError

if TYPE_CHECKING:
    import argparse

    from slmkit.weights.hub.inventory import Cached
    from slmkit.weights.names import HubRef
    from slmkit.weights.packed_copies import PackedCopy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a name that `slm list` shows")
    parser.add_argument("--packed", action="store_true", help="only packed copies: those of MODEL, or all of them")
    parser.add_argument("--prompts", action="store_true", help="only the system prompts that are kept for the next run")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    if args.prompts:
        if args.packed or args.model is not None:
            raise RequestError("--prompts removes all kept system prompts; leave MODEL and --packed out")
        return _remove_prompts(args.yes)
    if args.packed:
        return _remove_copies(args.model, args.yes)
    if args.model is None:
        raise RequestError("MODEL is missing; give a name that `slm list` shows, --packed or --prompts")
    return _remove_model(args.model, args.yes)


def _remove_model(name: str, yes: bool) -> int:
    from slmkit.weights.hub.files import size_text
    from slmkit.weights.hub.layout import hub_folder
    from slmkit.weights.hub.removal import remove
    from slmkit.weights.named.store import find_named, forget
    from slmkit.weights.packed_copies import remove_copies

    if named := find_named(name):
        _ask(f"{named.name}, which was made from {named.parent} (that stays)", yes)
        forget(named.name)
        terminal.write(f"removed {named.name}\n")
        return 0
    ref, model = _in_cache(name)
    if model is None:
        return _remove_unfinished(ref, yes)
    copies = _copies(str(model.ref), model)
    packed = f" and {_amount(copies)}" if copies else ""
    _ask(f"{model.ref}, {size_text(model.n_bytes)} in {hub_folder()} (shared with other programs){packed}", yes)
    freed = remove(model.ref) + remove_copies(copies)
    terminal.write(f"removed {model.ref}: {size_text(freed)} freed\n")
    return 0


def _remove_unfinished(ref: HubRef, yes: bool) -> int:
    """What an interrupted pull left of a model that is not here otherwise."""
    from slmkit.weights.hub.files import size_text
    from slmkit.weights.hub.layout import hub_folder
    from slmkit.weights.hub.removal import remove_unfinished, unfinished

    files = unfinished(ref)
    if not files:
        raise ModelNotFound(f"{ref} was not pulled, so there is nothing to remove; `slm list` shows what there is")
    _ask(f"the unfinished pull of {ref.repo}, {size_text(sum(files.values()))} in {hub_folder()}", yes)
    terminal.write(f"removed the unfinished pull of {ref.repo}: {size_text(remove_unfinished(ref, files))} freed\n")
    return 0


def _remove_copies(name: str | None, yes: bool) -> int:
    from slmkit.weights.hub.files import size_text
    from slmkit.weights.packed_copies import packed_copies, remove_copies

    copies = packed_copies() if name is None else _copies(name)
    if not copies:
        terminal.write(f"there is no packed copy{f' of {name}' if name else ''}\n")
        return 0
    _ask(_amount(copies), yes)
    terminal.write(f"removed {_amount(copies).partition(',')[0]}: {size_text(remove_copies(copies))} freed\n")
    return 0


def _remove_prompts(yes: bool) -> int:
    from slmkit.weights.hub.files import size_text
    from slmkit.weights.prompt_store import prompt_folder, remove_prompts, stored_prompts

    prompts = stored_prompts()
    if not prompts:
        terminal.write("there is no kept system prompt\n")
        return 0
    named = f"{len(prompts)} system prompt{'s' if len(prompts) > 1 else ''}"
    _ask(f"{named}, {size_text(sum(prompt.n_bytes for prompt in prompts))} in {prompt_folder()}", yes)
    terminal.write(f"removed {named}: {size_text(remove_prompts(prompts))} freed\n")
    return 0


def _ask(what: str, yes: bool) -> None:
    """Go on if the user wants it. Raises RequestError if not, or where nobody can be asked."""
    if yes:
        return
    if not terminal.is_interactive():
        raise RequestError(f"this would remove {what}; --yes does it")
    terminal.write(f"remove {what}? [y/N] ")
    try:
        answer = input()
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise RequestError("nothing was removed")


def _amount(copies: list[PackedCopy]) -> str:
    from slmkit.weights.cache import cache_folder
    from slmkit.weights.hub.files import size_text

    size = size_text(sum(copy.n_bytes for copy in copies))
    return f"{len(copies)} packed cop{'ies' if len(copies) > 1 else 'y'}, {size} in {cache_folder()}"


def _in_cache(name: str) -> tuple[HubRef, Cached | None]:
    """What a name means, and the one model in the hub's cache that it means. Raises RequestError, ModelNotFound."""
    from slmkit.weights.hub.inventory import cached
    from slmkit.weights.names import hub_reference

    _refuse_others(name)
    ref = hub_reference(name)
    if ref is None:
        raise ModelNotFound(f"no pulled model is called {name!r}; `slm list` shows what there is")
    there = [model for model in cached() if _means(ref, model.ref)]
    exact = [model for model in there if model.ref == ref]
    if len(exact or there) > 1:
        names = ", ".join(str(model.ref) for model in there)
        raise RequestError(f"{ref} means several models here: {names}; give one of these names")
    return ref, next(iter(exact or there), None)


def _means(asked: HubRef, there: HubRef) -> bool:
    same = (asked.repo.lower(), asked.revision) == (there.repo.lower(), there.revision)
    return same and (asked.selection is None or asked.selection.lower() == (there.selection or "").lower())


def _refuse_others(name: str) -> None:
    """Raise RequestError for what is not ours to remove."""
    from slmkit.weights.names import BUNDLED, known_reference
    from slmkit.weights.ollama.names import PREFIX, Name

    if name == BUNDLED:
        raise RequestError(f"{BUNDLED} comes with slmkit and goes with it: `pip uninstall slmkit`")
    if name.startswith(PREFIX):
        Name.parse(name.removeprefix(PREFIX))
        raise RequestError(
            f"slmkit never writes to Ollama's store; `ollama rm {name.removeprefix(PREFIX)}` removes that model "
            f"(`slm rm {name} --packed` a packed copy of it)"
        )
    if known_reference(name) is None and os.path.lexists(os.path.expanduser(name)):
        raise RequestError(
            f"{name} is a path of yours, which slmkit does not remove; delete it yourself "
            f"(`slm rm {quote(name)} --packed` removes a packed copy of it)"
        )


def _copies(name: str, model: Cached | None = None) -> list[PackedCopy]:
    """The packed copies of a model; none of one whose weights cannot be opened any more, where it is to go itself."""
    from slmkit.sources.find import source_of
    from slmkit.weights.locate import Found, locate
    from slmkit.weights.packed_copies import copies_of

    if model is None:
        return copies_of(source_of(locate(name, offline=True)).tensors)
    try:
        return copies_of(source_of(Found(name, model.path)).tensors)
    except SlmError:
        return []
