"""Bars as inline SVG: one for each model, its value written beside it, so that no colour has to be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, LEFT, RIGHT = 720, 230, 90  # of the drawing; of names and of values, in units of it
ROW, BAR = 30, 18
MOST_LETTERS = 30  # of a name


def bars(title: str, unit: str, values: Sequence[tuple[str, float | None]]) -> str:
    """An SVG of (name, value) pairs; None is shown as a dash.   unit: of the values.

    Its colours are the page's own (`currentColor` and `--bar`); `<desc>` says it in words.
    """
    most = max((value for _, value in values if value is not None), default=0.0) or 1.0
    height = ROW * len(values)
    told = "; ".join(f"{name}: {_number(value, unit)}" for name, value in values)
    rows = "".join(_row(i, name, value, most, unit) for i, (name, value) in enumerate(values))
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{rows}</svg>"
    )


def _row(i: int, name: str, value: float | None, most: float, unit: str) -> str:
    middle = i * ROW + ROW / 2
    length = (WIDTH - LEFT - RIGHT) * (value or 0.0) / most
    short = name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"
    return (
        f'<text x="{LEFT - 10}" y="{middle:g}" text-anchor="end" dominant-baseline="central">{escape(short)}</text>'
        f'<rect x="{LEFT}" y="{middle - BAR / 2:g}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        f'<text x="{LEFT + length + 8:.1f}" y="{middle:g}" dominant-baseline="central">'
        f"{escape(_number(value, unit))}</text>"
    )


def _number(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.3g} {unit}"
