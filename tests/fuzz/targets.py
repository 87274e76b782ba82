"""What is fuzzed: each target takes bytes and reads them as one kind of untrusted file.

A target returns, or raises SlmError with one line of a message. Anything else is a finding; so are 10 s, and 1 GB.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT), str(ROOT / "reliability"), str(ROOT / "text")]

import gguf_parts  # noqa: E402
import spoiling  # noqa: E402

import tiny  # noqa: E402
from ollama_store import OllamaStore  # noqa: E402
from slmkit.engine.defaults import generation_defaults, stop_ids  # noqa: E402
from slmkit.errors import SlmError  # noqa: E402
from slmkit.models import phi3  # noqa: E402
from slmkit.models.config import MOST_LAYERS  # noqa: E402
from slmkit.models.registry import architecture  # noqa: E402
from slmkit.request import Message  # noqa: E402
from slmkit.sources.gguf import GGUFSource  # noqa: E402
from slmkit.text import sentencepiece  # noqa: E402
from slmkit.text.go_template import known_template  # noqa: E402
from slmkit.text.known import recognise  # noqa: E402
from slmkit.text.patterns import is_tame  # noqa: E402
from slmkit.text.template import ChatTemplate  # noqa: E402
from slmkit.text.tokenizer import Tokenizer  # noqa: E402
from slmkit.untrusted import parse_json  # noqa: E402
from slmkit.weights.checkpoint import Checkpoint  # noqa: E402
from slmkit.weights.expect import check_tensors  # noqa: E402
from slmkit.weights.gguf.blocks import dequantize  # noqa: E402
from slmkit.weights.header import DTYPES  # noqa: E402
from slmkit.weights.hub import api as hub_api  # noqa: E402
from slmkit.weights.hub import files as hub_files  # noqa: E402
from slmkit.weights.lora.config import LoraConfig  # noqa: E402
from slmkit.weights.names import hub_reference, refuse_reserved, suggestion  # noqa: E402
from slmkit.weights.ollama import model as ollama  # noqa: E402
from slmkit.weights.ollama.names import Name  # noqa: E402
from slmkit.weights.ollama.options import translate  # noqa: E402
from slmkit.weights.ollama.store import Store  # noqa: E402
from slmkit.weights.packed import packed_metadata, packed_plan, read_packed, recipe_formats  # noqa: E402
from slmkit.weights.safetensors import SafetensorsFile, SafetensorsWriter  # noqa: E402

TEXT = "Hi <|end|> \u00e9\U0001f600\n  x"
# A phi3 of a few hundred weights.
SMALL = {"model_type": "phi3", "vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
         "num_attention_heads": 1, "max_position_embeddings": 64}  # fmt: skip
PACKED = {"w": (32, 64), "model.norm.weight": (64,)}


def safetensors(data: bytes) -> None:
    """model.safetensors in a folder whose config.json is SMALL."""
    folder = _with("model.safetensors", data)
    (folder / "config.json").write_text(json.dumps(SMALL))
    checkpoint = Checkpoint.open(folder)
    for name in checkpoint.names[:20]:
        tensor = checkpoint.tensor(name)
        assert tensor.nbytes <= len(data)
        _touch(tensor)
    config = phi3.Config.from_dict(checkpoint.config)
    check_tensors(phi3.expected_tensors(config), checkpoint)


def index(data: bytes) -> None:
    """model.safetensors.index.json beside the shard that the good one names."""
    folder = _sharded()
    _put(folder / "model.safetensors.index.json", data)
    checkpoint = Checkpoint.open(folder)
    assert {file.path.parent for file in checkpoint.files} == {folder}


def packed(data: bytes) -> None:
    """A file that `slm quantize` might have written."""
    path = _folder() / "packed.safetensors"
    _put(path, data)
    for tensor in read_packed(SafetensorsFile(path), PACKED).values():
        if isinstance(tensor, np.ndarray):
            _touch(tensor)


def gguf(data: bytes) -> None:
    """A GGUF file: header, tensors, and all that its metadata say of model, tokenizer and template."""
    path = _folder() / "model.gguf"
    _put(path, data)
    source = GGUFSource("model.gguf", path)
    for name, tensor in list(source.files[0].tensors.items())[:20]:
        assert tensor.start + tensor.n_bytes <= len(data)
        blocks = source.files[0].blocks(name)
        _touch(blocks)
        if tensor.type.startswith("Q"):
            dequantize(blocks.reshape(-1, blocks.shape[-1])[:2], tensor.type)
    check_tensors(source.expected, source.tensors)
    _use(source.tokenizer)
    assert source.template is not None
    assert source.defaults is not None
    assert source.stop_ids is not None


def gguf_tokenizer(data: bytes) -> None:
    """A GGUF file of which the tokenizer is read even where there is no model in it."""
    path = _folder() / "tokenizer.gguf"
    _put(path, data)
    source = GGUFSource("tokenizer.gguf", path)
    assert source.metadata is not None
    _both(lambda: _use(source.tokenizer), lambda: source.template, lambda: source.defaults)


def config(data: bytes) -> None:
    """config.json."""
    raw = parse_json(data, "config.json")
    read = architecture(raw).Config.from_dict(raw)
    assert len(phi3.expected_tensors(read)) <= 6 * MOST_LAYERS + 3
    stop_ids({}, raw, read.vocab_size)


def generation_config(data: bytes) -> None:
    """generation_config.json."""
    raw = parse_json(data, "generation_config.json")
    _both(lambda: generation_defaults(raw), lambda: stop_ids(raw, {}, 100))


def tokenizer(data: bytes) -> None:
    """tokenizer.json."""
    _use(Tokenizer(parse_json(data, "tokenizer.json")))


def tokenizer_config(data: bytes) -> None:
    """tokenizer_config.json beside a good tokenizer.json; its template is read and not run."""
    folder = _with("tokenizer_config.json", data)
    _both(lambda: _use(Tokenizer.from_folder(folder)), lambda: ChatTemplate.from_folder(folder, "phi3"))


def sentencepiece_model(data: bytes) -> None:
    """tokenizer.model."""
    model = sentencepiece.parse(data)
    _use(Tokenizer(sentencepiece.convert(model, add_bos=True)))


def pattern(data: bytes) -> None:
    """A tokenizer's regular expression: where it is called tame, it is quick on what backtracking is slow on."""
    regex = data.decode("utf-8", "replace")
    if is_tame(regex):
        step = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        tokenizer = Tokenizer({**tiny.spec(), "pre_tokenizer": step})
        letters = "".join(dict.fromkeys(regex))[:10] or "a"
        for text in (*(letter * 300 + "!" for letter in letters), letters * 40, " " * 300 + "!", "a1 " * 100):
            _both(lambda text=text: tokenizer.encode(text))  # type: ignore[misc]


def template(data: bytes) -> None:
    """A chat template, run as any is: in a process of its own."""
    source = data.decode("utf-8", "replace")
    recognise(source)
    ChatTemplate(source, {"bos_token": "<s>"}).render([Message("user", "hi")], lambda text: [])


def go_template(data: bytes) -> None:
    """A template of Ollama's kind, which is recognised or refused."""
    known_template(data.decode("utf-8", "replace"), "x").pieces(
        [Message("user", "hi")], bos_token="", eos_token="", add_generation_prompt=True
    )


def ollama_manifest(data: bytes) -> None:
    """A manifest in a store with the good one's blobs; what it refers to stays within the store."""
    root, path, name, _ = _store()
    path.write_bytes(data)
    found = ollama.read(Store(root), path, name)
    assert found.path.resolve().is_relative_to(root.resolve())


def ollama_params(data: bytes) -> None:
    """The layer of parameters."""
    translate(parse_json(data, "params"), "a model")


def names(data: bytes) -> None:
    """What may be typed for a model: a reference to the hub, a name in Ollama's store."""
    text = data.decode("utf-8", "surrogateescape")

    def hub() -> None:
        refuse_reserved(text)
        reference = hub_reference(text)
        if reference is not None:
            assert ".." not in reference.repo.split("/")
            assert hub_reference(str(reference)) == reference
        suggestion(text)

    def store() -> None:
        name = Name.parse(text)
        assert not {"", ".", ".."} & set(name.parts)
        assert not any(set(part) & set("/\\\0") for part in name.parts)

    _both(hub, store)


def hub_listing(data: bytes) -> None:
    """What a hub says a repository has: names of files that will be written to."""
    raw = parse_json(data, "listing")
    entries = raw.get("siblings")
    files = [hub_api._file(entry, "the listing") for entry in (entries if isinstance(entries, list) else [])]
    for file in files:
        place = os.path.normpath(f"/folder/{file.name}")
        assert place.startswith("/folder/")
        assert place == f"/folder/{file.name}"
    selection = raw.get("selection")
    hub_files.choose(files, selection if isinstance(selection, str) else None, "the repository")


def adapter_config(data: bytes) -> None:
    """adapter_config.json."""
    read = LoraConfig.from_dict(parse_json(data, "adapter_config.json"), "adapter_config.json")
    for module in ("model.layers.1.self_attn.o_proj", "lm_head"):
        assert read.expects(module) in (True, False, None)
        assert read.rank(module) >= 1
        assert abs(read.scale(module)) <= 1e6


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        safetensors, index, packed, gguf, gguf_tokenizer, config, generation_config, tokenizer, tokenizer_config,
        sentencepiece_model, pattern, template, go_template, ollama_manifest, ollama_params, names, hub_listing,
        adapter_config,
    )
}  # fmt: skip


def check(name: str, data: bytes) -> SlmError | None:
    """Run a target. Gives the error that it raised on purpose; raises what is a finding."""
    try:
        TARGETS[name](data)
    except SlmError as error:
        message = str(error)
        if not message or len(message) > 2000:
            raise AssertionError(f"a message of {len(message)} characters: {message[:200]!r}") from error
        if "\n" in message or "\r" in message or "\x1b" in message:
            raise AssertionError(f"a message that is not one line: {message[:500]!r}") from error
        return error
    return None


@cache
def seeds(name: str) -> list[bytes]:
    """The corpus of a target, and the good file that it is all about."""
    folder = Path(__file__).parent / "corpus" / name
    kept = [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return [*kept, *GOOD[name]()] if name in GOOD else kept


@cache
def _folder() -> Path:
    """A place in memory, if there is one, for the file of the moment."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _good() -> Path:
    (_folder() / "good").mkdir()
    return spoiling.good(_folder() / "good")


@cache
def _sharded() -> Path:
    folder = _folder() / "sharded"
    shutil.copytree(_good(), folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    return folder


@cache
def _store() -> tuple[Path, Path, Name, bytes]:
    store = OllamaStore(_folder() / "models")
    path = store.add("evil/latest", template="{{ .Prompt }}", params={"stop": ["x"]}, system="Be kind.")
    return store.root, path, Name.parse("evil"), path.read_bytes()


def _with(file: str, data: bytes) -> Path:
    """A copy of the good model in which the file holds `data`."""
    folder = _folder() / f"with-{file}"
    if not folder.exists():
        shutil.copytree(_good(), folder)
    _put(folder / file, data)
    return folder


def _put(path: Path, data: bytes) -> None:
    """As a new file: one that is overwritten could still be mapped."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def _touch(array: Any) -> None:
    """Read the first and the last element, so that a view beyond the file would show."""
    flat = array.reshape(-1)
    if flat.size:
        assert flat[0] is not None
        assert flat[-1] is not None


def _use(tokenizer: Tokenizer) -> None:
    """What every prompt asks of a tokenizer."""
    ids = tokenizer.encode_prompt([(TEXT, False), ("<|end|>", True)])
    tokenizer.decode(ids)
    tokenizer.least_tokens(TEXT)
    tokenizer.controls_in(TEXT)


def _both(*steps: Callable[[], object]) -> None:
    """Run all of them, also where one has refused, and raise the last refusal."""
    refused = None
    for step in steps:
        try:
            step()
        except SlmError as error:
            refused = error
    if refused:
        raise refused


def _packed_bytes() -> bytes:
    formats = recipe_formats(PACKED, "q8")
    path = _folder() / "good-packed.safetensors"
    plan = packed_plan(PACKED, formats)
    with SafetensorsWriter(path, plan, packed_metadata(PACKED, formats, "q8", "0" * 64)) as writer:
        writer.begin()
        for name, dtype, shape in plan:
            writer.append(name, np.ones(shape, DTYPES[dtype]))
        writer.commit()
    return path.read_bytes()


def _small_gguf() -> bytes:
    """A whole model of 20 KB, made of the good file's metadata: one layer of 32 features in Q4_0, 300 tokens."""
    parts = gguf_parts.good()
    tokens = 300
    for key, kind, raw in list(parts.pairs):
        if kind == gguf_parts.ARRAY:
            values = gguf_parts.elements(raw)[:tokens]
            parts.set(key.decode(), kind, gguf_parts.array(raw[0], b"".join(values), tokens))
    for key, n in {"embedding_length": 32, "feed_forward_length": 32, "block_count": 1, "attention.head_count": 2,
                   "attention.head_count_kv": 1, "rope.dimension_count": 16}.items():  # fmt: skip
        parts.set(f"phi3.{key}", gguf_parts.U32, n.to_bytes(4, "little"))
    parts.entries, parts.data = [], b""
    rows_of = {"token_embd": tokens, "output_norm": 0, "blk.0.attn_norm": 0, "blk.0.attn_qkv": 64}
    rows_of |= {"blk.0.attn_output": 32, "blk.0.ffn_norm": 0, "blk.0.ffn_up": 64, "blk.0.ffn_down": 32}
    for name, rows in rows_of.items():
        sizes, kind = ([32, rows], 2) if rows else ([32], 0)
        raw = b"\x00\x3c" * 9 * rows if rows else b"\x00\x00\x80\x3f" * 32
        parts.entries.append(gguf_parts.Entry(f"{name}.weight".encode(), sizes, kind, len(parts.data)))
        parts.data += raw + bytes(-len(raw) % 32)
    return parts.file()


def _gguf_without_tensors() -> bytes:
    parts = gguf_parts.good()
    parts.entries, parts.data = [], b""
    return parts.file()


def _small_safetensors() -> bytes:
    """The weights of SMALL, all ones."""
    path = _folder() / "small.safetensors"
    expected = phi3.expected_tensors(phi3.Config.from_dict(SMALL))
    with SafetensorsWriter(
        path, [(name, "F16", shape) for name, shape in expected.items()], {"format": "pt"}
    ) as writer:
        writer.begin()
        for name, shape in expected.items():
            writer.append(name, np.ones(shape, np.float16))
        writer.commit()
    return path.read_bytes()


GOOD: Mapping[str, Callable[[], list[bytes]]] = {
    "safetensors": lambda: [_small_safetensors()],
    "packed": lambda: [_packed_bytes()],
    "gguf": lambda: [_small_gguf()],
    "gguf_tokenizer": lambda: [_gguf_without_tensors()],
    "config": lambda: [(_good() / "config.json").read_bytes()],
    "adapter_config": lambda: [(Path(__file__).parents[1] / "data" / "lora" / "adapter_config.json").read_bytes()],
    "generation_config": lambda: [(_good() / "generation_config.json").read_bytes()],
    "tokenizer": lambda: [json.dumps(tiny.spec()).encode()],
    "tokenizer_config": lambda: [(_good() / "tokenizer_config.json").read_bytes()],
    "sentencepiece_model": lambda: [(ROOT / "data" / "spm" / "tokenizer.model").read_bytes()],
    "ollama_manifest": lambda: [_store()[3]],
}
