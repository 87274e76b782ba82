"""A comparison as one HTML page that needs nothing else: no script, no font, no image from anywhere."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from slmkit.compare.chart import bars
from slmkit.compare.figures import COLUMNS, cell, row_figures

if TYPE_CHECKING:
    from slmkit.compare.cases import Case
    from slmkit.compare.side_by_side import Column, Comparison, Row

# Control characters but newline and tab, which HTML does not allow, and those that turn the order of writing.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

# Contrast is 4.5 to 1 or more for all text, in both schemes; tests/compare/test_page.py computes it.
COLOURS = {
    "light": {"--page": "#ffffff", "--text": "#1b1f24", "--quiet": "#57606a", "--line": "#d0d7de", "--box": "#f6f8fa",
              "--bar": "#2c6bb3", "--error": "#b3261e"},
    "dark": {"--page": "#14181d", "--text": "#e6e9ed", "--quiet": "#a3adb8", "--line": "#3a424b", "--box": "#1d232a",
             "--bar": "#6ea8e6", "--error": "#ff8a80"},
}  # fmt: skip
_STYLE = """
body { margin: 0 auto; padding: 1.5rem; max-width: 100rem; font: 16px/1.5 system-ui, sans-serif;
       background: var(--page); color: var(--text); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding-bottom: .4rem; }
th, td { text-align: right; padding: .35rem .8rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5rem 0; max-width: 45rem; overflow-x: auto; } figcaption { color: var(--quiet); }
svg { width: 100%; min-width: 34rem; height: auto; font: 13px system-ui, sans-serif; } svg text { fill: currentColor; }
svg rect { fill: var(--bar); }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem;
           margin-top: 1rem; }
.answers article, .asked { background: var(--box); border: 1px solid var(--line); border-radius: .5rem;
                           padding: .8rem 1rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.figures, .role { color: var(--quiet); font-size: .875rem; margin: .6rem 0 0; }
.error { color: var(--error); } td.error { text-align: left; }
"""


def page(comparison: Comparison) -> str:
    """The whole page."""
    names = [column.entry.label for column in comparison.columns]
    title = f"{_text(' · '.join(names))}: the same prompts"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{_colours()}{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n{_note(comparison)}{_table(comparison)}{_charts(comparison)}{_agreement(comparison)}"
        + "".join(_case(comparison, place, case) for place, case in enumerate(comparison.cases))
        + "</main>\n</body>\n</html>\n"
    )


def _colours() -> str:
    light, dark = ("".join(f"{name}: {value}; " for name, value in COLOURS[k].items()) for k in ("light", "dark"))
    return f":root {{ {light}}}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}"


def _note(comparison: Comparison) -> str:
    options = ", ".join(f"{name} {value}" for name, value in comparison.options.set_values().items())
    stopped = '<p class="error">Stopped before it was complete.</p>\n' if comparison.interrupted else ""
    return f"<p>Options of every answer: {_text(options)}. Models ran one after the other.</p>\n{stopped}"


def _table(comparison: Comparison) -> str:
    heads = "".join(f'<th scope="col">{_text(head)}</th>' for head in ("model", *COLUMNS))
    return (
        '<h2>Figures</h2>\n<div class="scroll" tabindex="0" role="region" aria-label="Figures of each model">\n'
        "<table>\n<caption>Speed and time to the first token: the median over the prompts, as they were waited for. "
        f"Memory: of this process, for models that run in it.</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n"
        + "".join(_table_row(column, comparison) for column in comparison.columns)
        + "</tbody>\n</table>\n</div>\n"
    )


def _table_row(column: Column, comparison: Comparison) -> str:
    name = f'<th scope="row">{_text(column.entry.label)}</th>'
    if column.error:
        return f'<tr>{name}<td class="error" colspan="{len(COLUMNS)}">{_text(column.error)}</td></tr>\n'
    cells = "".join(f"<td>{_text(cell(head, column, len(comparison.cases)))}</td>" for head in COLUMNS)
    return f"<tr>{name}{cells}</tr>\n"


def _charts(comparison: Comparison) -> str:
    columns = comparison.columns
    charts = (
        ("Tokens a second (longer is better)", "tokens/s", [(c.entry.label, c.tokens_per_s) for c in columns]),
        ("Time to the first token (shorter is better)", "s", [(c.entry.label, c.first_token_s) for c in columns]),
    )
    return "".join(
        f'<figure tabindex="0"><figcaption>{escape(title)}</figcaption>'
        f"{bars(title, unit, [(_plain(n), v) for n, v in values])}</figure>\n"
        for title, unit, values in charts
    )


def _agreement(comparison: Comparison) -> str:
    if not comparison.pairs:
        return ""
    labels = [column.entry.label for column in comparison.columns]
    rows = "".join(
        f'<tr><th scope="row">{_text(labels[p.a])} and {_text(labels[p.b])}</th><td>{p.prompts}</td>'
        f"<td>{p.same:.0%}</td><td>{p.chrf:.3f}</td></tr>\n"
        for p in comparison.pairs
    )
    return (
        "<h2>Agreement</h2>\n<table>\n<caption>Equal: the share of answers that are the same. chrF1: characters in "
        "common, in runs of 1 to 6, from 0 to 1 (Popović 2015, beta 1).</caption>\n"
        '<thead><tr><th scope="col">models</th><th scope="col">prompts</th><th scope="col">equal</th>'
        f'<th scope="col">chrF1</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n'
    )


def _case(comparison: Comparison, place: int, case: Case) -> str:
    asked = "".join(
        f'<p class="role">{_text(message.role)}</p><div class="text" dir="auto">{_text(message.content)}</div>\n'
        + "".join(f'<p class="role">image: {_text(str(image.name))}</p>\n' for image in message.images)
        for message in case.messages
    )
    answers = "".join(_article(column, place) for column in comparison.columns)
    return (
        f'<section>\n<h2>{_text(case.name)}</h2>\n<div class="asked">{asked}</div>\n'
        f'<div class="answers">\n{answers}</div>\n</section>\n'
    )


def _article(column: Column, place: int) -> str:
    row = next((row for row in column.rows if row.case == place), None)
    return f"<article>\n<h3>{_text(column.entry.label)}</h3>\n{_answer(column, row)}</article>\n"


def _answer(column: Column, row: Row | None) -> str:
    if row is None:
        return f'<p class="error">{_text(column.error or "not asked")}</p>\n'
    if row.error:
        return f'<p class="error">{_text(row.error)}</p>\n'
    return f'<div class="text" dir="auto">{_text(row.text)}</div>\n<p class="figures">{_text(row_figures(row))}</p>\n'


def _text(text: str) -> str:
    return escape(_plain(text))


def _plain(text: str) -> str:
    return _UNSHOWN.sub("\ufffd", text)
