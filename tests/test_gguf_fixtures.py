"""Files that llama.cpp's own quantizer wrote, through the whole engine: they open, and say what their numbers say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import slmkit
from checkpoints import NATIVE, Runner, relative_errors
from slmkit.engine.cache import Cache
from slmkit.ops.choose import choose
from slmkit.ops.matrix import Matrix
from slmkit.ops.pack import as_f32, unpack
from slmkit.sources.base import Source
from slmkit.sources.find import open_source
from slmkit.weights.gguf.checkpoint import PLAIN as PLAIN_TYPES
from slmkit.weights.gguf.repack import LOSSLESS
from slmkit.weights.load import load_weights

FOLDER = Path(__file__).parent / "data" / "gguf"
FILES = sorted(FOLDER.glob("tiny-*.gguf"), key=lambda path: path.name)
GREEDY = json.loads((FOLDER / "tiny-greedy.json").read_text("utf-8"))["cases"]
# Against the same weights as float32 numbers: the norm of the difference of all logits over the norm of the logits.
# Plain numbers: the order of sums alone. Quantized: every product takes its input rounded to 8 bits by groups of 32,
# which makes 0.019 with any type; those that are themselves held in 8 bits (Q4_1, Q5_1, Q2_K) come to 0.029 at most.
# Two halves of one group of inputs exchanged in one matrix make 0.19 to 0.88.
PLAIN, ROUNDED = 1e-5, 0.04


class FileRunner(Runner):
    """A GGUF file with its own numbers, or those numbers as float32."""

    def __init__(self, source: Source, *, dequantized: bool, kernels: str = "auto", blocks: int = 8) -> None:
        c = self.config = source.config
        ops = choose(kernels, 2)
        if dequantized:
            values = {name: as_f32(np.asarray(source.tensors.tensor(name))) for name in source.expected}
            weights = {name: Matrix("f32", *v.shape, v) if v.ndim == 2 else v for name, v in values.items()}
        else:
            weights = load_weights(source.tensors, source.expected, ops=ops)
        self.model = source.family.MODEL(c, weights, ops)
        self.cache = Cache(blocks, c.num_hidden_layers, c.num_key_value_heads, c.head_dim, "f32")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_logits_are_those_of_the_dequantized_weights(path):
    own, values = (FileRunner(open_source(str(path)), dequantized=flag) for flag in (False, True))
    ids = np.arange(3, 67) * 5 % 384
    error = relative_errors(own.all_logits(ids).ravel(), values.all_logits(ids).ravel())
    assert error < (PLAIN if path.stem in ("tiny-F32", "tiny-F16", "tiny-BF16") else ROUNDED)


def test_greedy_answers_of_the_float32_file_are_llama_cpps():
    model = slmkit.load(FOLDER / "tiny-F32.gguf", cache="f32")
    for case in GREEDY:
        n = len(case["greedy_ids"])
        answer = model.generate(case["prompt"], ignore_eos=True, max_tokens=n, temperature=0)
        assert answer.choices[0].usage.prompt_tokens == len(case["prompt_ids"])
        assert [token.id for token in answer.choices[0].tokens] == case["greedy_ids"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_opens_by_its_path_and_answers(path):
    model = slmkit.load(path)
    assert model.describe()["architecture"] == "phi3"
    assert model.chat("hat", max_tokens=4, ignore_eos=True).choices[0].usage.completion_tokens == 4


@pytest.mark.skipif(not NATIVE, reason="NumPy's products choose their order of sums by shape")
@pytest.mark.parametrize("kernels", NATIVE)
@pytest.mark.parametrize("stem", ["tiny-Q4_K_M", "tiny-Q3_K_M"])  # together q8, q4_k, q5_k and q6_k
def test_logits_are_the_same_bits_alone_in_pieces_in_batches_and_on_any_threads(stem, kernels):
    run = FileRunner(open_source(str(FOLDER / f"{stem}.gguf")), dequantized=False, kernels=kernels, blocks=32)
    prompts = [(np.arange(3, 3 + n) * 7 % 384).tolist() for n in (1, 2, 17, 40)]
    alone = [run.last_logits(ids) for ids in prompts]
    for ids, row in zip(prompts, alone, strict=True):
        for piece in (3, 31):
            np.testing.assert_array_equal(run.last_logits(ids, piece), row)
    lines = [run.line(ids) for ids in prompts]
    np.testing.assert_array_equal(run.run(*[(line, len(line.ids)) for line in lines]), alone)
    for threads in (1, 3):
        choose(kernels, threads)
        np.testing.assert_array_equal(run.last_logits(prompts[-1]), alone[-1])
    choose(kernels, 2)


@pytest.mark.skipif(len(NATIVE) < 2, reason="there is only one set of kernels")
@pytest.mark.parametrize("stem", ["tiny-Q4_K_M", "tiny-Q3_K_M"])
def test_logits_are_the_same_bits_with_every_set_of_kernels(stem):
    ids, path = np.arange(3, 67) * 5 % 384, str(FOLDER / f"{stem}.gguf")
    first, *others = (FileRunner(open_source(path), dequantized=False, kernels=k).all_logits(ids) for k in NATIVE)
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_number_of_a_type_that_has_a_format_is_changed_by_loading(path):
    source = open_source(str(path))
    weights = load_weights(source.tensors, source.expected, ops=choose("auto", 2))
    kept = 0
    for name, tensor in weights.items():
        if source.tensors.dtype(name) in (*PLAIN_TYPES, *LOSSLESS):
            held = unpack(tensor) if isinstance(tensor, Matrix) else tensor
            assert np.array_equal(held, as_f32(source.tensors.tensor(name))), name
            kept += 1
    assert kept > 5
