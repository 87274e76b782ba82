"""A recipe: every setting of a training run, in one file that is kept with the code.

Recipes are JSON (Python 3.10 reads it without help). A run is set by its recipe, the data folder and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slmkit.errors import RequestError

FOLDER = Path(__file__).parent / "recipes"


class RecipeError(RequestError):
    """A recipe names a setting that does not exist, or gives one a value that it cannot have."""


@dataclass(frozen=True)
class ModelShape:
    """The numbers of a Phi-3 model, in the words of its config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0


@dataclass(frozen=True)
class Source:
    """One ingredient of a mixture: a file of the data folder, or a set of made rows, and how much of it.

    share: part of the stage's tokens, relative to the other sources'.
    lang, tasks, origins: keep only rows with this language, one of these tasks, one of these `source` prefixes.
    simplest_bytes: keep only the simplest text, up to this much (0: all).
    """

    name: str
    share: float
    lang: str = "en"
    tasks: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    simplest_bytes: int = 0


@dataclass(frozen=True)
class Stage:
    """A part of the run with its own mixture and schedule.

    The learning rate climbs over `warmup_steps`, stays, and falls in a straight line over the last `decay_steps`
    to nothing; so a stage without decay can be made longer later, and a decay can start from any checkpoint.
    """

    name: str
    steps: int
    mixture: tuple[Source, ...]
    sequence_length: int = 256
    batch_rows: int = 24
    warmup_steps: int = 0
    decay_steps: int = 0
    rate: float = 1.0


@dataclass(frozen=True)
class Optimizer:
    """Muon for the matrices, AdamW for the embedding and the norms; rates are per step."""

    matrix_rate: float = 0.02
    matrix_momentum: float = 0.95
    other_rate: float = 0.003
    betas: tuple[float, ...] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """All of a run."""

    name: str
    seed: int
    model: ModelShape
    tokenizer: tuple[Source, ...]
    stages: tuple[Stage, ...]
    hold_out: float = 0.02
    optimizer: Optimizer = field(default_factory=Optimizer)
    generation: dict[str, Any] = field(default_factory=dict)


def load(name_or_path: str) -> Recipe:
    """The recipe in a JSON file, or one of those kept here by its name (`tiny`). Raises RecipeError."""
    path = FOLDER / f"{name_or_path}.json" if name_or_path.isidentifier() else Path(name_or_path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.json")))
        raise RecipeError(f"there is no recipe {name_or_path!r}; give a JSON file or one of: {known}") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read as a JSON recipe ({error}); correct the file") from None
    return build(raw)


def build(raw: Any) -> Recipe:
    """The recipe in parsed JSON. Raises RecipeError."""
    recipe = _build(Recipe, raw, "recipe")
    check(recipe)
    return recipe


def check(recipe: Recipe) -> None:
    """Raise RecipeError, with the way out, for values that no run can have."""
    model = recipe.model
    for name in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
    ):
        _require(getattr(model, name) > 0, f"model.{name} is {getattr(model, name)}; it must be 1 or more")
    _require(
        model.hidden_size % model.num_attention_heads == 0,
        f"model.hidden_size is {model.hidden_size}, which {model.num_attention_heads} attention heads do not "
        "divide; choose a multiple of num_attention_heads",
    )
    _require(
        model.num_attention_heads % model.num_key_value_heads == 0,
        f"model.num_key_value_heads is {model.num_key_value_heads}; it must divide num_attention_heads, "
        f"which is {model.num_attention_heads}",
    )
    _require(0 < recipe.hold_out < 0.5, f"hold_out is {recipe.hold_out}; it must be above 0 and below 0.5")
    _require(bool(recipe.stages), "a recipe needs at least one entry in stages")
    names = [stage.name for stage in recipe.stages]
    _require(len(names) == len(set(names)), f"there are two stages of one name among {', '.join(names)}; rename one")
    for stage in recipe.stages:
        _check_stage(stage, model)


def _check_stage(stage: Stage, model: ModelShape) -> None:
    where = f"stage {stage.name!r}"
    _require(stage.steps > 0, f"{where} has {stage.steps} steps; it needs 1 or more")
    _require(stage.batch_rows > 0, f"{where} has batch_rows {stage.batch_rows}; it needs 1 or more")
    _require(
        8 <= stage.sequence_length <= model.max_position_embeddings,
        f"{where} has sequence_length {stage.sequence_length}; it must be 8 to "
        f"{model.max_position_embeddings}, the model's max_position_embeddings",
    )
    _require(
        0 <= stage.warmup_steps + stage.decay_steps <= stage.steps,
        f"{where} warms up for {stage.warmup_steps} steps and decays for {stage.decay_steps}, together more "
        f"than its {stage.steps} steps; lower one of them",
    )
    _require(bool(stage.mixture), f"{where} has an empty mixture; name at least one source")
    for source in stage.mixture:
        _require(source.share > 0, f"{where} gives {source.name!r} the share {source.share}; it must be above 0")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RecipeError(otherwise)


_NESTED: dict[str, Any] = {
    "model": ModelShape,
    "optimizer": Optimizer,
    "tokenizer": (Source,),
    "stages": (Stage,),
    "mixture": (Source,),
}


def _build(cls: Any, raw: Any, where: str) -> Any:
    """An instance of the dataclass `cls` from parsed JSON; unknown, missing and wrongly typed keys are refused."""
    _require(isinstance(raw, dict), f"{where} is {raw!r}; it must be a JSON object")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in raw:
        _require(key in fields, f"{where} has the unknown setting {key!r}; it can have: {', '.join(fields)}")
    for key, f in fields.items():
        optional = f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        _require(key in raw or optional, f"{where} lacks {key!r}; add it")
    return cls(**{key: _value(key, value, fields[key], f"{where}.{key}") for key, value in raw.items()})


def _value(key: str, value: Any, f: Any, where: str) -> Any:
    nested = _NESTED.get(key)
    if isinstance(nested, tuple):
        _require(isinstance(value, list), f"{where} is {value!r}; it must be a list")
        return tuple(_build(nested[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if nested is not None:
        return _build(nested, value, where)
    kinds: Any = {"int": int, "float": (int, float), "str": str}.get(f.type)
    if kinds is not None:
        _require(
            isinstance(value, kinds) and not isinstance(value, bool),
            f"{where} is {value!r}; it must be {'a number' if f.type != 'str' else 'text'}"
            + (" without a fraction" if f.type == "int" else ""),
        )
    if f.type.startswith("tuple"):
        _require(isinstance(value, list), f"{where} is {value!r}; it must be a list")
        return tuple(value)
    return value
