"""A whole run: tokenizer, stages, held-out figures, and the model as a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from slmkit.errors import RequestError
from slmkit.train import checkpoint, evaluate, loop, prepare, sample
from slmkit.train.export import export
from slmkit.train.files import write_whole
from slmkit.train.model import Phi3
from slmkit.train.optimizer import Optimiser

if TYPE_CHECKING:
    from pathlib import Path

    from slmkit.train.recipe import Recipe, Stage

Say = Callable[[str], None]


def run(recipe: Recipe, folder: Path, out: Path, *, resume: bool = False, start: Path | None = None,
        stages: list[str] | None = None, compiled: bool = True, say: Say = print) -> Phi3:  # fmt: skip
    """Train through the recipe's stages (or the named ones) and leave the model in `out`/model.

    folder: the training data.   resume: go on from the last checkpoint in `out`, as if never interrupted.
    start: begin with another run's weights and moments.   A run that is asked to stop (Ctrl-C) keeps a checkpoint
    and exports nothing.   Raises RequestError for stages, data or checkpoints that do not fit.
    """
    torch.manual_seed(recipe.seed)
    todo = chosen(recipe, stages or [])
    tokenizer = prepare.tokenizer_of(recipe, folder, out, say)
    model = Phi3(recipe.model)
    optimiser = Optimiser(model, recipe.model, recipe.optimizer)
    say(f"{recipe.name}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    progress = checkpoint.Progress(stage=todo[0].name)
    if resume:
        progress = checkpoint.read(out / loop.LATEST, model, optimiser)
        say(f"resuming {progress.stage} after step {progress.step}")
    elif start is not None:
        before = checkpoint.read(start, model, optimiser)
        progress = checkpoint.Progress(todo[0].name, 0, before.n_tokens, before.n_steps)
    loss = _compiled(say) if compiled else loop.loss_of
    names = [stage.name for stage in todo]
    with loop.Stop() as stop:
        for stage in todo[names.index(progress.stage) if progress.stage in names else 0 :]:
            if stage.name != progress.stage:
                progress = checkpoint.Progress(stage.name, 0, progress.n_tokens, progress.n_steps)
            sources = [prepare.documents(s, recipe, folder, out, tokenizer, say) for s in stage.mixture]
            # Each stage has its own order: one that began as the last did would read the same rows again.
            seed = recipe.seed + 1000 * recipe.stages.index(stage)
            source = loop.batches(sources, stage, seed, skip=progress.step)
            loop.train_stage(model, optimiser, stage, progress, source, loss, out, stop, say)
            if stop.asked:
                say(f"stopped; `--resume` goes on from step {progress.step} of {stage.name}")
                return model
    finish(model, recipe, folder, out, progress, say)
    return model


def _compiled(say: Say) -> Callable[..., torch.Tensor]:
    """The loss, compiled: 1.5 times as fast as without (tiny's shape, 2 cores of a Zen 4, 2026-11)."""
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        say("no C++ compiler was found, so the model is not compiled and trains more slowly")
        return loop.loss_of
    compiled: Callable[..., torch.Tensor] = torch.compile(loop.loss_of, dynamic=False)
    return compiled


def finish(model: Phi3, recipe: Recipe, folder: Path, out: Path, progress: checkpoint.Progress, say: Say) -> None:
    """Measure the model on held-out text, show what it says, and export it to `out`/model."""
    tokenizer = prepare.tokenizer_of(recipe, folder, out, say)
    measured: dict[str, float] = {}
    for source in recipe.stages[-1].mixture:
        rows = prepare.held_out(source, recipe, folder)
        if rows:
            measured[source.name] = round(evaluate.bits_per_byte(model, rows, tokenizer), 4)
            say(f"held-out {source.name}: {measured[source.name]:.3f} bits per byte")
    for prompt in sample.PROMPTS:
        say(f"{prompt} -> {sample.answer(model, tokenizer, prompt)}")
    export(model, tokenizer, recipe, out / "model")
    facts = {"recipe": recipe.name, "tokens": progress.n_tokens, "steps": progress.n_steps, "bits_per_byte": measured}
    write_whole(out / "measured.json", (json.dumps(facts, indent=2) + "\n").encode())
    say(f"the model is in {out / 'model'}")


def chosen(recipe: Recipe, names: list[str]) -> list[Stage]:
    """The named stages in the recipe's order, or all of them. Raises RequestError for an unknown name."""
    known = [stage.name for stage in recipe.stages]
    for name in names:
        if name not in known:
            raise RequestError(f"the recipe {recipe.name} has no stage {name!r}; it has: {', '.join(known)}")
    return [stage for stage in recipe.stages if stage.name in names or not names]
