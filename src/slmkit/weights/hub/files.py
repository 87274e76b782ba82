"""Which files of a repository make a model: a checkpoint's texts and safetensors, or one GGUF file with its shards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from slmkit.errors import ModelNotFound, UnsupportedModel
from slmkit.untrusted import shown
from slmkit.weights.atomic import megabytes
from slmkit.weights.checkpoint import INDEX, PICKLES, WEIGHTS

CONFIG = "config.json"
# Everything beside the weights that a loader may open, and the licence. Pickles, programs and other formats never.
_TEXTS = (
    CONFIG, "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "*.tiktoken",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    "chat_template.json", "preprocessor_config.json", "processor_config.json", INDEX, "LICENSE*", "NOTICE*",
)  # fmt: skip
_SHARD = "model-*-of-*.safetensors"
_NEVER = ("*.py", *PICKLES)

# Quantizations in the order in which one is taken when none is named. Q4_K_M first: the least of the k-quant mixes
# that is commonly advised; then what is nearest to it. Those that slmkit cannot run are not here.
PREFERRED = (
    "Q4_K_M", "Q4_K_S", "Q4_0", "Q4", "Q5_K_M", "Q5_K_S", "Q5_0", "Q4_1", "Q5_1", "Q6_K", "Q8_0", "Q8", "Q3_K_L",
    "Q3_K_M", "Q3_K_S", "Q2_K", "F16", "FP16", "BF16", "F32", "FP32",
)  # fmt: skip
RULE = "the first of Q4_K_M, Q4_0, Q5_K_M, Q6_K, Q8_0 and their like that is there"
_QUANT = re.compile(r"(?:^|[-._])((?:I?Q\d|TQ\d|MXFP\d|NVFP\d|BF16|F16|FP16|F32|FP32)[\w]*)$", re.IGNORECASE)
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})", re.DOTALL)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.   name: its path there.   etag: its SHA-256, or of a small one git's blob SHA-1."""

    name: str
    size: int
    etag: str

    @property
    def is_large(self) -> bool:
        """Whether the checksum is a SHA-256, which is worth remembering; small files are just read again."""
        return len(self.etag) == 64


@dataclass(frozen=True)
class GGUFChoice:
    """One GGUF model of a repository: a file, or the shards of a split in their order."""

    name: str
    quantization: str
    files: tuple[HubFile, ...]

    @property
    def n_bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Choice:
    """The files to have.   gguf: None for a folder of safetensors, whose texts come before its weights."""

    texts: tuple[HubFile, ...]
    weights: tuple[HubFile, ...]
    gguf: GGUFChoice | None = None

    @property
    def files(self) -> tuple[HubFile, ...]:
        return self.texts + self.weights

    @property
    def n_bytes(self) -> int:
        return sum(file.size for file in self.files)

    def path_in(self, folder: Path) -> Path:
        """What loads: the snapshot's folder, or its GGUF file."""
        return folder / self.gguf.files[0].name if self.gguf else folder

    def texts_alone(self) -> Choice:
        """What is enough to show a prompt: no weights, except where they lie in one GGUF file with everything else."""
        return self if self.gguf else Choice(self.texts, ())


def choose(files: Sequence[HubFile], selection: str | None, what: str) -> Choice:
    """The files that make the model.   selection: as in HubRef.   what: names the repository in messages.

    Raises ModelNotFound for a selection that is not there, UnsupportedModel for a repository without usable weights.
    """
    models = gguf_choices(files)
    if selection is not None:
        return _of_gguf(_selected(models, selection, what))
    texts = tuple(file for file in files if is_text(file.name))
    weights = _safetensors(files)
    if weights and any(file.name == CONFIG for file in texts):
        return Choice(tuple(sorted(texts, key=_config_first)), weights)
    if models:
        return _of_gguf(_default(models, what))
    raise _nothing_usable(files, what)


def default_choice(models: Sequence[GGUFChoice]) -> GGUFChoice | None:
    """The model that is taken when none is named, if one is the obvious one: see PREFERRED."""
    for quant in PREFERRED:
        found = [choice for choice in models if choice.quantization == quant]
        if len(found) == 1:
            return found[0]
    return models[0] if len(models) == 1 else None


def is_text(name: str) -> bool:
    """Whether a file at the top of a repository is one that a loader may open beside the weights."""
    return any(fnmatchcase(name, form) for form in _TEXTS) and not any(fnmatchcase(name, form) for form in _NEVER)


def gguf_choices(files: Iterable[HubFile]) -> list[GGUFChoice]:
    """The GGUF models of a repository, by name. Splits with a shard missing, image encoders and the like are not."""
    groups: dict[str, list[HubFile]] = {}
    for file in files:
        stem = file.name[: -len(".gguf")]
        if not file.name.lower().endswith(".gguf") or _is_no_model(stem):
            continue
        split = _SPLIT.fullmatch(stem)
        groups.setdefault(f"{split[1]}\0{split[3]}" if split else stem, []).append(file)
    choices = []
    for key, shards in groups.items():
        stem, _, count = key.partition("\0")
        shards.sort(key=lambda file: file.name)
        if count and [_number(file) for file in shards] != list(range(1, int(count) + 1)):
            continue
        choices.append(GGUFChoice(shards[0].name, quantization(stem), tuple(shards)))
    return sorted(choices, key=lambda choice: choice.name)


def quantization(stem: str) -> str:
    """What a file's name says of its quantization, such as Q4_K_M; "" if nothing."""
    found = _QUANT.search(stem.rpartition("/")[2])
    return found[1].upper() if found else ""


def size_text(n_bytes: int) -> str:
    """A size for people, in GB from a thousand million bytes on."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else megabytes(n_bytes)


def list_text(models: Sequence[GGUFChoice]) -> str:
    """The models to choose from, with their sizes, for a message."""
    return ", ".join(f"{choice.quantization or choice.name} ({size_text(choice.n_bytes)})" for choice in models)


def weights_by_index(choice: Choice, weight_map: object, files: Sequence[HubFile], what: str) -> Choice:
    """The choice with exactly the shards that the index names.   Raises UnsupportedModel if the listing lacks one."""
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    there = {file.name: file for file in files}
    for name in sorted(map(str, names)):
        if name not in there or not name.endswith(".safetensors") or "/" in name:
            raise UnsupportedModel(f"{INDEX} of {what} names {shown(name)}, which is no weight file of the repository")
    if not names:
        raise UnsupportedModel(f"{INDEX} of {what} names no weight files")
    return Choice(choice.texts, tuple(there[name] for name in sorted(names)))


def _of_gguf(model: GGUFChoice) -> Choice:
    return Choice((), model.files, model)


def _selected(models: Sequence[GGUFChoice], selection: str, what: str) -> GGUFChoice:
    wanted = selection.lower()
    for meant in _ways(selection):
        found = [choice for choice in models if meant(choice)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ModelNotFound(
                f"{what} has several files for {shown(selection)}: {', '.join(choice.name for choice in found)}; "
                "give the name of one of them"
            )
    if not models:
        raise ModelNotFound(f"{what} has no GGUF files, so {shown(selection)} is not among them; leave it out")
    known = [choice.quantization or choice.name for choice in models] + [choice.name for choice in models]
    near = get_close_matches(wanted, [name.lower() for name in known], 1)
    hint = f" (did you mean {known[[name.lower() for name in known].index(near[0])]}?)" if near else ""
    raise ModelNotFound(f"{what} has no {shown(selection)}{hint}; it has {list_text(models)}")


def _ways(selection: str) -> list[Callable[[GGUFChoice], bool]]:
    """How a selection can name a model, the surest first."""
    wanted = selection.lower()
    if wanted.endswith(".gguf"):
        return [
            lambda choice: any(file.name == selection for file in choice.files),
            lambda choice: any(file.name.rpartition("/")[2].lower() == wanted for file in choice.files),
        ]
    return [
        lambda choice: choice.quantization.lower() == wanted,
        lambda choice: bool(re.search(rf"(?:^|[-._/]){re.escape(wanted)}(?=[-._/]|$)", choice.name.lower())),
    ]


def _default(models: Sequence[GGUFChoice], what: str) -> GGUFChoice:
    if found := default_choice(models):
        return found
    raise ModelNotFound(f"{what} has several GGUF files, and none is the obvious one; choose from {list_text(models)}")


def _safetensors(files: Sequence[HubFile]) -> tuple[HubFile, ...]:
    by_name = {file.name: file for file in files}
    if WEIGHTS in by_name:
        return (by_name[WEIGHTS],)
    if INDEX not in by_name:
        return ()
    return tuple(sorted((f for f in files if fnmatchcase(f.name, _SHARD) and "/" not in f.name), key=lambda f: f.name))


def _config_first(file: HubFile) -> tuple[bool, str]:
    return file.name != CONFIG, file.name


def _is_no_model(stem: str) -> bool:
    """An image encoder beside a model, or the statistics of a quantizer, which are kept in GGUF files too."""
    name = stem.rpartition("/")[2].lower()
    return name.startswith("mmproj") or "imatrix" in name


def _number(file: HubFile) -> int:
    split = _SPLIT.fullmatch(file.name[: -len(".gguf")])
    return int(split[2]) if split else 0


def _nothing_usable(files: Sequence[HubFile], what: str) -> UnsupportedModel:
    if any(fnmatchcase(file.name, form) for file in files for form in PICKLES):
        return UnsupportedModel(
            f"{what} has its weights as pickles only, and slmkit never reads pickles, which can run any program; "
            "look for a repository of it with safetensors or GGUF files"
        )
    return UnsupportedModel(f"{what} has neither {CONFIG} with {WEIGHTS} nor a GGUF file; choose another repository")
