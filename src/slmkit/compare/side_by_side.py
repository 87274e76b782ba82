"""The same prompts put to several models, one after the other, with what each took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from slmkit.compare.agreement import Pair, pairs
from slmkit.compare.cases import Case, cases_of, with_open_images
from slmkit.compare.entry import Entry, Open, collect_garbage, entries_of, open_entry, resident_bytes, told
from slmkit.compare.prices import Price, require_models
from slmkit.errors import RequestError
from slmkit.events import Choice, Chunk, Timing, Usage, collect
from slmkit.options import LoadOptions, Options
from slmkit.request import Message, Request
from slmkit.vision.fetch import Fetching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slmkit.events import Event
    from slmkit.model import Model

# Where the caller says nothing: two models sampled by their own defaults would differ by chance.
DEFAULTS = Options(temperature=0.0, max_tokens=512)


@dataclass(frozen=True)
class Row:
    """One model's answer to one prompt, or why there is none.

    case: the prompt's place.   reason: as Finished has it, "" where it failed.
    first_token_s, total_s: as this process waited for them, network included.   timing: as the backend tells it.
    cost: in the unit of the price; None where there is none.   exit_code: that of the error, 0 without one.
    """

    case: int
    text: str = ""
    reason: str = ""
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    timing: Timing = field(default_factory=lambda: Timing(0.0, 0.0))
    first_token_s: float = 0.0
    total_s: float = 0.0
    cost: float | None = None
    error: str = ""
    exit_code: int = 0

    @property
    def tokens_per_s(self) -> float | None:
        """Of the tokens after the first one, which comes with the prompt; None for an answer of one."""
        rest, seconds = self.usage.completion_tokens - 1, self.total_s - self.first_token_s
        return rest / seconds if rest > 0 and seconds > 0 else None

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"tokens_per_s": self.tokens_per_s}


@dataclass
class Column:
    """One model and its answers.

    facts: what it says of itself.   load_s: None where it was not opened.
    memory_bytes: the most that this process held after opening it and after each answer; None if it runs elsewhere.
    error, exit_code: of opening it.   rows: as many as it has come to.
    """

    entry: Entry
    facts: dict[str, Any] = field(default_factory=dict)
    load_s: float | None = None
    memory_bytes: int | None = None
    error: str = ""
    exit_code: int = 0
    rows: list[Row] = field(default_factory=list)

    @property
    def answered(self) -> list[Row]:
        """Those that are answers."""
        return [row for row in self.rows if not row.error]

    @property
    def tokens_per_s(self) -> float | None:
        """The median over its answers."""
        return _median([row.tokens_per_s for row in self.answered])

    @property
    def first_token_s(self) -> float | None:
        """The median over its answers."""
        return _median([row.first_token_s for row in self.answered])

    @property
    def total_s(self) -> float | None:
        """Of all its answers together."""
        return sum(row.total_s for row in self.answered) if self.answered else None

    @property
    def cost(self) -> float | None:
        """Of all its answers together."""
        costs = [row.cost for row in self.answered if row.cost is not None]
        return sum(costs) if costs else None

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        named = ("tokens_per_s", "first_token_s", "total_s", "cost", "load_s", "memory_bytes", "error")
        return {
            "model": self.entry.name,
            "label": self.entry.label,
            "load_options": {k: v for k, v in vars(self.entry.options).items() if v is not None},
            "facts": self.facts,
            **{name: getattr(self, name) for name in named},
            "answers": [row.as_dict() for row in self.rows],
        }


class Comparison:
    """Prompts and models, and the answers there are so far: also after an interruption.

    columns: one for each model, in order.   interrupted: somebody stopped it.
    """

    def __init__(
        self,
        models: Sequence[str | Entry],
        prompts: Any,
        options: Options | None = None,
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        """Raises RequestError."""
        self.columns = [Column(entry) for entry in entries_of(models)]
        if not self.columns:
            raise RequestError("there is no model to compare; name at least one")
        first = self.columns[0].entry.options
        fetching = Fetching(private=bool(first.private_urls), offline=bool(first.offline))
        self.cases = with_open_images(cases_of(prompts), fetching)
        self.options = (options or Options()).over(DEFAULTS)
        if (self.options.n or 1) > 1:
            raise RequestError(f"n is {self.options.n}, and a comparison has one answer of each model; leave it out")
        self.prices = dict(prices or {})
        require_models(self.prices, [column.entry.name for column in self.columns])
        self.interrupted = False

    @property
    def exit_code(self) -> int:
        """0 if every model has answered every prompt; else that of the first error."""
        codes = (code for c in self.columns for code in (c.exit_code, *(row.exit_code for row in c.rows)))
        return next((code for code in codes if code), 0)

    @property
    def pairs(self) -> list[Pair]:
        """How much the models agree, two and two."""
        return pairs([{row.case: row.text for row in column.answered} for column in self.columns])

    def run(self, open: Open = open_entry, tell: Callable[[Column, Row | None], None] | None = None) -> None:
        """Open each model, put every prompt to it, and close it again.

        tell: called with each answer as it comes, and without one when a model is open or cannot be opened.
        A KeyboardInterrupt goes on to the caller; what there is stays.
        """
        say = tell or (lambda column, row: None)
        try:
            for column in self.columns:
                self._fill(column, open, say)
        except KeyboardInterrupt:
            self.interrupted = True
            raise

    def _fill(self, column: Column, open: Open, say: Callable[[Column, Row | None], None]) -> None:
        collect_garbage()
        began = time.perf_counter()
        try:
            model = open(column.entry)
        except Exception as error:
            column.error, column.exit_code = told(error)
            say(column, None)
            return
        with model:
            column.load_s, column.facts = time.perf_counter() - began, model.describe()
            say(column, None)
            if column.entry.runs_here:
                _warm_up(model)
                column.memory_bytes = resident_bytes()
            price = self.prices.get(column.entry.name)
            for place, case in enumerate(self.cases):
                column.rows.append(_answer(model, place, case, self.options, price))
                if column.memory_bytes is not None:
                    column.memory_bytes = max(column.memory_bytes, resident_bytes())
                say(column, column.rows[-1])

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "options": self.options.set_values(),
            "prices": {name: asdict(price) for name, price in self.prices.items()},
            "prompts": [
                {"name": case.name, "messages": [_told(message) for message in case.messages]} for case in self.cases
            ],
            "models": [column.as_dict() for column in self.columns],
            "agreement": [asdict(pair) for pair in self.pairs],
            "interrupted": self.interrupted,
        }


def compare(
    models: Sequence[str | Entry],
    prompts: Any,
    *,
    options: Options | None = None,
    load_options: LoadOptions | None = None,
    prices: Mapping[str, Price] | None = None,
    tell: Callable[[Column, Row | None], None] | None = None,
) -> Comparison:
    """The answers of every model to every prompt, with speed, memory, cost and agreement.

    models: names with their prefixes, or Entries.   prompts: texts, conversations or Cases.
    options: the same for each; temperature is 0 and max_tokens 512 where it does not say.
    load_options: for those models that are given by name.   prices: model -> Price.   tell: as in Comparison.run.
    A model that fails has its error in its column. Raises RequestError for what no model could be asked.
    """
    comparison = Comparison(entries_of(models, load_options), prompts, options, prices)
    comparison.run(tell=tell)
    return comparison


def _answer(model: Model, place: int, case: Case, options: Options, price: Price | None) -> Row:
    began = time.perf_counter()
    first = 0.0

    def watched(events: Iterator[Event]) -> Iterator[Event]:
        nonlocal first
        for event in events:
            if isinstance(event, Chunk):
                first = first or time.perf_counter()
            yield event

    try:
        with closing(model.events(Request(messages=case.messages, options=options))) as events:
            choices = collect(watched(events)).choices
    except Exception as error:
        line, code = told(error)
        return Row(place, error=line, exit_code=code)
    choice, ended = choices[0] if choices else Choice(), time.perf_counter()
    return Row(
        case=place,
        text=choice.text,
        reason=choice.reason,
        usage=choice.usage,
        timing=choice.timing,
        first_token_s=(first or ended) - began,
        total_s=ended - began,
        cost=price.of(choice.usage) if price else None,
    )


def _warm_up(model: Model) -> None:
    """One token, so that the first prompt does not pay for reading the weights from the disk."""
    asked = Options(max_tokens=1)
    hello = Request(messages=(Message("user", "Hello"),), options=asked)
    try:
        with closing(model.events(hello)) as events:
            collect(events)
    except Exception:
        return  # whatever is wrong shows with the first prompt


def _told(message: Message) -> dict[str, Any]:
    facts: dict[str, Any] = {"role": message.role, "content": message.content}
    return facts | ({"images": [image.name for image in message.images]} if message.images else {})


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
