"""What is made of prompts while they are read: log probabilities and vectors, in any pieces and any company."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from driving import answer, events, run, task

import slmkit
import small
import tiny
from checkpoints import CASES, KERNELS, NATIVE, REFERENCE, Runner, runner
from slmkit.engine.cache import Cache
from slmkit.engine.memory import layout_of
from slmkit.engine.sampling import log_softmax
from slmkit.engine.scheduler import Work
from slmkit.engine.step import Engine, assemble
from slmkit.engine.worker import new_job
from slmkit.errors import ContextExceeded, RequestError
from slmkit.events import Chunk, PromptRead, Started
from slmkit.options import Options
from slmkit.request import Request

IDS = np.random.default_rng(4).integers(4, 100, 300).tolist()


def engine_of(model: Runner, blocks: int = 200, step_tokens: int = 256) -> Engine:
    layout = layout_of(model.config)
    kind = {"float32": "f32", "float16": "f16", "int8": "q8"}[str(model.cache.data.dtype)]
    cache = Cache(blocks, layout.layers, layout.kv_heads, layout.head_dim, kind, layout.strands)
    return Engine(model.model, cache, step_tokens)


def scored(prompt_read: PromptRead):
    return [(token.id, token.logprob, [t.id for t in token.top]) for token in prompt_read.tokens]


@pytest.mark.parametrize("kernels", KERNELS)
def test_each_token_has_the_log_probability_that_the_model_gave_it(kernels):
    model = runner("gqa", kernels)
    engine = engine_of(model)
    engine.add(job := new_job(task(IDS[:70], limit=2, prompt_logprobs=3)))
    while engine.jobs:
        engine.step()
    started, read, *rest = events(job)
    assert isinstance(started, Started)
    assert isinstance(rest[0], Chunk)
    rows = model.all_logits(IDS[:70])
    assert (read.tokens[0].id, read.tokens[0].logprob, read.tokens[0].top) == (IDS[0], None, ())
    assert len(read.tokens) == 70
    for i in range(1, 70):
        own = log_softmax(rows[i - 1])
        assert read.tokens[i].id == IDS[i]
        assert read.tokens[i].logprob == pytest.approx(own[IDS[i]], abs=1e-4)
        assert [t.id for t in read.tokens[i].top] == np.argsort(-own, kind="stable")[:3].tolist()


@pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")
@pytest.mark.parametrize("step_tokens", [32, 100, 256])
def test_pieces_neighbours_preemption_and_what_is_cached_make_no_difference(step_tokens):
    model = runner("gqa", NATIVE[0], "q4", "q8")
    alone = engine_of(model)
    alone.add(job := new_job(task(IDS[:150], limit=4, prompt_logprobs=1)))
    while alone.jobs:
        alone.step()
    right = scored(events(job)[1])
    engine = engine_of(model, 12, step_tokens)
    run(engine, task(IDS[:150], limit=1))
    jobs = [
        new_job(t) for t in (task(IDS[50:150], limit=60), task(IDS[:150], limit=4, prompt_logprobs=1), task(IDS[:80]))
    ]
    for each in jobs:
        engine.add(each)
    while engine.jobs:
        engine.step()
    found = events(jobs[1])
    assert [type(event) for event in found].count(PromptRead) == 1
    assert scored(found[1]) == right
    assert answer_of(found).choices[0].usage.cached_tokens == 0
    assert engine.cache.n_free == 12


def answer_of(found):
    from slmkit.events import collect

    return collect(iter(found))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("reading") / "model")


@pytest.fixture(scope="module")
def model(folder):
    with slmkit.load(folder) as model:
        yield model


@pytest.mark.parametrize("options", [{}, {"n": 3, "temperature": 1.0, "seed": 1}, {"beams": 2}, {"max_tokens": 1}])
def test_an_answer_has_its_prompt_once_whatever_is_asked_besides(model, options):
    answer = model.generate("The quick fox", prompt_logprobs=2, **{"max_tokens": 5, **options})
    ids = model.backend.task(Request(prompt="The quick fox")).ids
    assert [token.id for token in answer.prompt] == list(ids)
    assert all(token.logprob <= 0 and len(token.top) == 2 for token in answer.prompt[1:])
    assert model.generate("The quick fox", max_tokens=1).prompt == ()


def test_the_prompt_of_a_single_token_has_no_probability(model):
    (read,) = (e for e in model.events(Request(ids=(5,), prompt_logprobs=0, options=Options(max_tokens=1)))
               if isinstance(e, PromptRead))  # fmt: skip
    assert [(token.id, token.logprob) for token in read.tokens] == [(5, None)]


@pytest.mark.parametrize("n", [-1, 1001, 1.5, True, "2"])
def test_the_number_of_alternatives_is_checked(model, n):
    with pytest.raises(RequestError, match="it takes a whole number from 0 to 1000"):
        model.generate("Hm", prompt_logprobs=n)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("architecture", ["gqa", "small"])
def test_a_vector_is_the_mean_of_the_normed_states(kernels, architecture, tmp_path):
    folder = REFERENCE / CASES["gqa"]["folder"] if architecture == "gqa" else small.write_model(tmp_path / "small")
    model = Runner(folder, kernels)
    engine = engine_of(model)
    engine.add(job := new_job(task(IDS[:130], embeds=True)))
    while engine.jobs:
        engine.step()
    assert events(job)[1:] == []
    line = model.line(IDS[:130])
    ids, step = assemble([Work(line, 130)], model.cache)
    right = model.model.normed(model.model.hidden(ids, step)).mean(0)
    np.testing.assert_allclose(job.vector, right, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")
@pytest.mark.parametrize(("blocks", "step_tokens"), [(200, 256), (200, 32), (9, 40)])
def test_a_vector_is_the_same_to_the_bit_in_any_company(blocks, step_tokens):
    model = runner("gqa", NATIVE[0], "q4", "q8")
    alone = engine_of(model)
    alone.add(right := new_job(task(IDS[:150], embeds=True)))
    while alone.jobs:
        alone.step()
    engine = engine_of(model, blocks, step_tokens)
    others = [
        new_job(task(IDS[:100], limit=80)),
        new_job(task(IDS[:150], embeds=True)),
        new_job(task(IDS[:150], limit=9)),
    ]
    for job in others:
        engine.add(job)
    while engine.jobs:
        engine.step()
    np.testing.assert_array_equal(others[1].vector, right.vector)
    assert answer(others[2]).choices[0].reason == "length"
    assert engine.cache.n_free == blocks


def test_texts_become_rows_in_their_order(model):
    texts = [f"number {i}" * (1 + i % 5) for i in range(30)]
    rows = model.embed(texts)
    assert rows.shape == (30, 64)
    assert rows.dtype == np.float32
    for i in (0, 7, 29):
        np.testing.assert_array_equal(model.embed(texts[i]), rows[i])
    assert model.embed([]).shape == (0, 64)


def test_texts_are_read_while_answers_go_on(model):
    long = model.events(Request(prompt="Hm", options=Options(max_tokens=400, ignore_eos=True)))
    got: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: got.append(model.embed(["a text"] * 20)))
    thread.start()
    assert sum(isinstance(event, Chunk) for event in long) == 400
    thread.join()
    assert (got[0] == got[0][0]).all()


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [("", RequestError, "empty"), ("word " * 3000, ContextExceeded, r"[0-9]+ tokens, over the context of 4096"),
     (5, RequestError, "a text to embed is text, not int"), ("\ud800", RequestError, "surrogate")],
)  # fmt: skip
def test_a_text_that_cannot_be_embedded_is_refused_alone(model, text, error, said):
    with pytest.raises(error, match=said):
        model.embed(["fine", text])
    assert model.embed("fine").shape == (64,)


def test_ids_of_a_text_alone_and_back(model):
    text = "Hello there, é!"
    ids = model.backend.tokenize(text)
    assert ids == model.backend.loaded.tokenizer.encode(text)
    assert model.backend.detokenize(ids) == text
    assert 121 in model.backend.tokenize("a<|end|>", parse_special=True)
    assert 121 not in model.backend.tokenize("a<|end|>")
    assert json.dumps(ids)
    with pytest.raises(RequestError, match="token id 128 is none of this model's: 0 to 127"):
        model.backend.detokenize([5, 128])
