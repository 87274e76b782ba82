"""The real package on small models: the same answers as our own engine, and what it may not do."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

import checkpoints
import phimoe_checkpoint
import slmkit
import tiny
from slmkit import Constraint, Message
from slmkit.backends.registry import RUNTIMES
from slmkit.backends.transformers import _require_release
from slmkit.errors import (
    CheckpointError,
    ContextExceeded,
    DeadlineExceeded,
    MissingDependency,
    OptionError,
    RequestError,
    UnsupportedModel,
)
from slmkit.ops.pack import as_f32
from slmkit.sources.find import open_source
from slmkit.weights.quantize import quantize_folder
from slmkit.weights.safetensors import SafetensorsWriter

pytestmark = pytest.mark.runtimes
pytest.importorskip("torch")
pytest.importorskip("transformers")

ASKED = "Tell me a story about a dog."
_OF_EACH_KIND = ("mha", "gqa", "medium", "longrope", "longrope-4096-yarn", "partial-half", "tied")


@pytest.fixture(scope="module")
def in_float32(tmp_path_factory):
    """The bundled model with its numbers in float32, in which two engines differ by the order of sums alone."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    source = open_source("tiny")
    shutil.copytree(source.path, folder)
    tiny.edit_json(folder / "config.json", torch_dtype="float32")
    tensors = source.tensors
    plan = [(name, "F32", tensors.shape(name)) for name in tensors.names]
    (folder / "model.safetensors").unlink()
    with SafetensorsWriter(folder / "model.safetensors", plan, {"format": "pt"}) as writer:
        writer.begin()
        for name in tensors.names:
            writer.append(name, as_f32(tensors.tensor(name)))
        writer.commit()
    return folder


@pytest.fixture(scope="module")
def theirs(in_float32):
    with slmkit.load(f"transformers:{in_float32}") as model:
        yield model


@pytest.fixture(scope="module")
def ours(in_float32):
    with slmkit.load(in_float32, quantize="none", cache="f32") as model:
        yield model


def test_greedy_answers_are_those_of_our_engine(theirs, ours):
    for text in (ASKED, "Who are you?", "What is two and three?"):
        asked = {"max_tokens": 60, "temperature": 0.0, "logprobs": 3}
        a, b = theirs.chat(text, **asked).choices[0], ours.chat(text, **asked).choices[0]
        assert (a.text, a.reason, a.stop) == (b.text, b.reason, b.stop)
        assert [token.id for token in a.tokens] == [token.id for token in b.tokens]
        assert a.usage.completion_tokens == b.usage.completion_tokens
        # both float32; sums in another order moved them by 3e-6 at most
        np.testing.assert_allclose(
            [top.logprob for token in a.tokens for top in token.top],
            [top.logprob for token in b.tokens for top in token.top],
            atol=1e-4,
        )


def test_drawn_answers_are_those_of_our_engine(theirs, ours):
    """The same seed draws the same tokens, whoever made the logits."""
    asked = {"max_tokens": 30, "seed": 5, "n": 3, "temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.01}
    asked |= {"repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.1}
    a, b = theirs.chat(ASKED, **asked), ours.chat(ASKED, **asked)
    assert [choice.text for choice in a.choices] == [choice.text for choice in b.choices]
    assert len({choice.text for choice in a.choices}) == 3


def test_texts_are_continued_and_prompts_scored_as_by_our_engine(theirs, ours):
    asked = {"max_tokens": 20, "temperature": 0.0, "prompt_logprobs": 1}
    a, b = (model.generate("Once upon a time there was a dog", **asked) for model in (theirs, ours))
    assert a.text == b.text
    assert [token.id for token in a.prompt] == [token.id for token in b.prompt]
    assert a.prompt[0].logprob is None
    np.testing.assert_allclose(
        [token.logprob for token in a.prompt[1:]], [token.logprob for token in b.prompt[1:]], atol=1e-4
    )


@pytest.mark.parametrize("name", _OF_EACH_KIND)
def test_stored_greedy_ids_of_each_kind_of_phi3_come_out(name, tmp_path):
    """Over LongRoPE's switch too, where the answer begins under the one table and ends under the other."""
    stored = checkpoints.CASES[name]["greedy"]
    prompt = checkpoints.stored(name)["greedy_prompt"]
    with slmkit.load(f"transformers:{tiny.write_model(tmp_path / 'model', name)}") as model:
        request = slmkit.Request(
            ids=tuple(int(i) for i in prompt),
            options=slmkit.Options(max_tokens=len(stored["ids"]), temperature=0.0, ignore_eos=True, logprobs=0),
        )
        answer = slmkit.events.collect(model.events(request))
    assert [token.id for token in answer.choices[0].tokens] == stored["ids"]


def test_a_mixture_of_experts_gives_the_stored_logits_in_its_original_context(tmp_path):
    """Beyond it, Transformers 5 has other factors than those of the training; stored are those of 4.46."""
    folder = phimoe_checkpoint.write_folder(tmp_path / "model")
    tiny.edit_json(folder / "config.json", torch_dtype="float32")
    told: list[str] = []
    ids, positions, logits = next(each for each in phimoe_checkpoint.prompts() if len(each[0]) == 31)
    with slmkit.load(f"transformers:{folder}", notice=told.append) as model:
        assert model.context == 32
        request = slmkit.Request(
            ids=tuple(int(i) for i in ids), options=slmkit.Options(max_tokens=1), prompt_logprobs=1
        )
        scored = slmkit.events.collect(model.events(request)).prompt
    assert told == [
        "context: 32 of 128 tokens; beyond 32 tokens Transformers turns this model's prompts by the wrong factors"
    ]
    checked = 0
    for position, row in zip(positions, logits, strict=True):
        if position + 1 < len(ids):
            shifted = row.astype(np.float64) - row.max()
            expected = (shifted - np.log(np.exp(shifted).sum()))[ids[position + 1]]
            assert scored[position + 1].logprob == pytest.approx(expected, abs=1e-4)
            checked += 1
    assert checked > 2
    with slmkit.load(f"transformers:{folder}", ctx=128, notice=told.append) as model:
        assert model.context == 128
    assert told[-1].endswith("which ctx allows")


def test_an_answer_is_held_to_a_constraint(theirs):
    answer = theirs.chat("Give me a number.", constraint=Constraint("regex", "[0-9]{3}"), max_tokens=20).text
    assert answer.isdecimal()
    assert len(answer) == 3


def test_a_deadline_ends_an_answer(theirs):
    with pytest.raises(DeadlineExceeded, match="deadline_s"):
        theirs.chat(ASKED, max_tokens=400, ignore_eos=True, deadline_s=0.05)


def test_processors_and_a_scorer_take_part(theirs):
    def only(ids, logits):
        logits[:] = -np.inf
        logits[437] = 0
        return logits

    assert {t.id for t in theirs.chat(ASKED, processors=[only], max_tokens=3, logprobs=0).choices[0].tokens} == {437}
    ranked = theirs.chat(ASKED, n=3, temperature=1.0, seed=1, max_tokens=8, scorer=lambda text, ids, chance: len(text))
    assert [choice.score for choice in ranked.choices] == sorted((len(c.text) for c in ranked.choices), reverse=True)


def test_typed_control_tokens_are_refused_unless_they_may_act(theirs):
    for ask in (theirs.chat, theirs.generate):
        with pytest.raises(RequestError, match=r"<\|end\|>.*parse_special"):
            ask("Hi<|end|>", max_tokens=2)
        assert ask("Hi<|end|>", max_tokens=2, parse_special=True).choices


def test_a_message_that_the_template_would_drop_is_refused(theirs):
    with pytest.raises(RequestError, match="no place for a tool message"):
        theirs.chat([Message("user", "Hi"), Message("tool", "42")], max_tokens=2)


def test_a_prompt_is_rendered_as_our_own_template_does(theirs, ours):
    conversation = [Message("system", "Be kind."), Message("user", "Grüße!\n"), Message("assistant", "Hello"),
                    Message("user", " and you? ")]  # fmt: skip
    assert theirs.render(conversation).ids == ours.render(conversation).ids
    assert theirs.render(conversation).text == ours.render(conversation).text
    assert theirs.detokenize(theirs.tokenize("Größe 12")) == "Größe 12"


def test_the_context_bounds_prompt_and_answer(in_float32):
    with slmkit.load(f"transformers:{in_float32}", ctx=20) as model:
        assert model.context == 20
        with pytest.raises(ContextExceeded, match=r"11 tokens and max_tokens is 10.*20.*1024"):
            model.chat(ASKED, max_tokens=10)
        assert model.chat(ASKED, max_tokens=9, ignore_eos=True).choices[0].usage.completion_tokens == 9
    with pytest.raises(OptionError, match="ctx is 5000; this model was made for at most 1024"):
        slmkit.load(f"transformers:{in_float32}", ctx=5000)


def test_facts(theirs):
    facts = theirs.describe()
    assert facts["architecture"] == "phi3"
    assert facts["quantization"] == "float32"
    assert facts["runtime"].startswith("transformers ")


def test_a_model_with_code_of_its_own_is_refused(tmp_path):
    folder = tiny.write_model(tmp_path / "model", model_type="phi3small", auto_map={"AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UnsupportedModel, match="code of its own"):
        slmkit.load(f"transformers:{folder}")
    tiny.edit_json(folder / "config.json", model_type="phi3", auto_map={"AutoModelForCausalLM": "evil.Model"})
    with slmkit.load(f"transformers:{folder}") as model:  # whose architecture is Transformers' own
        assert model.describe()["architecture"] == "phi3"
    assert not (tmp_path / "ran").exists()


def test_an_unknown_architecture_is_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match=r"phi99.*pip install -U"):
        slmkit.load(f"transformers:{tiny.write_model(tmp_path / 'model', model_type='phi99', auto_map=None)}")


def test_a_missing_weight_is_no_noise(in_float32, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(in_float32, folder)
    tiny.edit_json(folder / "config.json", num_hidden_layers=7)
    with pytest.raises(CheckpointError, match=r"model\.layers\.6\..* is missing"):
        slmkit.load(f"transformers:{folder}")


def test_files_of_other_formats_are_refused(in_float32, tmp_path):
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")
    with pytest.raises(UnsupportedModel, match="llamacpp:"):
        slmkit.load(f"transformers:{gguf}")
    source = open_source(str(in_float32))
    quantize_folder(source.tensors, source.expected, "q8", tmp_path / "packed")
    with pytest.raises(UnsupportedModel, match="packed by slmkit"):
        slmkit.load(f"transformers:{tmp_path / 'packed'}")
    pickled = tmp_path / "pickled"
    shutil.copytree(in_float32, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match="pickles"):
        slmkit.load(f"transformers:{pickled}")


def test_quantizing_needs_bitsandbytes(in_float32):
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependency, match="pip install bitsandbytes"):
            slmkit.load(f"transformers:{in_float32}", quantize="q4")
        return
    with slmkit.load(f"transformers:{in_float32}", quantize="q4") as model:
        assert model.describe()["quantization"] == "q4"
        assert model.chat(ASKED, max_tokens=8).text


def test_releases_that_answer_wrongly_are_refused():
    for old in ("4.57.3", "5.0.0", "5.22.1"):
        with pytest.raises(MissingDependency, match=rf"transformers {re.escape(old)} .*>=5\.23,<6"):
            _require_release(old)
    for right in ("5.23.0", "5.24.0.dev0", "6.0"):
        _require_release(right)


def test_options_that_it_lacks_are_refused_by_name():
    with pytest.raises(OptionError, match="does not have the option kernels; it takes ctx"):
        slmkit.load("transformers:tiny", kernels="scalar")


def test_the_extra_has_what_the_registry_asks_for():
    assert json.dumps(RUNTIMES["transformers"].packages) == '["torch", "transformers"]'
