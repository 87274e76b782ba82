"""Adapters: equal to PEFT and to merged weights, in every architecture; several in one batch change no bit of each."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from driving import Recorder, run, task

import adapters
import small
from checkpoints import KERNELS, NATIVE, REFERENCE, Runner, relative_errors
from slmkit.engine.step import Engine
from slmkit.layers.lora import spans_among
from slmkit.layers.replay import MOST_ROWS
from slmkit.layers.step import Span
from slmkit.ops.choose import choose
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.safetensors import SafetensorsFile
from vision_models import write_safetensors, write_vision_model

PEFT = Path(__file__).parents[1] / "data" / "lora"
STORED = {"phi3": REFERENCE / "longrope", "tied": REFERENCE / "tied", "phimoe": REFERENCE.parent / "phimoe"}
ARCHITECTURES = ("phi3", "tied", "phi3small", "phi3_v", "phimoe")
IDS = [int(i) for i in np.random.default_rng(5).integers(4, 100, 75)]

native = pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request, tmp_path_factory) -> Path:
    """A small checkpoint of each architecture."""
    if request.param in STORED:
        return STORED[request.param]
    write = small.write_model if request.param == "phi3small" else write_vision_model
    return write(tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def two(model, tmp_path_factory) -> dict[str, Path]:
    """Adapters of every matrix in its layers, experts and routers too."""
    folder = tmp_path_factory.mktemp("adapters")
    return {"b": adapters.write_for(folder / "b", model, 1), "a": adapters.write_for(folder / "a", model, 2)}


@pytest.mark.parametrize("kernels", KERNELS)
def test_logits_are_those_of_peft(kernels):
    with np.load(PEFT / "logits.npz") as stored:
        ids, with_it, without = stored["ids"], stored["logits"], stored["plain"]
    runner = Runner(REFERENCE / "gqa", kernels, adapters={"it": PEFT})
    for n in (1, 7, len(ids)):
        # float32 on both sides; sums in other orders moved a row by 2e-6 of its norm at most
        assert relative_errors(runner.last_logits(ids[:n], adapter="it"), with_it[n - 1]) < 1e-5
        assert relative_errors(runner.last_logits(ids[:n]), without[n - 1]) < 1e-5


def merged_folder(model: Path, adapter: Path, folder: Path) -> Path:
    """The checkpoint with W + alpha / r B A for W."""
    source = Checkpoint.open(model)
    file = SafetensorsFile(adapter / "adapter_model.safetensors")
    weights = {name: np.array(source.tensor(name)) for name in source.names}
    delta = {name: np.array(file.tensor(name)) for name in file.tensors}
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    write_safetensors(folder / "model.safetensors", adapters.merged(weights, delta, adapters.ALPHA / adapters.RANK))
    return folder


@pytest.mark.parametrize("kernels", KERNELS)
def test_logits_are_those_of_merged_weights(model, two, kernels, tmp_path):
    merged = Runner(merged_folder(model, two["a"], tmp_path / "merged"), kernels)
    unmerged = Runner(model, kernels, adapters=two)
    for n in (1, 33, len(IDS)):
        ours, theirs = unmerged.last_logits(IDS[:n], adapter="a"), merged.last_logits(IDS[:n])
        shown = np.isfinite(theirs)
        # float32 on both sides; the sum W x + B (A x) is rounded elsewhere than (W + B A) x
        assert relative_errors(ours[shown], theirs[shown]) < 1e-5
        assert relative_errors(unmerged.last_logits(IDS[:n])[shown], theirs[shown]) > 0.1  # it is no small matter


@native
@pytest.mark.parametrize("quantize", ["none", "q4"])
def test_without_an_adapter_the_bits_are_those_of_the_plain_model(model, two, quantize):
    plain, adapted = Runner(model, NATIVE[0], quantize), Runner(model, NATIVE[0], quantize, adapters=two)
    for piece in (1, 40):
        np.testing.assert_array_equal(adapted.last_logits(IDS, piece), plain.last_logits(IDS, piece))


@native
@pytest.mark.parametrize("quantize", ["none", "q4"])
def test_every_chunking_and_every_number_of_threads_gives_the_same_bits(model, two, quantize):
    runner = Runner(model, NATIVE[0], quantize, adapters=two)
    alone = runner.last_logits(IDS, adapter="a")
    for piece in (1, 7, MOST_ROWS, 31, 33):
        np.testing.assert_array_equal(runner.last_logits(IDS, piece, adapter="a"), alone, str(piece))
    for threads in (1, 3):
        choose(NATIVE[0], threads)
        np.testing.assert_array_equal(runner.last_logits(IDS, adapter="a"), alone)
    choose(NATIVE[0], 2)


@native
@pytest.mark.parametrize("quantize", ["none", "q4"])
def test_a_batch_with_several_adapters_gives_each_the_bits_that_it_has_alone(model, two, quantize):
    """Some decode while others read prompts, in the order in which they came."""
    chosen = ["a", "", "b", "a", "", "b", "b"]
    lengths = [40, 3, 31, 17, 33, 75, 9]

    def recorded(groups: list[list[int]], blocks: int, step_tokens: int) -> list[dict[int, np.ndarray]]:
        runner = Runner(model, NATIVE[0], quantize, blocks=blocks, adapters=two)
        engine = Engine(runner.model, runner.cache, step_tokens)
        recorders = [Recorder() for _ in chosen]
        tasks = [
            task(IDS[:n], limit=12, processors=(r,), temperature=1.0, seed=n, adapter=adapter)
            for n, r, adapter in zip(lengths, recorders, chosen, strict=True)
        ]
        for group in groups:
            run(engine, *[tasks[i] for i in group])
        return [r.rows for r in recorders]

    alone = recorded([[i] for i in range(len(chosen))], 64, 256)
    together = recorded([list(range(len(chosen)))], 16, 40)  # so few blocks that some are read again
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys()
        for length in one:
            np.testing.assert_array_equal(other[length], one[length])


@native
def test_speculation_and_beams_go_with_adapters(two, model):
    runner = Runner(model, NATIVE[0], "none", adapters=two)
    engine = Engine(runner.model, runner.cache)
    prompt = IDS[:6] * 5
    for options in ({"speculate": 6}, {"n": 3, "temperature": 1.0, "seed": 1}):
        plain, guessed = (
            run(engine, task(prompt, limit=20, adapter="a", **{**options, "speculate": speculate}))[0]
            for speculate in (0, 6)
        )
        assert [c.text for c in plain.choices] == [c.text for c in guessed.choices]
    with_it, without = (run(engine, task(prompt, limit=5, beams=3, adapter=name))[0] for name in ("b", ""))
    assert with_it.choices[0].text != without.choices[0].text


@native
def test_recorded_steps_have_the_bits_of_plain_ones(tmp_path):
    two = {name: adapters.write_for(tmp_path / name, STORED["phi3"], seed) for seed, name in enumerate("ab")}
    runner = Runner(STORED["phi3"], NATIVE[0], "q4", adapters=two)
    rows = {}
    for most in (MOST_ROWS, 0):
        runner.model.run_layers.most_rows = most
        for adapter in ("a", "b", ""):
            rows[most, adapter] = runner.last_logits(IDS[:20], 1, adapter=adapter)
    assert len({key[-1] for key in runner.model.run_layers._by_shape}) == 3  # one for each adapter, and one for none
    for adapter in ("a", "b", ""):
        np.testing.assert_array_equal(rows[MOST_ROWS, adapter], rows[0, adapter])


def test_spans_among_some_rows():
    spans = (Span("a", 2, 5), Span("b", 7, 9))
    assert spans_among(spans, [2, 4, 6]) == (Span("a", 0, 2),)
    assert spans_among(spans, [0, 1, 7, 8]) == (Span("b", 2, 4),)
    assert spans_among(spans, [0, 5, 6]) == ()
    assert spans_among((), [1, 2]) == ()
