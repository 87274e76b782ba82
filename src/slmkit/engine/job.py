"""One request inside the engine: its sequences, and what it tells its caller. sample.py and beam.py move it on."""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.images import Place, PromptImages
from slmkit.engine.outbox import Outbox
from slmkit.engine.sampling import Draw, likeliest, random_numbers
from slmkit.engine.sequence import Sequence
from slmkit.errors import RequestError
from slmkit.events import Finished, Logprob, Started, Timing, TokenInfo, Usage
from slmkit.ops import reference
from slmkit.text.detokenize import Detokenizer
from slmkit.text.stops import StopMatcher

if TYPE_CHECKING:
    from slmkit.engine.cache import Cache
    from slmkit.engine.constrain import Guide
    from slmkit.options import Options
    from slmkit.request import LogitsProcessor, Scorer
    from slmkit.text.tokenizer import Tokenizer

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """What the engine is asked: a request after template, tokenizer and defaults.

    limit: most tokens to generate, so that prompt and answer fit the context.   stop_ids: all that end an answer.
    continues: the answer goes on from the prompt's text, so a first space belongs to it.
    images: where they stand among the ids, which are negative there.
    adapter: the one that answers, by its name; "" for the model alone.
    n_shared: how many leading ids other prompts are likely to begin with.
    guide: what the answer must match.
    deadline: when it must be complete, by time.perf_counter.
    prompt_logprobs: as in Request.   embeds: the text is read for its vector and not answered.
    """

    ids: tuple[int, ...]
    options: Options
    limit: int
    stop_ids: frozenset[int]
    tokenizer: Tokenizer
    continues: bool = False
    n_shared: int = 0
    processors: tuple[LogitsProcessor, ...] = ()
    scorer: Scorer | None = None
    images: tuple[Place, ...] = ()
    adapter: str = ""
    guide: Guide | None = None
    deadline: float | None = None
    prompt_logprobs: int | None = None
    embeds: bool = False


@dataclass(eq=False)
class Job:
    """A task on its way. The outbox holds what its caller has not taken yet.   draw: that of the model's ops."""

    task: Task
    outbox: Outbox = field(default_factory=Outbox)
    live: list[Sequence] = field(default_factory=list)
    cancelled: bool = False
    n_generated: int = 0  # of all its sequences together
    started: float = field(default_factory=time.perf_counter)
    first_token: float = 0.0
    draw: Draw = reference.draw

    def __post_init__(self) -> None:
        self.seed = self.task.options.seed if self.task.options.seed is not None else secrets.randbits(64)
        self.live = [self._sequence()]
        self.outbox.put(Started(len(self.task.ids)))

    @property
    def is_waiting(self) -> bool:
        """Whether an image has to be encoded before the prompt can be read."""
        return any(s.images is not None and s.images.missing is not None for s in self.live)

    @property
    def speculates(self) -> bool:
        """Whether its sequences may be given drafts, and so several rows of one step."""
        return False

    def accept(self, sequence: Sequence, logits: F32, cache: Cache) -> None:
        """Take the row of logits (vocab,) that follows the last id of a live sequence."""
        raise NotImplementedError

    def finish(self, sequence: Sequence, reason: str, cache: Cache) -> None:
        """Tell the caller that a choice is complete, and free what it held."""
        sequence.drop_cache(cache)
        self.live.remove(sequence)
        self.outbox.put(self.finished(sequence, reason))

    def close(self, cache: Cache, error: BaseException | None = None) -> None:
        """End the job: nothing more is delivered after this."""
        for sequence in self.live:
            sequence.drop_cache(cache)
        self.live.clear()
        self.outbox.put(error)

    def info(self, id: int, row: F32 | None, n_best: int | None = None) -> TokenInfo:
        """The token's text and, where a row of log probabilities is given, its own and its best rivals'.

        n_best: how many; where it is not given, as many as the options say.
        """
        n_best = self.task.options.logprobs if n_best is None else n_best
        return token_info(self.task.tokenizer, id, row, n_best or 0)

    def stamp(self) -> None:
        """Note the time of the first token."""
        self.first_token = self.first_token or time.perf_counter()

    def rng(self, index: int) -> np.random.Generator:
        """The random numbers of choice `index`: a function of the seed alone."""
        return random_numbers(self.seed, index)

    def _sequence(self) -> Sequence:
        task = self.task
        detokenizer = Detokenizer(task.tokenizer, continues=task.continues)
        stops = StopMatcher(task.options.stop or ())
        images = PromptImages(task.images) if task.images else None
        sequence = Sequence(
            list(task.ids), len(task.ids), self.rng(0), detokenizer, stops, adapter=task.adapter, images=images
        )
        sequence.guide = task.guide.fork() if task.guide else None
        return sequence

    def finished(self, sequence: Sequence, reason: str, score: float | None = None) -> Finished:
        """The event that ends a choice; the caller's scorer, where there is one, decides its score."""
        now = time.perf_counter()
        if self.task.scorer is not None:
            score = scored(self.task.scorer, sequence)
        return Finished(
            index=sequence.index,
            reason=reason,
            usage=Usage(
                sequence.n_prompt,
                sequence.n_generated,
                sequence.n_reused,
                drafted_tokens=sequence.n_drafted,
                accepted_tokens=sequence.n_accepted,
            ),
            timing=Timing((self.first_token or now) - self.started, now - self.started),
            stop=sequence.stop,
            score=score,
        )


def token_info(tokenizer: Tokenizer, id: int, row: F32 | None, n_best: int) -> TokenInfo:
    """The token's text and, where a row of log probabilities is given, its own and those of n_best likeliest ones."""

    def piece(id: int) -> str:
        return tokenizer.id_to_piece(id) or ""

    data = tokenizer.bytes_of
    if row is None:
        return TokenInfo(id, piece(id), data=data(id))
    best = likeliest(row, n_best).tolist() if n_best else []
    top = tuple(Logprob(i, piece(i), float(row[i]), data(i)) for i in best)
    return TokenInfo(id, piece(id), float(row[id]), top, data(id))


def scored(scorer: Scorer, sequence: Sequence) -> float:
    """The caller's value of a complete answer.   Raises RequestError unless it is a number."""
    value = scorer(sequence.text, tuple(sequence.ids[sequence.n_prompt :]), sequence.logprob)
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if math.isnan(score):
        name = getattr(scorer, "__name__", type(scorer).__name__)
        raise RequestError(f"the scorer {name} returned {value!r}; return a number, higher for better answers")
    return score
