"""The training loop: blocks in, steps out, a checkpoint every few minutes, and a line that says how it goes."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from slmkit.train import checkpoint, packing

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from slmkit.train.model import Phi3
    from slmkit.train.optimizer import Optimiser
    from slmkit.train.recipe import Stage

LATEST = "latest.safetensors"
SAVE_EVERY_S = 240.0
Say = Callable[[str], None]
Batch = tuple[torch.Tensor, torch.Tensor]


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
    return functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=-100)


def batches(sources: list[list[packing.Document]], stage: Stage, seed: int, skip: int) -> Iterator[Batch]:
    """(ids, targets) of each step of a stage, each (batch_rows, sequence_length), from step `skip` on."""
    stream = packing.interleave(sources, [s.share for s in stage.mixture], seed)
    # One id more than is read: a block's last id is only a target.
    rows = packing.blocks(stream, stage.sequence_length + 1)
    rows = itertools.islice(rows, skip * stage.batch_rows, None)
    while True:
        ids, scored = zip(*itertools.islice(rows, stage.batch_rows), strict=False)
        read = torch.from_numpy(np.stack(ids).astype(np.int64))
        targets = read.masked_fill(~torch.from_numpy(np.stack(scored)), -100)
        yield read[:, :-1], targets[:, 1:].contiguous()


def train_stage(model: Phi3, optimiser: Optimiser, stage: Stage, progress: checkpoint.Progress,
                source: Iterator[Batch], loss: Callable[..., torch.Tensor], out: Path, stop: Stop,
                say: Say) -> None:  # fmt: skip
    """Take the stage's remaining steps, or stop after one when asked; `progress` is kept up to date."""
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
            say(
                f"{stage.name} {progress.step}/{stage.steps}  loss {np.mean(losses):.3f}  {speed:.0f} tokens/s  "
                f"{progress.n_tokens / 1e6:.2f} M tokens  {left_min:.0f} min left"
            )
            losses, reported = [], now
        if now - saved > SAVE_EVERY_S:
            checkpoint.write(out / LATEST, model, optimiser, progress)
            saved = now
    checkpoint.write(out / LATEST, model, optimiser, progress)
    if progress.step == stage.steps:
        checkpoint.write(out / f"{stage.name}.safetensors", model, optimiser, progress)
