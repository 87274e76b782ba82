"""The engine's step: plan, forward, sample, deliver."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.constrain import Preparer
from slmkit.engine.drafts import Drafter
from slmkit.engine.images import Encoder
from slmkit.engine.reading import Rows, Scores
from slmkit.engine.scheduler import STEP_TOKENS, Work, schedule
from slmkit.errors import DeadlineExceeded, ModelError, RuntimeFailure
from slmkit.layers.lora import spans_among, spans_of
from slmkit.layers.step import Features, Span, Step, Strand
from slmkit.ops.segments import BLOCK, Segments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slmkit.engine.cache import Cache
    from slmkit.engine.job import Job
    from slmkit.engine.prompts import Prompts
    from slmkit.engine.sequence import Sequence

F32 = NDArray[np.float32]


@dataclass
class Counts:
    """What an engine has done since it was made. Other threads may read it.

    running: jobs of which something is read.   ended: jobs.   pace: seconds from one's end to the next, as of late.
    prompt_tokens: of prompts that were read to their end.   reused_tokens: those of them that were not computed again.
    preemptions: how often a sequence lost its blocks to one before it.
    """

    running: int = 0
    ended: int = 0
    pace: float = 1.0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    steps: int = 0


class Engine:
    """A model, its cache and the jobs under way. One thread calls it; see worker.py."""

    def __init__(
        self, model: Any, cache: Cache, step_tokens: int = STEP_TOKENS, prompts: Prompts | None = None
    ) -> None:
        self.model, self.cache, self.step_tokens, self.prompts = model, cache, step_tokens, prompts
        self.drafter = Drafter(model.rope)
        self.encoder = Encoder(model)
        self.preparer = Preparer()
        self.counts = Counts()
        self.jobs: list[Job] = []
        self._ended_at = time.perf_counter()
        self._new: list[Job] = []

    def add(self, job: Job) -> None:
        """Take a job in; it advances with the next steps."""
        self.jobs.append(job)
        job.draw = self.model.ops.draw
        self.encoder.admit(job)
        if job.task.prompt_logprobs is not None:
            job.live[0].reader = Scores(list(job.live[0].ids), partial(job.info, n_best=job.task.prompt_logprobs))
        self._new.append(job)

    def step(self) -> None:
        """Advance every job that the plan has room for."""
        self._drop_lost()
        self._encode()
        self._rebuild_crossed()
        self._lend()
        self._begin_new()
        ready = [job for job in self.jobs if not job.is_waiting]
        self.drafter.draft(ready)
        plan = self._plan([s for job in ready for s in job.live])
        if ready and not plan:
            raise RuntimeFailure("no request under way can go on, which is a fault in slmkit; please report it")
        if plan:
            complete = [(self._owner(work.sequence), work) for work in plan if work.is_complete]
            began = time.perf_counter()
            with self.preparer.meanwhile([work.sequence.guide for _, work in complete if work.sequence.guide]):
                logits = forward(self.model, self.cache, plan)
            self.drafter.note(plan, time.perf_counter() - began)
            for work in plan:
                work.sequence.note_read(work.count, self.cache)
            if self.prompts:
                self.prompts.note()
            # NaN shows in a row's maximum too; -inf is the logit of an id that is never chosen
            rows = zip(logits, np.isfinite(logits.max(axis=1, initial=-np.inf)).tolist(), strict=True)
            for job, work in complete:
                self._accept_all(job, work, list(islice(rows, 1 + len(work.draft))))
        self._close_finished()
        self.counts.steps += 1
        self.counts.running = sum(any(s.n_cached for s in job.live) for job in self.jobs)

    def rest(self) -> None:
        """Nothing is under way, and nothing has come."""
        if self.prompts:
            self.prompts.rest()

    def close(self) -> None:
        """Put away what was read of prompts.   Raises SlmError where that cannot be done."""
        self.preparer.close()
        if self.prompts:
            self.prompts.close()

    def fail(self, message: str, cause: BaseException | None = None) -> None:
        """End every job with a RuntimeFailure of its own: an exception is raised in one thread only."""
        for job in list(self.jobs):
            error = RuntimeFailure(message)
            error.__cause__ = cause
            self._end(job, error)

    def _plan(self, lines: list[Sequence]) -> list[Work]:
        begun = [line for line in lines if line.n_cached]
        plan = schedule(lines, self.cache, self.step_tokens, self.cache.prefixes.followers(lines))
        self.counts.preemptions += sum(not line.n_cached for line in begun)
        return plan

    def _drop_lost(self) -> None:
        """End the jobs that nobody waits for any more, or should."""
        now = time.perf_counter()
        for job in list(self.jobs):
            if job.cancelled:
                self._end(job)
            elif job.task.deadline is not None and now > job.task.deadline:
                self._end(job, DeadlineExceeded(
                    f"the deadline passed after {job.n_generated} tokens of the answer, which is not complete; "
                    "allow more time with deadline_s, or lower max_tokens"
                ))  # fmt: skip

    def _encode(self) -> None:
        """A piece of work on the image that was asked for first; answers under way go on between the pieces."""
        job = next((job for job in self.jobs if job.is_waiting), None)
        if job is None:
            return self.encoder.stop()
        try:
            self.encoder.work(job)
        except Exception as error:
            self._end(job, error)
        return None

    def _rebuild_crossed(self) -> None:
        """Read a sequence again whose cached keys were turned with the rotary table of shorter sequences."""
        for sequence in (s for job in self.jobs for s in job.live):
            table = self.model.rope.table(len(sequence.ids))
            if table != sequence.table:
                sequence.drop_cache(self.cache)
                sequence.table = table

    def _lend(self) -> None:
        """Give sequences that are being read what others have read of the same ids."""
        for sequence in (s for job in self.jobs if not job.is_waiting for s in job.live):
            if len(sequence.ids) - sequence.n_cached > 1 and not sequence.reader:
                self.cache.prefixes.lend(sequence, self.cache)

    def _begin_new(self) -> None:
        """Give sequences that are ready to be read what files have of their prompts."""
        new = [job for job in self._new if job in self.jobs and not job.is_waiting]
        self._new = [job for job in self._new if job in self.jobs and job.is_waiting]
        for job in new:
            # kept is what the model alone makes of a prompt
            if self.prompts and not job.task.adapter and not job.live[0].reader:
                self.prompts.begin(job.live[0], job.task.n_shared)

    def _owner(self, sequence: Sequence) -> Job:
        return next(job for job in self.jobs if sequence in job.live)

    def _accept_all(self, job: Job, work: Work, rows: list[tuple[F32, bool]]) -> None:
        """Hand over the row after the last id, and those of the draft as long as the choices agree with it.

        rows: with each, whether it is what a model should make.
        """
        sequence = work.sequence
        sequence.draft = list(work.draft)
        sequence.n_drafted += len(work.draft)
        for row, is_sound in rows:
            self._accept(job, sequence, row, is_sound)
            if sequence.n_cached < len(sequence.ids):  # the choice was another, or ended the answer
                break
        sequence.drop_draft(self.cache)

    def _accept(self, job: Job, sequence: Sequence, row: F32, is_sound: bool) -> None:
        if job not in self.jobs:
            return  # an earlier row of this step ended it
        before = job.n_generated
        if isinstance(sequence.reader, Scores):
            job.outbox.put(sequence.reader.event())
            sequence.reader = None
        if not job.first_token:
            self.counts.prompt_tokens += sequence.n_prompt
            self.counts.reused_tokens += sequence.n_reused
        try:
            if not is_sound:
                raise ModelError("the model's logits are not all finite numbers; fetch its weights again")
            job.accept(sequence, row, self.cache)
        except BaseException as error:  # the caller's own functions run in there: theirs is the only job that ends
            self._end(job, error)
        self.counts.generated_tokens += job.n_generated - before

    def _close_finished(self) -> None:
        for job in [j for j in self.jobs if not j.live]:
            self._end(job)

    def _end(self, job: Job, error: BaseException | None = None) -> None:
        self.jobs.remove(job)
        job.close(self.cache, error)
        now = time.perf_counter()
        self.counts.pace += 0.2 * (now - self._ended_at - self.counts.pace)
        self._ended_at = now
        self.counts.ended += 1


def forward(model: Any, cache: Cache, plan: list[Work]) -> F32:
    """Run the planned tokens and mark them cached, all but the drafts.

    Returns (rows, vocab), in the plan's order: of each complete sequence the row after its last id, and the rows after
    each id of its draft.
    """
    ids, step = assemble(plan, cache)
    with spans_of(model.ops, step.adapters):
        hidden = model.hidden(ids, step)

    def logits(rows: range | list[int]) -> F32:
        with spans_of(model.ops, spans_among(step.adapters, rows)):
            found: F32 = model.logits(hidden[rows])
        return found

    for start, work in zip(step.segments.starts.tolist(), plan, strict=False):
        if work.sequence.reader is not None:
            own = hidden[start : start + work.count]
            work.sequence.reader.take(Rows(work.sequence.n_cached, start, own, model, logits))
    ends = zip(step.segments.starts[1:], plan, strict=True)
    wanted = [row for end, work in ends if work.is_complete for row in range(end - 1 - len(work.draft), end)]
    for work in plan:
        work.sequence.n_cached += work.count
    if not wanted:
        return np.empty((0, 0), np.float32)
    return logits(wanted)


def assemble(plan: list[Work], cache: Cache) -> tuple[NDArray[np.int32], Step]:
    """The plan as arrays: ids (tokens,) and what Step describes."""
    starts = np.zeros(len(plan) + 1, np.int32)
    counts = [w.count + len(w.draft) for w in plan]
    np.cumsum(counts, out=starts[1:])
    firsts = [w.sequence.n_cached for w in plan]
    positions = _joined(np.arange(n, n + count, dtype=np.int32) for n, count in zip(firsts, counts, strict=True))
    owner = np.repeat(np.arange(len(plan)), np.diff(starts))
    step = Step(
        positions=positions,
        lengths=np.array([len(w.sequence.ids) + len(w.draft) for w in plan], np.int32)[owner],
        strands=tuple(
            Strand(
                blocks[owner, positions // BLOCK].astype(np.int64) * BLOCK + positions % BLOCK,
                Segments(starts, positions[starts[:-1]], blocks),
            )
            for blocks in _tables(plan, cache)
        ),
        cache=cache.data,
        features=_features(plan, starts),
        adapters=_spans(plan, starts),
    )
    ids = [[*w.sequence.ids[w.sequence.n_cached : w.sequence.n_cached + w.count], *w.draft] for w in plan]
    return np.maximum(_joined(np.array(i, np.int32) for i in ids), 0), step


def _features(plan: list[Work], starts: NDArray[np.int32]) -> Features | None:
    """The rows of images among the planned ids."""
    rows, values = [], []
    for start, work in zip(starts.tolist(), plan, strict=False):
        sequence = work.sequence
        if sequence.images and (found := sequence.images.within(sequence.n_cached, sequence.n_cached + work.count)):
            rows.append(start + found[0])
            values.append(found[1])
    return Features(np.concatenate(rows), np.concatenate(values)) if rows else None


def _tables(plan: list[Work], cache: Cache) -> NDArray[np.int32]:
    """(strands, sequences, most blocks); 0 where there is none."""
    tables = [np.asarray(w.sequence.blocks, np.int32).reshape(-1, cache.n_strands) for w in plan]
    width = -(-max(map(len, tables)) // 8) * 8  # so that most steps have the shape of the one before: layers/replay.py
    blocks = np.zeros((cache.n_strands, len(plan), width), np.int32)
    for i, table in enumerate(tables):
        blocks[:, i, : len(table)] = np.maximum(table, 0).T
    return blocks


def _spans(plan: list[Work], starts: NDArray[np.int32]) -> tuple[Span, ...]:
    """The rows of each adapter, whose sequences the plan has side by side."""
    numbered = groupby(enumerate(plan), key=lambda item: item[1].sequence.adapter)
    runs = [(adapter, [i for i, _ in items]) for adapter, items in numbered if adapter]
    return tuple(Span(adapter, int(starts[run[0]]), int(starts[run[-1] + 1])) for adapter, run in runs)


def _joined(parts: Iterable[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(list(parts))
