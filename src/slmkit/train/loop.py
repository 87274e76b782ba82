"""The training loop: blocks in, steps out, a checkpoint every few minutes, and a line that says how it goes."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from . import checkpoint, packing, prepare
from .model import Phi3
from .optimizer import Optimiser
from .recipe import Recipe, Stage

LATEST = "latest.safetensors"
SAVE_EVERY_S = 240.0
Say = Callable[[str], None]


class Stop:
    """Turns SIGINT and SIGTERM into a flag, so that a run ends after a whole step, with a checkpoint."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Stop:
        self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def rate_at(step: int, stage: Stage) -> float:
    """The learning rate of a step (from 0) as a factor: warm-up, plateau, straight fall to nothing."""
    rate = stage.rate
    if step < stage.warmup_steps:
        rate *= (step + 1) / stage.warmup_steps
    if stage.decay_steps:
        rate *= min(1.0, (stage.steps - step) / stage.decay_steps)
    return rate


def loss_of(model: Phi3, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean loss in nats over the scored tokens; targets are -100 where nothing is scored."""
    return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=-100)


def batches(recipe: Recipe, stage: Stage, folder: Path, out: Path, tokenizer: Tokenizer, say: Say,
            skip: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(ids, targets) of each step of a stage, each (batch_rows, sequence_length), from step `skip` on."""
    sources = [prepare.documents(source, recipe, folder, out, tokenizer, say) for source in stage.mixture]
    stream = packing.interleave(sources, [s.share for s in stage.mixture], recipe.seed)
    # One id more than is read: the last is only a target, and is read as the first of no block.
    rows = packing.blocks(stream, stage.sequence_length + 1)
    rows = itertools.islice(rows, skip * stage.batch_rows, None)
    while True:
        ids, scored = zip(*itertools.islice(rows, stage.batch_rows))
        read = torch.from_numpy(np.stack(ids).astype(np.int64))
        targets = read.masked_fill(~torch.from_numpy(np.stack(scored)), -100)
        yield read[:, :-1], targets[:, 1:].contiguous()


def run(recipe: Recipe, folder: Path, out: Path, *, resume: bool, start: Path | None, stages: list[str],
        compiled: bool, say: Say) -> tuple[Phi3, Tokenizer, checkpoint.Progress]:
    """Train through the named stages; gives the model, its tokenizer and how far it came.

    resume: go on from the last checkpoint in `out`. start: begin with another run's weights and moments.
    """
    torch.manual_seed(recipe.seed)
    tokenizer = prepare.tokenizer_of(recipe, folder, out, say)
    model = Phi3(recipe.model)
    optimiser = Optimiser(model, recipe.model, recipe.optimizer)
    progress = checkpoint.Progress(stage=stages[0])
    if resume:
        progress = checkpoint.read(out / LATEST, model, optimiser)
        say(f"resuming {progress.stage} after step {progress.step}")
    elif start is not None:
        before = checkpoint.read(start, model, optimiser)
        progress = checkpoint.Progress(stages[0], 0, before.n_tokens, before.n_steps)
    loss = torch.compile(loss_of) if compiled else loss_of
    todo = [s for s in recipe.stages if s.name in stages]
    names = [s.name for s in todo]
    with Stop() as stop:
        for stage in todo[names.index(progress.stage) if progress.stage in names else 0 :]:
            if stage.name != progress.stage:
                progress = checkpoint.Progress(stage.name, 0, progress.n_tokens, progress.n_steps)
            source = batches(recipe, stage, folder, out, tokenizer, say, skip=progress.step)
            _run_stage(model, optimiser, stage, progress, source, loss, out, stop, say)
            if stop.asked:
                break
    return model, tokenizer, progress


def _run_stage(model: Phi3, optimiser: Optimiser, stage: Stage, progress: checkpoint.Progress,
               source: Iterator[tuple[torch.Tensor, torch.Tensor]], loss: Callable[..., torch.Tensor], out: Path,
               stop: Stop, say: Say) -> None:
    saved = reported = time.monotonic()
    losses: list[float] = []
    while progress.step < stage.steps and not stop.asked:
        ids, targets = next(source)
        value = loss(model, ids, targets)
        value.backward()
        optimiser.step(rate_at(progress.step, stage))
        losses.append(value.item())
        progress.step += 1
        progress.n_steps += 1
        progress.n_tokens += ids.numel()
        now = time.monotonic()
        if now - reported > 15 or progress.step == stage.steps:
            speed = len(losses) * ids.numel() / (now - reported)
            left_min = (stage.steps - progress.step) * ids.numel() / speed / 60
            say(f"{stage.name} {progress.step}/{stage.steps}  loss {np.mean(losses):.3f}  {speed:.0f} tokens/s  "
                f"{progress.n_tokens / 1e6:.2f} M tokens  {left_min:.0f} min left")
            losses, reported = [], now
        if now - saved > SAVE_EVERY_S:
            checkpoint.write(out / LATEST, model, optimiser, progress)
            saved = now
    checkpoint.write(out / LATEST, model, optimiser, progress)
    if progress.step == stage.steps:
        checkpoint.write(out / f"{stage.name}.safetensors", model, optimiser, progress)
