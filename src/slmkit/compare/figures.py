"""The figures of a comparison in words, the same on the terminal and on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slmkit.compare.side_by_side import Column, Row

COLUMNS = ("answered", "tokens/s", "first token", "total", "load", "memory", "cost")
NONE = "–"


def cell(head: str, column: Column, n_prompts: int) -> str:
    """The figure under a head of COLUMNS."""
    if head == "answered":
        return "failed" if column.error else f"{len(column.answered)} of {n_prompts}"
    if head == "tokens/s":
        return NONE if column.tokens_per_s is None else f"{column.tokens_per_s:,.1f}"
    if head == "memory":
        return NONE if column.memory_bytes is None else f"{column.memory_bytes / 1e6:,.0f} MB"
    if head == "cost":
        return NONE if column.cost is None else f"{column.cost:.6f}"
    seconds = {"first token": column.first_token_s, "total": column.total_s, "load": column.load_s}[head]
    return NONE if seconds is None else f"{seconds:.2f} s"


def row_figures(row: Row) -> str:
    """What one answer took, in a line."""
    speed = f", {row.tokens_per_s:,.1f} tokens/s" if row.tokens_per_s is not None else ""
    cost = f", cost {row.cost:.6f}" if row.cost is not None else ""
    return (
        f"{row.usage.prompt_tokens} + {row.usage.completion_tokens} tokens, first after {row.first_token_s:.2f} s"
        f"{speed}, {row.total_s:.2f} s in all, ended by {row.reason}{cost}"
    )
