"""Imports point down the folder list of docs/design.md, never up."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "slmkit"


def layers() -> list[str]:
    """The folders and files of the page, the top first."""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    lines = page[page.index("    __init__.py ") :].split("\n\n")[0].splitlines()
    names = []
    for line in lines:  # a name and what it is for, or several names
        words = line.split("  ")
        first = [word.strip() for word in words if word.strip()]
        names += [word for word in first if re.fullmatch(r"\w+(/|\.py)", word)]
    return [name.removesuffix("/").removesuffix(".py") for name in names]


ORDER = layers()


def imported(path: Path) -> set[str]:
    """The folders and files of ours that a file imports, for types alone and inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    names = {name.split(".")[1] for name in found if name.startswith("slmkit.")}
    # `from slmkit import __version__, load`: the public names, which any file above `model` may use as users do
    return {name if name in ORDER else "__init__" for name in names}


def test_the_page_lists_every_folder_and_file():
    there = {p.stem for p in SOURCE.iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.glob("*.py")))}
    assert there - {"__main__"} == set(ORDER)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path):
    home = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if home in ("__init__", "__main__"):
        return
    above_model = ORDER.index(home) < ORDER.index("model")
    for name in imported(path) - {home}:
        users = above_model and name == "__init__"
        assert users or ORDER.index(name) > ORDER.index(home), f"{home} imports {name}, which stands above it"


def test_torch_is_imported_in_train_alone():
    """And by the verb that runs it, which says how to install it, and by the backend that is about it."""
    for path in set(SOURCE.rglob("*.py")) - {SOURCE / "cli" / "train.py", SOURCE / "backends" / "transformers.py"}:
        modules = re.findall(
            r"^ *(?:import|from) (torch|transformers)\b", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert not modules or path.is_relative_to(SOURCE / "train"), path
