"""A comparison on the terminal: answers beside each other where there is room, else one below the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slmkit.cli.models import render
from slmkit.cli.terminal import neutral
from slmkit.compare.figures import COLUMNS, cell, row_figures

if TYPE_CHECKING:
    from slmkit.compare.cases import Case
    from slmkit.compare.side_by_side import Column, Comparison

LEAST_WIDTH = 28  # columns that an answer takes to be read with ease
_MOST_ASKED = 600  # characters of a prompt that are shown


def beside(comparison: Comparison, width: int) -> str:
    """All of it as text of at most so many columns."""
    cases = "".join(_case(comparison, place, case, width) for place, case in enumerate(comparison.cases))
    return cases + _figures(comparison, width) + _agreement(comparison, width)


def _case(comparison: Comparison, place: int, case: Case, width: int) -> str:
    text = case.text if len(case.text) <= _MOST_ASKED else f"{case.text[:_MOST_ASKED]} …"
    images = f" [images: {', '.join(str(image.name) for image in case.images)}]" if case.images else ""
    asked = render(_plain(f"{case.name}: {text}{images}"), width)
    columns = comparison.columns
    across = len(columns) * (LEAST_WIDTH + 3) + 1 <= width
    tables = [columns] if across else [[column] for column in columns]
    return asked + "".join(_answers(table, place, width) for table in tables) + "\n"


def _answers(columns: list[Column], place: int, width: int) -> str:
    from rich import box
    from rich.table import Table

    table = Table(box=box.ROUNDED, expand=True, show_lines=True)
    for column in columns:
        table.add_column(_plain(column.entry.label), ratio=1, overflow="fold")
    found = [_answer(column, place) for column in columns]
    table.add_row(*(_plain(text) for text, _ in found))
    if any(figures for _, figures in found):
        table.add_row(*(_plain(figures) for _, figures in found))
    return render(table, width)


def _answer(column: Column, place: int) -> tuple[str, str]:
    """What is shown of it, and its figures."""
    row = next((row for row in column.rows if row.case == place), None)
    if row is None:
        return f"FAILED: {column.error}" if column.error else "not asked", ""
    return (f"FAILED: {row.error}", "") if row.error else (row.text.strip(), row_figures(row))


def _figures(comparison: Comparison, width: int) -> str:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    shown = [head for head in COLUMNS if head != "cost" or comparison.prices]
    for head in shown:
        table.add_column(head, justify="right")
    for column in comparison.columns:
        cells = (cell(head, column, len(comparison.cases)) for head in shown)
        table.add_row(_plain(column.entry.label), *cells)
    return render(table, width)


def _agreement(comparison: Comparison, width: int) -> str:
    if not comparison.pairs:
        return ""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("agreement", overflow="fold")
    for head in ("prompts", "equal", "chrF1"):
        table.add_column(head, justify="right")
    labels = [column.entry.label for column in comparison.columns]
    for pair in comparison.pairs:
        name = _plain(f"{labels[pair.a]} and {labels[pair.b]}")
        table.add_row(name, str(pair.prompts), f"{pair.same:.0%}", f"{pair.chrf:.3f}")
    return "\n" + render(table, width)


def _plain(text: str) -> Any:
    """Text in which square brackets mean nothing, and control characters move no cursor."""
    from rich.text import Text

    return Text(neutral(text))
