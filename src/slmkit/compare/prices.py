"""What an answer costs, where somebody charges for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmkit.errors import OptionError
from slmkit.untrusted import shown

if TYPE_CHECKING:
    from slmkit.events import Usage


@dataclass(frozen=True)
class Price:
    """For a million tokens of prompts, and of answers; in whatever unit they are charged in."""

    prompt: float
    answer: float

    def of(self, usage: Usage) -> float:
        """prompt_tokens * prompt / 1e6 + completion_tokens * answer / 1e6; cached tokens count like the others."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.answer) / 1e6


def prices_of(given: Iterable[str]) -> dict[str, Price]:
    """Prices by model, each written MODEL=IN/OUT.   Raises OptionError."""
    prices = {}
    for text in given:
        name, _, amounts = text.rpartition("=")
        try:
            prompt, answer = (float(part) for part in amounts.split("/"))
        except ValueError:
            prompt = answer = math.nan
        if not name or not (0 <= prompt < math.inf and 0 <= answer < math.inf):
            raise OptionError(
                f"price is {shown(text)}; it takes MODEL=IN/OUT, what a million tokens of prompts and of answers cost, "
                "as in openai:some-model=0.15/0.60"
            )
        prices[name] = Price(prompt, answer)
    return prices


def require_models(prices: Mapping[str, Price], names: Iterable[str]) -> None:
    """Raise OptionError for a price of a model that does not take part."""
    known = [*names]
    for name in prices:
        if name not in known:
            raise OptionError(
                f"there is a price for {shown(name)}, which does not take part; the models are {', '.join(known)}"
            )
