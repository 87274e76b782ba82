"""Long system prompts that are kept by themselves: found by the next run, removed by age, never in the way."""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import adapters
import slmkit
import tiny
from slmkit.backends.prompts import n_shared
from slmkit.engine import stored_prompts as storing
from slmkit.engine.prompt_file import PromptFile
from slmkit.errors import OptionError
from slmkit.request import Message, Request
from slmkit.weights import fingerprint, prompt_store
from slmkit.weights.prompt_store import make_room, prompt_folder, remove_prompts, stored_prompts

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM = "You know everything about foxes and dogs. " * 8  # a token for each letter
GREEDY = {"temperature": 0.0, "max_tokens": 12, "logprobs": 0}


@pytest.fixture(autouse=True)
def _own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("SLMKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(storing, "LEAST_S", 0.0)
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 0)  # weights that are this new are hashed each time, else


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny.write_model(tmp_path / "model")


def talk(system, user):
    return [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": user}]


def ask(folder, user="Hello", system=SYSTEM, **options):
    with slmkit.load(folder, **options) as model:
        choice = model.chat(talk(system, user), **GREEDY).choices[0]
    return [(token.id, token.logprob) for token in choice.tokens], choice.usage.cached_tokens


def test_another_question_after_the_same_system_prompt_reads_the_question_alone(folder):
    assert ask(folder)[1] == 0
    for user in ("Hello", "What is a vixen?"):
        right, none = ask(folder, user, prompt_store_mb=0)
        assert none == 0
        assert ask(folder, user) == (right, 320)  # 10 blocks of the 338 tokens around and of the system message
    (stored,) = stored_prompts()
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o600 or os.name == "nt"
    assert stat.S_IMODE(stored.path.parent.stat().st_mode) == 0o700 or os.name == "nt"


def test_only_the_system_prompt_is_kept(folder):
    ask(folder, "a secret of the user")
    (stored,) = stored_prompts()
    file = PromptFile(stored.path)
    with slmkit.load(folder) as model:
        assert file.ids.tolist() == list(model.render(talk(SYSTEM, "b")).ids)[:320]


@pytest.mark.parametrize(
    ("system", "options"),
    [("", {}), ("Be brief.", {}), (SYSTEM, {"prompt_store_mb": 0}), (SYSTEM, {"prompt_cache": "x.cache"})],
)
def test_nothing_is_stored_of_short_ones_or_where_it_is_not_wanted(folder, tmp_path, monkeypatch, system, options):
    monkeypatch.chdir(tmp_path)
    ask(folder, "Hello " * 100, system, **options)
    assert stored_prompts() == []


def test_what_was_read_quickly_is_not_stored(folder, monkeypatch):
    monkeypatch.setattr(storing, "LEAST_S", 1000.0)
    ask(folder)
    assert stored_prompts() == []
    with slmkit.load(folder) as model:  # in one run it is not read again all the same
        assert [model.chat(talk(SYSTEM, u), **GREEDY).choices[0].usage.cached_tokens for u in "ab"] == [0, 320]


def test_another_model_quantization_cache_or_table_has_files_of_its_own(folder, tmp_path):
    ask(folder)
    for options in ({"quantize": "q4"}, {"cache": "q8"}, {"quantize": "none"}):
        right, _ = ask(folder, prompt_store_mb=0, **options)
        assert ask(folder, **options) == (right, 0)
        assert ask(folder, **options) == (right, 320)
    tiny.edit_json(folder / "config.json", rope_theta=20000.0)
    assert ask(folder)[1] == 0
    assert len(stored_prompts()) == 5


def test_a_damaged_file_is_replaced(folder):
    right, _ = ask(folder)
    for spoil in (lambda data: data[:-1], lambda data: data[:-3000] + b"!" + data[-2999:], lambda data: b""):
        (stored,) = stored_prompts()
        stored.path.write_bytes(spoil(stored.path.read_bytes()))
        said, cached = ask(folder)
        assert (said, cached < 320) == (right, True)
        assert ask(folder) == (right, 320)


def test_a_store_that_cannot_be_written_costs_nothing_but_time(folder, tmp_path):
    right, _ = ask(folder, prompt_store_mb=0)
    (tmp_path / "cache" / "prompts").write_text("in the way")
    assert ask(folder) == (right, 0)
    assert (tmp_path / "cache" / "prompts").read_text() == "in the way"


def test_several_answers_beams_and_requests_at_once_share_it(folder):
    ask(folder)
    with slmkit.load(folder) as model, slmkit.load(folder, prompt_store_mb=0) as plain:
        for options in ({"n": 3, "temperature": 1.0, "seed": 1}, {"beams": 3}):
            got, right = (m.chat(talk(SYSTEM, "Hello"), max_tokens=9, **options) for m in (model, plain))
            assert [c.text for c in got.choices] == [c.text for c in right.choices]
            assert got.choices[0].usage.cached_tokens == 320


def test_the_shared_part_ends_where_the_user_begins(folder):
    with slmkit.load(folder) as model:
        render = model.backend.render
        for user in ("Hello", "anything", "Zebra", "b"):
            request = Request((Message("system", SYSTEM), Message("user", user)))
            ids = render(request.messages).ids
            shared = n_shared(request, ids, render)
            assert shared == ids.index(122) + 2  # <|user|> and the space before its text
        assert n_shared(Request(prompt=SYSTEM), render(talk_messages()).ids, render) == 0


def talk_messages():
    return (Message("system", SYSTEM), Message("user", "x"))


def put(name, n_bytes, used):
    prompt_folder().mkdir(parents=True, exist_ok=True)
    path = prompt_folder() / f"{name * 64}.safetensors"
    path.write_bytes(bytes(n_bytes))
    os.utime(path, (used, used))
    return path


def test_what_was_used_longest_ago_makes_room():
    old, new, middle = put("a", 400, 1000), put("b", 400, 3000), put("c", 400, 2000)
    other = prompt_folder() / "notes.txt"
    other.write_text("not ours")
    assert make_room(300, 1500)
    assert old.exists()
    assert make_room(301, 1500)
    assert (old.exists(), middle.exists(), new.exists()) == (False, True, True)
    assert not make_room(1501, 1500)  # and nothing is removed for it
    assert make_room(1500, 1500)
    assert stored_prompts() == []
    assert other.read_text() == "not ours"


def test_a_disk_that_is_nearly_full_is_left_alone(monkeypatch):
    monkeypatch.setattr(prompt_store.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert make_room(100, 10**9)
    assert not make_room(101, 10**9)


def test_using_a_file_makes_it_the_last_to_go(folder):
    ask(folder)
    ask(folder, system="And cats. " + SYSTEM)
    for prompt in stored_prompts():
        os.utime(prompt.path, (1000, 1000))
    ask(folder)
    assert [p.used > 1000 for p in stored_prompts()] == [False, True]


def test_removing_all_frees_what_they_took():
    put("a", 400, 1)
    put("b", 100, 2)
    assert remove_prompts(stored_prompts()) == 500
    assert stored_prompts() == []


def test_what_an_adapter_makes_of_a_prompt_is_neither_kept_nor_given_what_is_kept(folder, tmp_path):
    adapter = {"other": str(adapters.write_for(tmp_path / "other", folder))}

    def other(**options):
        with slmkit.load(folder, adapters=adapter, **options) as model:
            model.chat(talk(SYSTEM, "Hello"), **GREEDY, **({} if options else {"adapter": "none"}))
            choice = model.chat(talk(SYSTEM, "Hello"), adapter="other", **GREEDY).choices[0]
        return [(token.id, token.logprob) for token in choice.tokens], choice.usage.cached_tokens

    right = other(prompt_store_mb=0)
    assert right[1] == 0
    assert other() == right
    assert ask(folder)[1] == 320  # by the model alone
    assert other() == right


def test_a_named_file_and_adapters_do_not_go_together(folder, tmp_path):
    with pytest.raises(OptionError, match="leave out one of the two"):
        slmkit.load(folder, adapters={"a": "b"}, prompt_cache=str(tmp_path / "x.cache"))
