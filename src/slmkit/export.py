"""A model into a GGUF file that llama.cpp loads and that means the same there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError, RequestError, StorageError, TemplateError, UnsupportedModel
from slmkit.models.gguf_config import QUANTIZATION_VERSION
from slmkit.models.gguf_metadata import write_config, write_factors
from slmkit.models.gguf_names import check_in_gguf, gguf_name
from slmkit.ops.matrix import GROUP, QUANTIZED, TILE, Matrix
from slmkit.ops.pack import NOT_FINITE, as_f32, packer, unpack
from slmkit.options import Options
from slmkit.sources.base import Source
from slmkit.sources.folder import FolderSource
from slmkit.sources.gguf import GGUFSource
from slmkit.text.gguf.chat import read_stop_ids, read_template
from slmkit.text.gguf.export import swallows_blanks, write_tokenizer
from slmkit.text.gguf.sampling import read_sampling, write_sampling
from slmkit.text.template import ChatTemplate
from slmkit.text.tokenizer_files import read_folder
from slmkit.untrusted import is_there, shown
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.expect import check_tensors
from slmkit.weights.gguf.writer import PACKED, GGUFWriter, as_type, blocks_of
from slmkit.weights.packed import ROUTERS, TABLES, is_packed, read_packed
from slmkit.weights.packing import WAITING
from slmkit.weights.telling import Progress, silent

# The type asked for -> of the matrices, and of embedding and head, which are the most sensitive to rounding.
TYPES = {
    "as-is": None,
    "f32": ("F32", "F32"),
    "f16": ("F16", "F16"),
    "bf16": ("BF16", "BF16"),
    "q8_0": ("Q8_0", "Q8_0"),
    "q4_0": ("Q4_0", "Q8_0"),
}
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "BF16": 32}  # general.file_type, a hint for people
_OWN = {
    "q4": "Q4_0",
    "q8": "Q8_0",
    **{kind: kind for kind in _FILE_TYPES},
}  # what a tensor is -> what holds it as it is
_LICENCE = ("general.license", "general.license.name", "general.license.link")
_AT_ONCE = 1 << 22  # weights of one write
WRITING = "writing the GGUF file"
# llama.cpp takes white space after special tokens away where the model's name has one of these.
_SWALLOWING_NAME = re.compile("phi-?3", re.IGNORECASE)


@dataclass(frozen=True)
class Exported:
    """What was written: bytes of the weight files before and of the file now, weights, and tensors of each type."""

    source_bytes: int
    n_bytes: int
    n_weights: int
    types: Mapping[str, int]


def export_gguf(
    source: Source, out: Path, type: str = "as-is", *, force: bool = False, ops: Any = None, progress: Progress = silent
) -> Exported:
    """Write the model into the GGUF file `out`, which appears when it is complete.

    type: of TYPES. "as-is" keeps every number: also those of a packed folder, whose 4 and 8 bits are Q4_0 and Q8_0.
    force: replace a file that is there.   ops: their `pack` is used if they have one.
    Raises RequestError for a file that may not be written, ModelError for what GGUF cannot say, StorageError.
    """
    if type not in TYPES:
        raise RequestError(f"type is {shown(type)}; it takes one of {', '.join(TYPES)}")
    check_in_gguf(source.architecture)
    _check_target(source, out, force)
    tensors = _tensors(source)
    types = _types(tensors, TYPES[type])
    factors = write_factors(source.config)
    metadata = _metadata(source, types)
    names = {name: gguf_name(source.architecture, name) for name in tensors}
    stacks: dict[str, list[str]] = {}  # in GGUF the experts of a layer are one tensor
    for name, in_gguf in names.items():
        stacks.setdefault(in_gguf, []).append(name)
    plan = [(name, "F32", values.shape) for name, values in factors.items()]
    for in_gguf, (first, *others) in stacks.items():
        shape = tensors[first].shape
        plan.append((in_gguf, types[first], (1 + len(others), *shape) if in_gguf.endswith("_exps.weight") else shape))
    waiting = source.tensors.total_bytes
    with GGUFWriter(out, metadata, plan, waiting=lambda: progress(WAITING, 0, waiting)) as writer:
        writer.begin()
        for name, values in factors.items():
            writer.append(name, values)
        done, total = 0, sum(prod(tensor.shape) for tensor in tensors.values())
        for name in (name for stack in stacks.values() for name in stack):
            tensor = tensors[name]
            for piece in _written(name, tensor, types[name], source, ops):
                writer.append(names[name], piece)
                progress(WRITING, done * writer.n_bytes // total, writer.n_bytes)
            source.tensors.release()
            done += prod(tensor.shape)
        progress(WRITING, writer.n_bytes, writer.n_bytes)
        writer.commit()
    counts = {kind: list(types.values()).count(kind) for kind in dict.fromkeys(types.values())}
    return Exported(source.tensors.total_bytes, writer.n_bytes, total, counts)


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the source.   kind: its type there.   packed: of a packed folder, what is mapped."""

    shape: tuple[int, ...]
    kind: str
    packed: Matrix | None = None


def _tensors(source: Source) -> dict[str, _Tensor]:
    """The model's tensors, all of them found and of the expected shapes."""
    files, expected = source.tensors, source.expected
    if not is_packed(files.metadata):
        check_tensors(expected, files)
        return {name: _Tensor(shape, files.dtype(name)) for name, shape in expected.items()}
    assert isinstance(files, Checkpoint)
    found = read_packed(files.files[0], expected)
    return {
        name: _Tensor(expected[name], tensor.format, tensor)
        if isinstance(tensor, Matrix) and tensor.format in QUANTIZED
        else _Tensor(expected[name], "F32")
        for name, tensor in found.items()
    }


def _types(tensors: Mapping[str, _Tensor], wanted: tuple[str, str] | None) -> dict[str, str]:
    """GGUF's type for each tensor: vectors and routers are F32, as llama.cpp demands."""
    types = {}
    for name, tensor in tensors.items():
        own = _OWN.get(tensor.kind)
        vector = len(tensor.shape) < 2 or name.endswith(ROUTERS)
        kind = "F32" if vector else wanted[name in TABLES] if wanted else own
        if kind is None:
            raise UnsupportedModel(
                f"{name} is {tensor.kind}, which is not written as it is; ask for --type q8_0, f16 or another, or copy "
                "the file that it comes from"
            )
        if kind in PACKED and tensor.shape[-1] % GROUP:
            raise UnsupportedModel(
                f"{name} has rows of {tensor.shape[-1]} weights, which are no whole blocks of {GROUP} for {kind}; "
                "ask for --type f16, bf16 or f32"
            )
        types[name] = kind
    return types


def _written(name: str, tensor: _Tensor, type: str, source: Source, ops: Any) -> Iterator[NDArray[Any]]:
    """The tensor in pieces of whole rows, as GGUFWriter takes them."""
    try:
        if len(tensor.shape) < 2:
            yield as_type(as_f32(source.tensors.tensor(name)), type)
            return
        n, k = tensor.shape
        rows = max(_AT_ONCE // k // TILE, 1) * TILE
        values = None
        for i in range(0, n, rows):
            part = slice(i, min(i + rows, n))
            if tensor.packed is not None:
                matrix = _rows_of(tensor.packed, part)
                yield (
                    blocks_of(matrix) if _OWN.get(matrix.format) == type else as_type(unpack(matrix), type, packer(ops))
                )
            elif type in PACKED:
                yield blocks_of(source.tensors.pack_rows(name, part, PACKED[type], ops))
            else:
                values = source.tensors.tensor(name) if values is None else values
                yield _plain(values[part], type if tensor.kind != type else None)
    except CheckpointError as error:
        raise CheckpointError(f"tensor {shown(name)} in {source.path}: {error}") from None


def _plain(values: NDArray[Any], type: str | None) -> NDArray[Any]:
    """Weights as plain numbers of a type; None: as they are."""
    numbers = as_f32(values)
    if type is not None:
        return as_type(numbers, type)
    if not np.isfinite(numbers).all():
        raise CheckpointError(NOT_FINITE)
    return np.ascontiguousarray(values)


def _rows_of(matrix: Matrix, rows: slice) -> Matrix:
    """Some rows of a packed matrix, from a multiple of 16."""
    tiles = slice(rows.start // TILE, -(-rows.stop // TILE))
    scale = None if matrix.scale is None else matrix.scale[tiles]
    return Matrix(matrix.format, rows.stop - rows.start, matrix.k, matrix.data[tiles], scale)


def _metadata(source: Source, types: Mapping[str, str]) -> dict[str, Any]:
    matrices = [kind for name, kind in types.items() if name not in TABLES and name.endswith("proj.weight")]
    tokenizer = _tokenizer(source)
    swallowing = swallows_blanks(source.tokenizer)
    found: dict[str, Any] = {
        "general.architecture": source.architecture,
        "general.type": "model",
        "general.name": _name(source, swallowing),
        "general.file_type": _FILE_TYPES[max(set(matrices), key=matrices.count)],
        "general.quantization_version": QUANTIZATION_VERSION,
    }
    found |= _licence(source) | write_sampling(source.defaults)
    found |= write_config(source.architecture, source.config) | tokenizer
    _check_chat(source, found)
    return found


def _check_chat(source: Source, metadata: Mapping[str, Any]) -> None:
    """Raise UnsupportedModel for what decides over answers here, and a reader of this metadata does not get."""
    template = _template(source)
    lost = [f"the option {name}" for name in _lost_options(source.defaults)]
    ends = source.stop_ids - read_stop_ids(metadata, source.config.vocab_size)
    lost += [f"the end of answers {shown(source.tokenizer.id_to_piece(id_))}" for id_ in sorted(ends)]
    lost += ["a system message of its own"] if source.system else []
    lost += ["messages that go before every conversation"] if source.examples else []
    if template is not None and not _comes_back(template, metadata):
        lost.append("its chat template, or the text of a token in it")
    if lost:
        raise UnsupportedModel(
            f"{source.name} has what a GGUF file cannot say: {', '.join(lost)}; take it out of its settings first, or "
            "copy the GGUF file that it comes from"
        )


def _lost_options(options: Options) -> list[str]:
    """The names of those that come back otherwise, or not at all."""
    written = write_sampling(options).items()
    back = read_sampling({key: value.item() if isinstance(value, np.generic) else value for key, value in written})
    idle = ("top_k", "top_p", "min_p") if options.temperature == 0 else ()
    names = [one.name for one in fields(Options) if one.name not in idle]
    return [name for name in names if getattr(back, name) != getattr(options, name)]


def _template(source: Source) -> ChatTemplate | None:
    """None for a GGUF file without one. That a folder's own cannot be used is told, as another would take its place."""
    try:
        return source.template
    except TemplateError:
        if isinstance(source, FolderSource):
            raise
        return None


def _comes_back(template: ChatTemplate, metadata: Mapping[str, Any]) -> bool:
    """Whether a reader finds the same text, and the same text for every token that it names."""
    back = read_template(metadata)
    used = [name for name in template.tokens.keys() | back.tokens.keys() if name in template.text]
    return back.text == template.text and all(template.tokens.get(name) == back.tokens.get(name) for name in used)


def _name(source: Source, swallowing: bool) -> str:
    """The model's own name, such that llama.cpp treats white space after special tokens as this tokenizer does."""
    told = source.metadata.get("general.name") if isinstance(source, GGUFSource) else None
    name = told if isinstance(told, str) and told.strip() else re.split(r"[/\\]", source.name.rstrip("/\\"))[-1]
    if swallowing:
        return name if _SWALLOWING_NAME.search(name) else f"{name} (phi-3)"
    return _SWALLOWING_NAME.sub("Phi 3", name)


def _licence(source: Source) -> dict[str, str]:
    """As a GGUF file names it. A folder has its text, for which GGUF has no place."""
    told = source.metadata if isinstance(source, GGUFSource) else {}
    return {key: text for key in _LICENCE if isinstance(text := told.get(key), str)}


def _tokenizer(source: Source) -> dict[str, Any]:
    """The metadata of tokenizer and template: of a GGUF file its own, with the template that is in use."""
    template = _template(source)
    if isinstance(source, FolderSource):
        spec, _ = read_folder(source.path)
        return write_tokenizer(spec, source.tokenizer, template, source.stop_ids, source.config.vocab_size)
    assert isinstance(source, GGUFSource)
    own = {key: value for key, value in source.metadata.items() if key.startswith("tokenizer.")}
    if template is not None:
        own["tokenizer.chat_template"] = template.text
    return own


def _check_target(source: Source, out: Path, force: bool) -> None:
    if out.suffix != ".gguf":
        raise RequestError(f"{out} does not end in .gguf, by which such files are known; give a name that does")
    if not is_there(out, StorageError):
        return
    if not out.is_file():
        raise RequestError(f"{out} is there and is no file; give another name")
    if any(out.samefile(file.path) for file in source.tensors.files):
        raise RequestError(f"{out} is the model's own file; give another name")
    if not force:
        raise RequestError(f"{out} is there already; give another name, or --force to replace it")
