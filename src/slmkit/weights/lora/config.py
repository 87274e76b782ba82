"""adapter_config.json of PEFT: which modules an adapter changes, and by how much. What is not understood is refused.

Source: https://huggingface.co/docs/peft/package_reference/lora, LoraConfig, and the code of peft 0.21.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slmkit.errors import CheckpointError, UnsupportedModel
from slmkit.untrusted import shown

MOST_RANK = 4096
# Of training alone, or a record of it.
_NEUTRAL = frozenset({
    "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "lora_dropout", "megatron_core",
    "peft_version", "eva_config", "qalora_group_size",
})  # fmt: skip
_READ = frozenset({
    "peft_type", "task_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules",
    "exclude_modules", "layers_to_transform", "layers_pattern", "bias", "init_lora_weights",
})  # fmt: skip
# Ways to begin that leave the model's own weights as they are; others (PiSSA, OLoRA, CorDA, LoftQ) change them.
_STARTS = (True, False, "gaussian", "eva", "orthogonal", None)
_TASKS = ("CAUSAL_LM", None)
_NAME = re.compile(r"\^?(?:\w|\\?\.)+", re.ASCII)  # what rank_pattern and alpha_pattern mostly hold


@dataclass(frozen=True)
class LoraConfig:
    """What an adapter's configuration says, under PEFT's own names.

    where: the file, for messages.   base: base_model_name_or_path, "" where there is none.
    """

    where: str
    base: str
    r: int
    lora_alpha: float
    use_rslora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    target_modules: str | tuple[str, ...]
    exclude_modules: str | tuple[str, ...]
    layers_to_transform: tuple[int, ...]
    layers_pattern: tuple[str, ...]

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str) -> LoraConfig:
        """Raises UnsupportedModel for what would change answers and is not done here, CheckpointError for damage."""
        if raw.get("peft_type") != "LORA":
            raise UnsupportedModel(f"{where} has peft_type {shown(raw.get('peft_type'))}; slmkit runs LORA adapters")
        _refuse_other_than(raw, "task_type", _TASKS, where)
        _refuse_other_than(raw, "bias", ("none", None), where)
        _refuse_other_than(raw, "init_lora_weights", _STARTS, where)
        for name, value in raw.items():
            if name not in _NEUTRAL | _READ and value not in (None, False, "", 0) and value not in ({}, []):
                raise UnsupportedModel(
                    f"{where} has {shown(name)} {shown(value)}, which slmkit does not do and which would change "
                    "answers; merge the adapter into its model with PEFT, or train one without"
                )
        read = _Reader(raw, where)
        return cls(
            where=where,
            base=str(raw.get("base_model_name_or_path") or ""),
            r=read.rank("r", raw.get("r")),
            lora_alpha=read.number("lora_alpha", raw.get("lora_alpha")),
            use_rslora=read.boolean("use_rslora"),
            rank_pattern={key: read.rank("rank_pattern", value) for key, value in read.by_name("rank_pattern")},
            alpha_pattern={key: read.number("alpha_pattern", value) for key, value in read.by_name("alpha_pattern")},
            target_modules=read.modules("target_modules"),
            exclude_modules=read.modules("exclude_modules"),
            layers_to_transform=read.layers(),
            layers_pattern=read.names("layers_pattern"),
        )

    def expects(self, module: str) -> bool | None:
        """Whether the adapter ought to have tensors for a module of the model; None if only its tensors can tell.

        Patterns are not run: they come from a stranger, and some take for ever.
        """
        if isinstance(self.target_modules, str) or isinstance(self.exclude_modules, str):
            return None
        return (
            _is_named(self.target_modules, module)
            and not _is_named(self.exclude_modules, module)
            and self._is_in_layers(module)
        )

    def rank(self, module: str) -> int:
        """The rows of lora_A."""
        return int(_by_name(self.rank_pattern, module, self.r))

    def scale(self, module: str) -> float:
        """What B (A x) is multiplied with: alpha / r, or alpha / sqrt(r) for rank-stabilized adapters."""
        r = self.rank(module)
        alpha = float(_by_name(self.alpha_pattern, module, self.lora_alpha))
        return alpha / (math.sqrt(r) if self.use_rslora else r)

    def _is_in_layers(self, module: str) -> bool:
        if not self.layers_to_transform:
            return True
        parts = module.split(".")
        numbered = [(parts[i - 1], int(part)) for i, part in enumerate(parts) if i and part.isdecimal()]
        found = [n for list_name, n in numbered if not self.layers_pattern or list_name in self.layers_pattern]
        return bool(found) and found[0] in self.layers_to_transform


class _Reader:
    """Values of the types that they should have, or CheckpointError."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        self._raw, self._where = raw, where

    def rank(self, name: str, value: Any) -> int:
        if type(value) is not int or not 1 <= value <= MOST_RANK:
            raise self._wrong(name, value, f"a whole number from 1 to {MOST_RANK}")
        return int(value)

    def number(self, name: str, value: Any) -> float:
        if type(value) not in (int, float) or not abs(value) <= 1e6:
            raise self._wrong(name, value, "a number")
        return float(value)

    def boolean(self, name: str) -> bool:
        value = self._raw.get(name)
        if value not in (True, False, None):
            raise self._wrong(name, value, "true or false")
        return bool(value)

    def by_name(self, name: str) -> Iterable[tuple[str, Any]]:
        value = self._raw.get(name) or {}
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object of names and numbers")
        for key in value:
            if not _NAME.fullmatch(key):
                raise UnsupportedModel(
                    f"{self._where} has the pattern {shown(key)} in {name}; slmkit takes modules' names and "
                    "ends of them"
                )
        return value.items()

    def modules(self, name: str) -> str | tuple[str, ...]:
        """Names, or one pattern."""
        value = self._raw.get(name)
        return value if isinstance(value, str) else self.names(name)

    def names(self, name: str) -> tuple[str, ...]:
        value = self._raw.get(name)
        names = [value] if isinstance(value, str) else value or []
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise self._wrong(name, value, "a list of names")
        return tuple(names)

    def layers(self) -> tuple[int, ...]:
        value = self._raw.get("layers_to_transform")
        layers = [value] if type(value) is int else value or []
        if not isinstance(layers, list) or not all(type(one) is int for one in layers):
            raise self._wrong("layers_to_transform", value, "a list of whole numbers")
        return tuple(layers)

    def _wrong(self, name: str, value: Any, accepted: str) -> CheckpointError:
        return CheckpointError(f"{self._where} has {name} {shown(value)}; it takes {accepted}")


def _refuse_other_than(raw: Mapping[str, Any], name: str, accepted: tuple[Any, ...], where: str) -> None:
    value = raw.get(name)
    if not any(value is one or (isinstance(value, str) and value == one) for one in accepted):
        names = " or ".join(str(one) for one in accepted if one is not None)
        raise UnsupportedModel(f"{where} has {name} {shown(value)}; slmkit runs adapters with {names}")


def _is_named(names: tuple[str, ...], module: str) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)


def _by_name(values: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first name that is the module's or its end; with ^ it has to be the whole."""
    for key, value in values.items():
        name = key.removeprefix("^").replace("\\.", ".")
        if module == name or (name == key.replace("\\.", ".") and module.endswith(f".{name}")):
            return value
    return default
