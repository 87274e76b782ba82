"""A run's state on disk: weights and moments in one safetensors file, counts in its metadata. No pickles."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from slmkit.errors import RequestError
from slmkit.train.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from slmkit.train.optimizer import Optimiser


class RunStateError(RequestError):
    """A checkpoint is missing, damaged, or belongs to another model."""


@dataclass
class Progress:
    """How far a run is. step: steps done in `stage`; n_tokens: tokens read in all stages together."""

    stage: str
    step: int = 0
    n_tokens: int = 0
    n_steps: int = 0


def write(path: Path, model: nn.Module, optimiser: Optimiser, progress: Progress) -> None:
    """Keep everything that a run needs to go on as if it had never stopped."""
    tensors = {f"weight.{name}": p.detach() for name, p in model.named_parameters()}
    tensors |= optimiser.state
    write_whole(path, save(tensors, metadata={"progress": json.dumps(asdict(progress))}))


def read(path: Path, model: nn.Module, optimiser: Optimiser | None) -> Progress:
    """Put a checkpoint's tensors into model and optimiser; gives its progress. Raises RunStateError."""
    try:
        with safe_open(path, "pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
            _fill({f"weight.{n}": p.data for n, p in model.named_parameters()}, file, path)
            if optimiser is not None:
                _fill(optimiser.state, file, path)
                optimiser.n_steps = progress.n_steps
    except FileNotFoundError:
        raise RunStateError(f"there is no checkpoint {path}; start without --resume or name another") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunStateError(f"{path} is not a checkpoint of a run ({error}); start again without it") from None
    return progress


def _fill(targets: dict[str, torch.Tensor], file: safe_open, path: Path) -> None:
    stored = set(file.keys())
    for name, target in targets.items():
        if name not in stored or list(file.get_slice(name).get_shape()) != list(target.shape):
            raise RunStateError(
                f"{path} has no {name} of shape {list(target.shape)}; it belongs to another model, "
                "so use the recipe that made it"
            )
        target.copy_(file.get_tensor(name))
