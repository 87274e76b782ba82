"""What a Python user sees of a loaded model: answers, streams, loops, asyncio, cancelling, closing and errors."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

import slmkit
import tiny
from slmkit.backends.base import Capabilities
from slmkit.engine import step as step_module
from slmkit.errors import ContextExceeded, OptionError, RequestError, RuntimeFailure, UnsupportedFeature
from slmkit.events import Chunk, Finished, Started, Usage
from slmkit.model import Model

if TYPE_CHECKING:
    from pathlib import Path

LONG = {"max_tokens": 3000, "ignore_eos": True}  # seconds of work, so that what is cancelled is not simply finished


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("api") / "model")


@pytest.fixture(scope="session")
def shared(folder):
    with slmkit.load(str(folder), quantize="none") as model:
        yield model


@pytest.fixture
def model(shared):
    """The model, which must be idle again after each test."""
    yield shared
    wait_until_idle(shared)


def wait_until_idle(model: Model) -> None:
    """A request that is answered after everything before it was dropped."""
    model.generate("x", max_tokens=1)
    engine = model.backend._worker._engine
    assert all(job.cancelled for job in engine.jobs)
    assert engine.cache.n_free == engine.cache.n_blocks


@pytest.fixture
def steps(monkeypatch):
    """One entry for each forward pass: how many sequences advanced in it."""
    counts = []
    forward = step_module.forward

    def counting(model, cache, plan):
        counts.append(len(plan))
        return forward(model, cache, plan)

    monkeypatch.setattr(step_module, "forward", counting)
    return counts


def test_generate_continues_a_text_and_chat_answers_a_conversation(model):
    answer = model.generate("Hello", max_tokens=9)
    assert answer.text == str(answer) == answer.choices[0].text
    assert answer.choices[0].usage == Usage(6, 9)
    prompt = model.render("Hello")
    assert prompt.text == "<|user|>\nHello<|end|>\n<|assistant|>\n"
    chat = model.chat("Hello", max_tokens=9)
    assert chat.choices[0].usage.prompt_tokens == len(prompt.ids)
    assert chat.text == model.chat([{"role": "user", "content": "Hello"}], max_tokens=9).text
    assert chat.text == model.chat([slmkit.Message("user", "Hello")], max_tokens=9).text


def test_a_batch_of_unequal_prompts_gives_each_its_own_answer_in_one_batch(model, steps):
    prompts = ["a", "Hello there", "x" * 300, "The dog, the dog and the dog"]
    alone = [model.generate(prompt, max_tokens=48).text for prompt in prompts]
    steps.clear()
    batch = model.generate(prompts, max_tokens=48)
    assert [answer.text for answer in batch] == alone
    assert max(steps) == 4
    assert model.generate([]) == []


def test_every_prompt_of_a_batch_has_the_processors_and_the_scorer(model):
    def only_q(ids, logits):
        out = np.full_like(logits, -np.inf)
        out[46] = 0
        return out

    batch = model.generate(
        ["a", "b", "c"], max_tokens=3, processors=[only_q], scorer=lambda text, ids, logprob: len(text)
    )
    assert [(answer.text, answer.choices[0].score) for answer in batch] == [("QQQ", 3.0)] * 3


def test_a_bad_prompt_in_a_batch_stops_the_others_too(model, steps):
    with pytest.raises(ContextExceeded):
        model.generate(["a", "b", "x" * 5000], **LONG)
    wait_until_idle(model)
    assert len(steps) < 1000


def test_stream_is_the_answer_in_pieces(model):
    pieces = list(model.stream("Hello", max_tokens=20))
    assert "".join(pieces) == model.generate("Hello", max_tokens=20).text
    assert len(pieces) > 5
    chat = [{"role": "user", "content": "Hi"}]
    assert "".join(model.stream(chat, max_tokens=20)) == model.chat(chat, max_tokens=20).text


def test_the_generator_loop_of_the_readme_gives_the_answer(model):
    generator = model.generator("Hello", top_p=0.9, temperature=1.0, seed=1, max_tokens=15, ignore_eos=True)
    text, tokens = "", 0
    while not generator.done:
        chunk = generator.next()
        text += chunk.text
        tokens += len(chunk.tokens)
    options = {"top_p": 0.9, "temperature": 1.0, "seed": 1, "max_tokens": 15, "ignore_eos": True}
    assert text == model.generate("Hello", **options).text
    assert (tokens, generator.finished.reason) == (15, "length")
    with pytest.raises(RequestError, match="has no next token; ask `done`"):
        generator.next()
    assert [c.text for c in model.generator("Hello", max_tokens=3)] == list(model.stream("Hello", max_tokens=3))


def test_next_gives_a_token_without_waiting_for_the_one_after_it(model):
    gate = threading.Semaphore(1)

    def one_at_a_time(ids, logits):
        gate.acquire()
        return logits

    generator = model.generator("Hello", max_tokens=3, processors=[one_at_a_time])
    for _ in range(3):
        assert not generator.done
        generator.next()
        gate.release()
    assert generator.done


def test_n_samples_are_told_apart_by_seed_and_index(model):
    answers = model.generate("Hello", n=3, temperature=1.0, seed=7, max_tokens=12).choices
    assert len({choice.text for choice in answers}) == 3
    again = model.generate("Hello", n=3, temperature=1.0, seed=7, max_tokens=12).choices
    assert [c.text for c in again] == [c.text for c in answers]
    unseeded = {model.generate("Hello", temperature=1.5, max_tokens=12).text for _ in range(4)}
    assert len(unseeded) > 1


def test_ignore_eos_goes_on_and_stop_ids_add_to_the_models_own(model):
    def force(wanted):
        def forced(ids, logits):
            out = np.full_like(logits, -np.inf)
            out[wanted] = 0
            return out

        return [forced]

    for own in (120, 121, 127):
        assert model.generate("a", max_tokens=4, processors=force(own)).choices[0].reason == "stop"
        ignoring = model.generate("a", max_tokens=4, processors=force(own), ignore_eos=True).choices[0]
        assert (ignoring.reason, len(ignoring.tokens)) == ("length", 4)
    added = model.generate("a", max_tokens=4, processors=force(46), stop_ids=46).choices[0]
    assert (added.reason, added.text, added.stop, len(added.tokens)) == ("stop", "", "Q", 1)


def test_ids_are_continued_as_they_are(model):
    ids = tuple(model.backend.loaded.tokenizer.encode("Hello"))
    events = list(model.events(slmkit.Request(ids=ids, options=slmkit.Options(max_tokens=5))))
    assert events[0] == Started(len(ids))
    assert "".join(e.text for e in events if isinstance(e, Chunk)) == model.generate("Hello", max_tokens=5).text


@pytest.mark.parametrize("ids", [(128,), (-1,), (5, 10**12)])
def test_ids_of_another_model_are_refused_with_this_models_range(model, ids):
    with pytest.raises(RequestError, match=f"{max(ids, key=abs)} is none of this model's: 0 to 127"):
        model.events(slmkit.Request(ids=ids))


@pytest.mark.parametrize("ids", [("a",), (1.5,), (True,)])
def test_ids_that_are_no_whole_numbers_are_refused(ids):
    with pytest.raises(RequestError, match="whole numbers"):
        slmkit.Request(ids=ids)


def test_a_prompt_over_the_context_is_refused_with_both_numbers(model):
    with pytest.raises(ContextExceeded, match=r"4201 tokens.*context of 4096; shorten the prompt"):
        model.generate("x" * 4200)
    with pytest.raises(ContextExceeded, match=r"96 tokens and max_tokens is 4001.*context of 4096.*lower max_tokens"):
        model.generate("x" * 95, max_tokens=4001)
    assert model.generate("x" * 4094, ignore_eos=True).choices[0].usage.completion_tokens == 1


def test_without_max_tokens_the_answer_ends_with_the_context(folder):
    with slmkit.load(str(folder), quantize="none", ctx=40) as small:
        choice = small.generate("Hello", ignore_eos=True).choices[0]
        assert (choice.reason, choice.usage.completion_tokens) == ("length", 34)
        with pytest.raises(ContextExceeded, match=r"context of 40.*larger ctx \(up to 4096\)"):
            small.generate("x" * 50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 1}, "no option 'temprature'; is 'temperature' meant"),
        ({"processor": 1}, "is 'processors' meant"),
        ({"zzz": 1}, "the options are adapter, beams, "),
        ({"beams": 2, "temperature": 0.5}, "leave out temperature or make it 0"),
        ({"beams": 2, "n": 3}, "n is 3, more than the 2 beams"),
        ({"logit_bias": {128: 1.0}}, "token 128; this model's ids end at 127"),
    ],
)
def test_options_that_cannot_be_are_refused(model, options, message):
    with pytest.raises(OptionError, match=message):
        model.generate("Hello", **options)


@pytest.mark.parametrize("call", ["stream", "generator"])
def test_a_stream_is_one_answer(model, call):
    with pytest.raises(OptionError, match="use chat or generate for n or beams"):
        getattr(model, call)("Hello", n=2)


def test_processors_and_scorers_see_the_answer_and_their_errors_reach_the_caller(model):
    def broken(ids, logits):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        model.generate("Hello", processors=[broken])
    assert model.generate("Hello", max_tokens=2).text


def test_an_error_inside_a_step_reaches_every_caller_and_the_engine_goes_on(model, monkeypatch):
    def failing(*args):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "forward", failing)
        for _ in range(2):
            with pytest.raises(RuntimeFailure, match="a step failed \\(MemoryError: no room\\)") as raised:
                model.generate("Hello", max_tokens=2)
            assert isinstance(raised.value.__cause__, MemoryError)
    assert model.generate("Hello", max_tokens=2).text


def test_closing_the_events_stops_the_work_within_one_step(model, steps):
    events = model.events(slmkit.Request(prompt="Hello", options=slmkit.Options(**LONG)))
    next(events), next(events)
    events.close()
    taken = len(steps)
    wait_until_idle(model)
    assert len(steps) <= taken + 3  # the one under way, and two of the request that waits
    assert list(events) == []


@pytest.mark.parametrize("leave", ["close", "drop"])
def test_leaving_a_stream_early_cancels_the_request(model, steps, leave):
    stream = model.stream("Hello", **LONG)
    next(stream)
    if leave == "close":
        stream.close()
    else:
        del stream
        gc.collect()
    wait_until_idle(model)
    assert len(steps) < 1000


def test_a_stream_that_was_never_read_is_cancelled_when_dropped(model, steps):
    model.stream("Hello", **LONG)
    gc.collect()
    wait_until_idle(model)
    assert len(steps) < 1000


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a thread")
def test_ctrl_c_while_waiting_cancels_the_request(model, steps):
    main = threading.main_thread().ident

    def interrupt(ids, logits):
        if len(ids) == 20:
            signal.pthread_kill(main, signal.SIGINT)
        return logits

    with pytest.raises(KeyboardInterrupt):
        model.generate("Hello", processors=[interrupt], **LONG)
    wait_until_idle(model)
    assert len(steps) < 1000


def test_many_threads_get_the_answers_they_get_alone(model, steps):
    prompts = [f"{i} dogs" * (i % 5 + 1) for i in range(24)]
    alone = [model.generate(prompt, max_tokens=10).text for prompt in prompts]
    steps.clear()
    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(lambda prompt: model.generate(prompt, max_tokens=10).text, prompts))
    assert together == alone


def test_close_ends_what_is_running_and_refuses_what_comes_later(folder):
    model = slmkit.load(str(folder), quantize="none")
    stream = model.stream("Hello", **LONG)
    next(stream)
    model.close()
    with pytest.raises(RuntimeFailure, match="closed while it answered; load it again"):
        list(stream)
    with pytest.raises(RuntimeFailure, match="this model was closed; load it again"):
        model.generate("Hello")
    model.close()  # a second time is nothing


def test_a_model_that_nobody_holds_finishes_its_answer_and_ends_its_thread(folder):
    before = set(threading.enumerate())
    stream = slmkit.load(str(folder), quantize="none").stream("Hello", max_tokens=30)
    (thread,) = set(threading.enumerate()) - before
    assert len(list(stream)) > 5
    del stream
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_a_processor_that_asks_its_own_model_is_told_so(model):
    def asking(ids, logits):
        model.generate("Hello")
        return logits

    with pytest.raises(RequestError, match="asked its own model, which waits for it; use a second model"):
        model.generate("Hello", processors=[asking])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_is_told_to_load_its_own_model(folder):
    """Its copy has no thread that would ever answer."""
    program = f"""
import os, signal, slmkit
model = slmkit.load({str(folder)!r}, quantize="none")
model.generate("Hello", max_tokens=1)
if os.fork():
    os.wait()
    model.generate("Hello", max_tokens=1)
else:
    signal.alarm(30)
    try:
        model.generate("Hello", max_tokens=1)
    except slmkit.errors.RuntimeFailure as error:
        print(error, flush=True)
    slmkit.load({str(folder)!r}, quantize="none").generate("Hello", max_tokens=1)
    print("answered", flush=True)
    os._exit(0)
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("this process was forked after its model was loaded; load the model again in it\nanswered\n")


def test_a_name_may_be_a_path_and_nothing_else(folder):
    with slmkit.load(folder, quantize="none") as model:
        assert model.name == str(folder)
    for name in (None, 5, b"tiny"):
        with pytest.raises(RequestError, match="a model's name is text, not"):
            slmkit.load(name)


def test_a_program_that_closes_nothing_ends_without_a_word(folder):
    load = f"import slmkit; m = slmkit.load({str(folder)!r}, quantize='none')"
    program = f"{load}; s = m.stream('Hello', max_tokens=900); next(s)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_async_twins_give_the_answers_of_the_sync_ones(model):
    async def all_of_them():
        chat = [{"role": "user", "content": "Hi"}]
        streamed = [piece async for piece in model.astream("Hello", max_tokens=9)]
        return (
            (await model.agenerate("Hello", max_tokens=9)).text,
            [a.text for a in await model.agenerate(["a", "Hello there"], max_tokens=9)],
            (await model.achat(chat, max_tokens=9)).text,
            "".join(streamed),
        )

    one, many, chat, streamed = asyncio.run(all_of_them())
    assert one == streamed == model.generate("Hello", max_tokens=9).text
    assert many == [a.text for a in model.generate(["a", "Hello there"], max_tokens=9)]
    assert chat == model.chat("Hi", max_tokens=9).text


def test_async_calls_wait_without_a_thread_each_and_run_as_one_batch(model, steps):
    threads = []

    def watch(ids, logits):
        threads.append(threading.active_count())
        return logits

    async def together():
        return await asyncio.gather(*[model.agenerate("Hello", max_tokens=60, processors=[watch]) for _ in range(60)])

    answers = asyncio.run(together())
    assert {answer.text for answer in answers} == {model.generate("Hello", max_tokens=60).text}
    assert max(steps) > 32
    assert max(threads) < 45  # asyncio keeps at most 32 for the short work of tokenizing


def test_an_async_error_reaches_the_caller(model):
    with pytest.raises(OptionError):
        asyncio.run(model.agenerate("Hello", temperature=-1))
    with pytest.raises(ContextExceeded):
        asyncio.run(model.agenerate(["Hello", "x" * 5000]))


def test_leaving_an_async_stream_or_cancelling_its_task_cancels_the_request(model, steps):
    async def leave():
        stream = model.astream("Hello", **LONG)
        async for _ in stream:
            break
        await stream.aclose()
        task = asyncio.create_task(model.agenerate("Hello", **LONG))
        begun = len(steps)
        while len(steps) <= begun:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    wait_until_idle(model)
    assert len(steps) < 2000


class Remote:
    """A backend whose events can only be waited for, and that can do little."""

    name, context = "remote", 100
    capabilities = Capabilities()

    def __init__(self):
        self.closed = False

    def generate(self, request):
        usage, timing = Usage(1, 2), slmkit.events.Timing(0.0, 0.0)
        outer = self

        class Given:
            items = iter([Started(1), Chunk("a"), Chunk("b"), Finished(0, "stop", usage, timing)])

            def __iter__(self):
                return self

            def __next__(self):
                return next(self.items)

            def close(self):
                outer.closed = True

        return Given()


def test_any_backend_that_gives_events_serves_every_call():
    remote = Remote()
    model = Model(remote)

    async def pieces():
        return [piece async for piece in model.astream("x")]

    assert model.chat("x").text == "ab"
    assert remote.closed
    assert asyncio.run(pieces()) == ["a", "b"]
    assert [chunk.text for chunk in model.generator("x")] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"beams": 2}, "beams"),
        ({"n": 2}, "many"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_k": 5}, "top_k"),
        ({"min_p": 0.1}, "min_p"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"ignore_eos": True}, "ignore_eos"),
        ({"logit_bias": {1: 1.0}}, "logit_bias"),
        ({"stop_ids": 3}, "stop_ids"),
        ({"parse_special": True}, "parse_special"),
        ({"processors": [print]}, "processors"),
        ({"scorer": print}, "scorer"),
    ],
)
def test_what_a_backend_cannot_do_is_refused_by_name(options, name):
    with pytest.raises(UnsupportedFeature, match=f"remote does not have {name}"):
        Model(Remote()).generate("x", **options)
