from __future__ import annotations

import json
from dataclasses import replace

import pytest
from altered import with_swapped_entries, with_template, with_weight, without_merge

import tiny
from live_server import running
from slmkit import Model
from slmkit.backends.base import Capabilities
from slmkit.backends.ollama import OllamaBackend
from slmkit.backends.ollama_server import OllamaServer
from slmkit.compare import Entry, verify
from slmkit.compare.entry import open_entry
from slmkit.compare.questions import PROMPTS
from slmkit.errors import ModelNotFound, RequestError
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions

PLAIN = LoadOptions(ctx=512, quantize="none")
FEW = {"tokens": 24, "lengths": (64,)}


def tiny_as(quantize):
    return Entry("tiny", LoadOptions(ctx=512, quantize=quantize), quantize)


def held_against_tiny(folder, **settings):
    return verify(Entry("tiny", PLAIN), Entry(str(folder), PLAIN), **{**FEW, **settings})


@pytest.fixture(scope="module")
def quantized():
    return {name: verify(tiny_as("none"), tiny_as(name), **FEW) for name in ("none", "q8", "q4")}


def test_a_model_is_identical_to_itself(quantized):
    report = quantized["none"]
    assert (report.verdict, report.reasons, report.differences, report.left_out) == ("identical", [], [], [])
    assert [found.name for found in report.findings] == [*(case.name for case in PROMPTS), "64 tokens"]
    for found in report.findings:
        assert (found.kl, found.most_delta, found.agreement, found.first) == (0.0, 0.0, 1.0, None)
        assert len(found.distances) > found.a_tokens  # prompt and answer


def test_fewer_bits_are_further_away(quantized):
    kl = {name: max(found.kl for found in quantized[name].findings) for name in quantized}
    # 8 bits round a weight to one part in 254 of its group's largest, 4 bits to one in 14
    assert 0 == kl["none"] < kl["q8"] < 0.01 < kl["q4"] < 0.2
    assert quantized["q8"].verdict == "faithful"
    assert quantized["q8"].meets()
    assert not quantized["q8"].meets("identical")
    agreement = {name: sum(f.agreement for f in quantized[name].findings) for name in quantized}
    assert agreement["q4"] < agreement["q8"] < agreement["none"]


def test_where_answers_part_both_choices_and_their_gaps_are_told(quantized):
    parted = [found.first for found in quantized["q4"].findings if found.first is not None]
    assert parted
    for first in parted:
        assert first.a_id != first.b_id
        assert first.a_text != first.b_text
        # either chose what it thinks likelier: no gap is below 0, and rounding makes them small
        assert 0 <= first.a_gap.nats < 2
        assert 0 <= first.b_gap.nats < 2


def test_total_variation_has_both_bounds(quantized):
    for found in quantized["q8"].findings:
        low, high = found.tv
        assert 0 < low < 0.05
        assert low < high <= 1


def test_one_changed_weight_is_found(tmp_path):
    small = held_against_tiny(with_weight(tmp_path / "small", "model.layers.3.mlp.down_proj.weight", 777, 0.05))
    assert (small.verdict, small.differences) == ("faithful", [])
    large = held_against_tiny(with_weight(tmp_path / "large", "model.norm.weight", 7, 20.0))
    assert (large.verdict, large.differences) == ("different", [])
    assert "KL" in large.reasons[0].why


def test_a_changed_template_is_found_with_the_first_differing_token(tmp_path):
    report = held_against_tiny(
        with_template(tmp_path / "m", "{{ '<|assistant|>\\n' }}", "{{ '<|assistant|>\\nSure' }}")
    )
    (found,) = report.differences
    assert report.verdict == "different"
    assert (found.what, found.where, found.a_id) == ("template", "a story", None)
    assert found.b_text.endswith("<|assistant|>\nSure")
    assert found.a_text == found.b_text.removesuffix("Sure")
    # the weights are the same, and are seen to be
    assert all(finding.most_delta == 0 for finding in report.findings)


def test_a_swapped_tokenizer_entry_is_found(tmp_path):
    report = held_against_tiny(with_swapped_entries(tmp_path / "m", "▁dog", "▁cat"))
    assert report.verdict == "different"
    found = {difference.what: difference for difference in report.differences}
    assert set(found) == {"vocabulary", "tokenizer"}
    entry = found["vocabulary"]
    assert {entry.a_text, entry.b_text} == {" dog", " cat"}
    assert entry.position == entry.a_id == entry.b_id
    assert found["tokenizer"].a_id != found["tokenizer"].b_id


def test_a_missing_merge_is_found_though_all_entries_are_the_same(tmp_path):
    report = held_against_tiny(without_merge(tmp_path / "m", 2500))
    assert [difference.what for difference in report.differences] == ["tokenizer"]


def test_both_sides_of_the_switch_of_longrope_are_looked_at(tmp_path):
    """Other factors for long texts change nothing in prompts of 4,096 tokens, and all of one with 4,097."""
    right, wrong = (tiny.write_model(tmp_path / name, "longrope-4096-su") for name in ("right", "wrong"))
    scaling = json.loads((wrong / "config.json").read_text())["rope_scaling"]
    tiny.edit_json(wrong / "config.json", rope_scaling={**scaling, "long_factor": [9.0] * len(scaling["long_factor"])})
    options = LoadOptions(ctx=4200, quantize="none")
    report = verify(
        Entry(str(right), options),
        Entry(str(wrong), options),
        ["hello"],
        tokens=4,
        top=2,
        lengths=(4096, 4097, 8192),
    )
    _, *long = report.findings
    prompts = [max(d.most_delta for d in found.distances[: found.a_tokens - 1]) for found in long]
    assert [found.a_tokens for found in long] == [4096, 4097]
    assert prompts[0] == 0.0
    assert prompts[1] > 0.1
    assert report.left_out == [f"8,192 tokens: over the context of 4,200 of {right}"]


def test_a_second_context_that_is_smaller_leaves_questions_out():
    small = Entry("tiny", replace(PLAIN, ctx=96), "small")
    report = verify(Entry("tiny", PLAIN), small, ["Hi"], tokens=8, lengths=(64, 200))
    assert [found.name for found in report.findings] == ["prompt 1", "64 tokens"]
    assert report.left_out == ["200 tokens: over the context of 96 of tiny"]
    assert report.verdict == "identical"


def through(backend):
    """Opens `tiny` by our engine and anything else as this backend."""
    return lambda entry: open_entry(entry) if entry.name == "tiny" else Model(backend())


def test_our_own_server_is_faithful_to_what_it_serves():
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=512, quantize="none"))) as url:
        host, port = url.removeprefix("http://").split(":")

        def served():
            return OllamaBackend(OllamaServer(host, int(port), ""), "tiny", 512)

        report = verify(Entry("tiny", PLAIN), Entry("ollama:tiny"), ["Hi", *PROMPTS], open=through(served), **FEW)
    assert report.verdict == "identical", report.reasons
    for found in report.findings:
        assert len(found.distances) > 2
        assert found.most_delta < 1e-6
    assert report.findings[-1].name == "64 tokens"  # as a conversation, since servers take no ids
    assert 64 <= report.findings[-1].a_tokens < 70


class Mute:
    """The engine behind a face that tells texts alone.   said: what it changes of them."""

    def __init__(self, said=lambda text: text):
        self._own, self._said = open_entry(Entry("tiny", PLAIN)), said
        self.name, self.context = "mute", 512
        self.capabilities = Capabilities()

    def generate(self, request):
        for event in self._own.backend.generate(request):
            if hasattr(event, "tokens"):
                event = replace(event, text=self._said(event.text), tokens=())
            yield event

    def describe(self):
        return {}

    def close(self):
        self._own.close()


def test_the_same_texts_without_log_probabilities_are_faithful_and_others_cannot_be_told():
    entries = Entry("tiny", PLAIN), Entry("ollama:mute")
    same = verify(*entries, ["Hi", "Ho"], open=through(Mute), **FEW)
    assert same.verdict == "faithful"
    assert "no log probabilities" in same.reasons[0].why
    other = verify(*entries, ["Hi"], open=through(lambda: Mute(lambda text: text.replace("e", "3"))), **FEW)
    assert other.verdict == "cannot tell"


def test_a_question_that_fails_is_no_verdict_of_faith():
    def failing():
        backend = Mute()
        backend.generate = lambda request: (_ for _ in ()).throw(ValueError("broken"))
        return backend

    report = verify(Entry("tiny", PLAIN), Entry("ollama:mute"), ["Hi"], open=through(failing), tokens=4, lengths=())
    assert report.verdict == "cannot tell"
    assert report.findings[0].error == "B failed: unexpected ValueError: broken"


def test_a_report_is_json(quantized):
    facts = json.loads(json.dumps(quantized["q4"].as_dict(), allow_nan=False))
    assert facts["questions"][0]["places"] > 20
    assert facts["tolerances"]["same"] == 1e-4
    assert facts["verdict"] == quantized["q4"].verdict


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(RequestError, match="tokens, top and lengths are 0"):
        verify("tiny", "tiny", tokens=0)
    with pytest.raises(RequestError, match="lengths of 2 or more"):
        verify("tiny", "tiny", lengths=(1,))
    with pytest.raises(ModelNotFound, match="nowhere"):
        verify("./nowhere", "tiny")
