"""The published models of the family: what each is, and the numbers that memory and speed follow from.

Sources: the models' configurations and cards. Sizes are computed from the shapes (`shapes.py`), never copied, and tests
hold them against the published totals. Which of them slmkit runs is asked of `models/registry.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from slmkit.catalog.shapes import Shape
from slmkit.models.registry import ARCHITECTURES
from slmkit.weights.names import SHORT_NAMES

ENGLISH = ("English",)
LANGUAGES_OF_35 = (
    *("Arabic", "Chinese", "Czech", "Danish", "Dutch", "English", "Finnish", "French", "German", "Hebrew"),
    *("Hungarian", "Italian", "Japanese", "Korean", "Norwegian", "Polish", "Portuguese", "Russian", "Spanish"),
    *("Swedish", "Thai", "Turkish", "Ukrainian"),
)
TEXT, TEXT_AND_IMAGES = ("text",), ("text", "image")

_MINI = {
    "hidden_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 96,
    "intermediate_size": 8192, "vocab_size": 32064,
}  # fmt: skip
_MEDIUM = {
    "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 10, "head_dim": 128,
    "intermediate_size": 17920, "vocab_size": 32064,
}  # fmt: skip
_SMALL = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 14336, "vocab_size": 100352,
}  # fmt: skip
_MOE = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 6400, "vocab_size": 32064, "num_experts": 16, "experts_per_token": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One published model.

    languages: those that its card names; for the others the card says to expect less.
    release: year and month of the first weights.
    """

    id: str  # on the hub
    shape: Shape
    languages: tuple[str, ...]
    inputs: tuple[str, ...]
    release: str
    licence: str = "MIT"
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Its short names, the first the one to show."""
        return tuple(name for name, id in SHORT_NAMES.items() if id == self.id)

    @property
    def name(self) -> str:
        """The short name to show."""
        return self.names[0] if self.names else self.id

    @property
    def context(self) -> int:
        """Most tokens, prompt and answer together."""
        return self.shape.context

    @property
    def runs_here(self) -> bool:
        """Whether this slmkit has the architecture."""
        return self.shape.architecture in ARCHITECTURES


_MULTILINGUAL_DATA = "10 % of its training text was not English, yet its card names English alone"
_EXPERTS_ON_DISK = "it runs in less memory than its weights take, reading experts from disk, slowly"

FAMILY: tuple[Published, ...] = (
    Published("microsoft/Phi-3-mini-4k-instruct", Shape("phi3", **_MINI, context=4096, window=2047),
              ENGLISH, TEXT, "2024-04"),
    Published("microsoft/Phi-3-mini-128k-instruct", Shape("phi3", **_MINI, context=131072), ENGLISH, TEXT, "2024-04"),
    Published("microsoft/Phi-3-small-8k-instruct", Shape("phi3small", **_SMALL, context=8192),
              ENGLISH, TEXT, "2024-05", note=_MULTILINGUAL_DATA),
    Published("microsoft/Phi-3-small-128k-instruct", Shape("phi3small", **_SMALL, context=131072),
              ENGLISH, TEXT, "2024-05", note=_MULTILINGUAL_DATA),
    Published("microsoft/Phi-3-medium-4k-instruct", Shape("phi3", **_MEDIUM, context=4096, window=2047),
              ENGLISH, TEXT, "2024-05", note=_MULTILINGUAL_DATA),
    Published("microsoft/Phi-3-medium-128k-instruct", Shape("phi3", **_MEDIUM, context=131072),
              ENGLISH, TEXT, "2024-05", note=_MULTILINGUAL_DATA),
    Published("microsoft/Phi-3-vision-128k-instruct", Shape("phi3_v", **_MINI, context=131072),
              ENGLISH, TEXT_AND_IMAGES, "2024-05"),
    Published("microsoft/Phi-3.5-mini-instruct", Shape("phi3", **_MINI, context=131072),
              LANGUAGES_OF_35, TEXT, "2024-08"),
    Published("microsoft/Phi-3.5-vision-instruct", Shape("phi3_v", **_MINI, context=131072),
              ENGLISH, TEXT_AND_IMAGES, "2024-08"),
    Published("microsoft/Phi-3.5-MoE-instruct", Shape("phimoe", **_MOE, context=131072),
              LANGUAGES_OF_35, TEXT, "2024-08", note=_EXPERTS_ON_DISK),
)  # fmt: skip


def published(name: str) -> Published | None:
    """The model of a short name or a hub id (in any case of letters); None for anything else."""
    id = SHORT_NAMES.get(name, name).lower()
    return next((model for model in FAMILY if model.id.lower() == id), None)
