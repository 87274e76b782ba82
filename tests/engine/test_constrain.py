"""Answers match what they must, from the first token to the last, whatever the model would rather say."""

from __future__ import annotations

import json
import lzma
import re
from functools import cache
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from driving import run, task
from hypothesis import given, settings
from hypothesis import strategies as st
from test_beam import chain

import slmkit
import tiny
from guides import follows
from slmkit import Constraint
from slmkit.engine.constrain import MOST_CHARS, Vocabulary
from slmkit.errors import OptionError, RequestError
from slmkit.events import Chunk, Finished
from slmkit.options import Options
from slmkit.request import Message, Request
from slmkit.text.detokenize import Detokenizer
from slmkit.text.tokenizer import Tokenizer

DATA = Path(__file__).parents[1] / "data"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
DOCUMENT = json.dumps({"name": 'Zoë said: 日本語 \\ "x"\n', "list": [1, -2.5e3, True, None, {}]}, ensure_ascii=False)


@pytest.fixture(scope="module")
def bundled():
    with slmkit.load("tiny") as model:
        yield model


@pytest.fixture(scope="module")
def random(tmp_path_factory):
    """A model that knows nothing, with a tokenizer of letters."""
    with slmkit.load(tiny.write_model(tmp_path_factory.mktemp("random") / "model")) as model:
        yield model


def vocabulary(size: int = 128) -> Vocabulary:
    return Vocabulary(tiny.tokenizer(), size)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 1}, {"temperature": 5.0, "top_k": 50, "seed": 2}])
def test_a_random_model_answers_with_what_the_schema_wants(random, options):
    for ask in (random.chat, random.generate):
        answer = ask("Who?", constraint=Constraint("schema", PERSON), max_tokens=400, n=3, **options)
        for choice in answer.choices:
            if choice.reason == "stop":
                jsonschema.validate(json.loads(choice.text), PERSON)
            else:  # a random model may count for ever
                assert re.match(r'\{\s*"', choice.text)


def test_any_object_is_an_object(bundled):
    for seed in range(4):
        choice = bundled.chat(
            "A record", constraint=Constraint("json"), temperature=1.5, seed=seed, max_tokens=1000
        ).choices[0]
        assert choice.text[0] == "{"
        assert choice.reason == "length" or isinstance(json.loads(choice.text), dict)


@pytest.mark.parametrize(
    "pattern", [r"(yes|no)", r"[0-9]{3}-[a-f]{4}", r"a*b", r"é{2,3}", r" x", r"x y? z", r"\d+/\d+;"]
)
@pytest.mark.parametrize("kind", ["bundled", "random"])
def test_a_pattern_is_matched_as_a_whole(request, kind, pattern):
    model = request.getfixturevalue(kind)
    for ask, seed in ((model.chat, 1), (model.generate, 2)):
        choice = ask("Hm", constraint=Constraint("regex", pattern), temperature=1.0, seed=seed, max_tokens=60).choices[
            0
        ]
        if choice.reason == "stop":
            assert re.fullmatch(pattern, choice.text)


def test_a_grammar_is_followed(bundled):
    lark = 'start: sum\nsum: term ("+" term)+ "=" NUMBER\nterm: NUMBER | "(" sum ")"\nNUMBER: /[0-9]{1,2}/'
    for seed in range(3):
        choice = bundled.generate(
            "1", constraint=Constraint("lark", lark), temperature=1.0, seed=seed, max_tokens=300
        ).choices[0]
        assert choice.reason == "length" or re.fullmatch(r"[0-9()+]+(=[0-9]{1,2}[0-9()+=]*)+", choice.text)


def test_an_answer_ends_with_the_grammar_and_counts_no_more_tokens(bundled):
    choice = bundled.generate("Hm", constraint=Constraint("regex", "abc"), ignore_eos=True).choices[0]
    assert (choice.text, choice.reason, choice.stop) == ("abc", "stop", None)
    assert "".join(token.text for token in choice.tokens).replace("▁", " ").strip() == "abc"


def test_what_matches_only_the_empty_text_is_answered_with_it(bundled):
    choice = bundled.generate("Hm", constraint=Constraint("regex", "")).choices[0]
    assert (choice.text, choice.reason, choice.usage.completion_tokens) == ("", "stop", 0)


def test_stop_ids_end_an_answer_only_where_it_matches():
    """A chain 0 -> 1 -> 2 ... whose token 5 would end every answer."""
    letters = {i: tiny.tokenizer().bytes_of(i).decode() for i in range(4, 30)}
    engine = chain(0, 30)

    def answer(pattern, **options):
        guide = vocabulary(size=30).guide(Constraint("regex", pattern), continues=True)
        (found,) = run(engine, task([4], guide=guide, stop_ids=[5], **options))
        return found.choices[0].text, found.choices[0].reason

    after = letters[6]
    assert answer(f"{after}+") == (after * 8, "length") or answer(f"{after}+")[1] == "stop"
    assert answer(f"{after}{{3}}", limit=9) == (after * 3, "stop")
    assert answer(f"{after}{{3}}", limit=2) == (after * 2, "length")


def test_stop_strings_and_limits_end_an_answer_before_the_grammar_does(bundled):
    digits = Constraint("regex", "([0-9]{4} ){9}")
    choice = bundled.generate("Hm", constraint=digits, stop=" ", max_tokens=50).choices[0]
    assert (len(choice.text), choice.reason, choice.stop) == (4, "stop", " ")
    choice = bundled.generate("Hm", constraint=digits, max_tokens=3).choices[0]
    assert (choice.reason, choice.usage.completion_tokens) == ("length", 3)


def test_several_answers_each_follow_it_on_their_own(bundled):
    answer = bundled.generate("Hm", constraint=Constraint("regex", "[a-z]{3,9}!"), n=5, temperature=3.0, seed=4)
    texts = [choice.text for choice in answer.choices]
    assert all(re.fullmatch("[a-z]{3,9}!", text) for text in texts)
    assert len(set(texts)) > 1


def test_the_answer_is_the_same_alone_and_among_others(bundled):
    asked = {"constraint": Constraint("schema", PERSON), "temperature": 1.0, "seed": 3, "max_tokens": 100}
    alone = bundled.generate("Hm", **asked).text
    together = bundled.generate(["Hm", "x", "Hm"], **asked)
    assert [together[0].text, together[2].text] == [alone, alone]


def test_log_probabilities_are_those_of_the_model_without_the_constraint(bundled):
    free = bundled.generate("Once upon a time", max_tokens=1, logprobs=5).choices[0].tokens[0]
    held = bundled.generate("Once upon a time", constraint=Constraint("regex", "7"), logprobs=5).choices[0].tokens[0]
    assert held.top == free.top
    assert held.logprob < free.top[-1].logprob


def test_beams_are_refused_by_name(bundled):
    with pytest.raises(OptionError, match="2 beams and a constraint do not go together; leave out one"):
        bundled.generate("Hm", constraint=Constraint("json"), beams=2)


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        (Constraint("schema", {"type": "strin"}), r"\(schema\) cannot be used: Invalid type: strin; change it"),
        (Constraint("schema", {"uniqueItems": True}), r'Unimplemented keys: \["uniqueItems"\]; change it'),
        (Constraint("schema", {"enum": [object()]}), "is no JSON"),
        (Constraint("schema", {"const": float("nan")}), "is no JSON"),
        (Constraint("schema", {"$ref": "#"}), "matches no text at all"),
        (Constraint("schema", {"x-guidance": 5}), "cannot be used"),
        (Constraint("regex", "(a"), r'\(regex\) cannot be used: invalid regex "\(a".*unclosed group; change it'),
        (Constraint("regex", "(?=a)a"), "look-around.*not supported; change it"),
        (Constraint("regex", "(" * 20_000 + ")" * 20_000), "cannot be used"),
        (Constraint("lark", "start: x"), r'\(lark\) cannot be used: at 1\(8\): unknown name: "x"; change it'),
        (Constraint("lark", "start: start"), "matches no text at all"),
        (Constraint("lark", "start: " + "(" * 9000 + '"a"' + ")" * 9000), "too deeply nested"),
        (Constraint("lark", ""), "cannot be used"),
        (Constraint("lark", '{"grammars": []}'), "cannot be used"),
        (Constraint("regex", "a" * MOST_CHARS), f"{MOST_CHARS} are accepted; simplify it"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_sentence_before_the_engine_sees_it(bundled, constraint, said):
    with pytest.raises(RequestError, match=said) as error:
        bundled.backend.task(Request(prompt="Hm", constraint=constraint))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_grammar_that_explodes_ends_its_own_request(bundled):
    branching = {"type": "object", "properties": {f"x{i}": {"type": "string"} for i in range(3000)}}
    with pytest.raises(RequestError, match=r"cannot be used|too complex|no text"):
        bundled.generate("Hm", constraint=Constraint("schema", branching), max_tokens=30)
    assert bundled.generate("Hm", max_tokens=2).choices[0].reason == "length"


def test_a_bias_that_leaves_nothing_is_told(bundled):
    seven = bundled.backend.loaded.tokenizer
    ids = [i for i in range(4096) if seven.bytes_of(i) == b"7"]
    with pytest.raises(RequestError, match="no token that the constraint allows"):
        bundled.generate("Hm", constraint=Constraint("regex", "7"), logit_bias=dict.fromkeys(ids, -np.inf))


@cache
def phi3() -> Tokenizer:
    return Tokenizer(json.loads(lzma.decompress((DATA / "phi3/tokenizer.json.xz").read_bytes())))


@pytest.fixture(scope="module")
def tiktoken(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("phi-3-small")
    ranks = lzma.decompress((DATA / "phi3_small/cl100k_base.tiktoken.xz").read_bytes())
    (folder / "cl100k_base.tiktoken").write_bytes(ranks)
    config = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "tokenizer_class": "Phi3SmallTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.from_folder(folder)


def follow(words: Vocabulary, constraint: Constraint, ids: list[int], *, continues: bool) -> bool:
    """Whether the ids are an answer that matches."""
    return follows(words.guide(constraint, continues=continues), ids)


@pytest.mark.parametrize("name", ["phi3", "tiktoken"])
def test_the_tokens_that_a_tokenizer_writes_are_allowed_and_controls_never(request, name):
    tokenizer = phi3() if name == "phi3" else request.getfixturevalue(name)
    words = Vocabulary(tokenizer, tokenizer.vocab_size + 7)
    ids = tokenizer.encode(DOCUMENT)
    assert follow(words, Constraint("json"), ids, continues=not tokenizer.strips_first_space)
    assert follow(words, Constraint("regex", "(?s:.*)"), ids, continues=True)
    guide = words.guide(Constraint("regex", "(?s:.*)"), continues=True)
    assert not guide.may_follow[sorted(tokenizer.control_ids)].any()
    assert not guide.may_follow[tokenizer.vocab_size :].any()
    assert guide.may_follow[: tokenizer.vocab_size].sum() > 0.98 * tokenizer.vocab_size - 300  # half characters


def test_the_space_that_marks_a_first_word_is_no_part_of_the_answer():
    words = Vocabulary(phi3(), phi3().vocab_size)
    ids = {piece: phi3().piece_to_id(piece) for piece in ("▁Yes", "Yes", "▁", "▁▁")}
    chat = words.guide(Constraint("regex", "Yes"), continues=False)
    assert [bool(chat.may_follow[id]) for id in ids.values()] == [True, True, True, False]
    text = words.guide(Constraint("regex", "Yes"), continues=True)
    assert [bool(text.may_follow[id]) for id in ids.values()] == [False, True, False, False]
    assert follow(words, Constraint("regex", "Yes"), [ids["▁"], ids["Yes"]], continues=False)
    assert not follow(words, Constraint("regex", "Yes"), [ids["▁"], ids["▁Yes"]], continues=False)
    assert follow(words, Constraint("regex", " Yes"), [ids["▁"], ids["▁Yes"]], continues=False)


@settings(max_examples=100)
@given(st.lists(st.sampled_from([*range(3, 13), *range(66, 70), *range(99, 103)]), max_size=6), st.booleans())
def test_ids_are_allowed_if_and_only_if_their_text_can_match(ids, continues):
    tokenizer, pattern = tiny.tokenizer(), "[ a-h]*(é|th)?x?"
    ids = [id for id in ids if tokenizer.bytes_of(id)]
    detokenizer = Detokenizer(tokenizer, continues=continues)
    text = "".join(detokenizer.push(id) for id in ids) + detokenizer.flush()
    assert follow(vocabulary(), Constraint("regex", pattern), ids, continues=continues) == bool(
        re.fullmatch(pattern, text)
    )


def test_a_constraint_may_name_control_tokens(bundled):
    tokenizer = bundled.backend.loaded.tokenizer
    words = Vocabulary(tokenizer, 4096)
    control = next(id for id in sorted(tokenizer.control_ids) if (tokenizer.id_to_piece(id) or "").startswith("<|"))
    lark = f'start: "a" {tokenizer.id_to_piece(control)} "b"'
    (a,), (b,) = ([id for id in range(4096) if tokenizer.bytes_of(id) == text and id > 258] for text in (b"a", b"b"))
    assert follow(words, Constraint("lark", lark), [a, control, b], continues=True)
    assert not follow(words, Constraint("lark", lark), [a, b], continues=True)


def test_events_have_the_tokens_as_they_come(bundled):
    request = Request(
        messages=(Message("user", "Hm"),), constraint=Constraint("regex", "(ab){2}c"), options=Options(max_tokens=9)
    )
    events = list(bundled.events(request))
    text = "".join(event.text for event in events if isinstance(event, Chunk))
    assert re.fullmatch("(ab){2}c", text)
    assert isinstance(events[-1], Finished)
