from __future__ import annotations

import json

import pytest

from slmkit.compare.cases import Case, cases_of, read_cases, with_open_images
from slmkit.errors import RequestError
from slmkit.request import Message
from slmkit.vision.fetch import Fetching


def test_texts_conversations_and_cases_are_prompts_with_names():
    found = cases_of(["Hi", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
                      Case((Message("user", "Ho"),), "ho")])  # fmt: skip
    assert [case.name for case in found] == ["prompt 1", "prompt 2", "ho"]
    assert [case.text for case in found] == ["Hi", "Hi", "Ho"]
    assert found[1].messages[0].role == "system"


def test_a_text_file_has_a_prompt_on_each_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeff你好\n\n  Hi  \r\n".encode())
    found = read_cases(tmp_path / "a.txt", system="Be brief.")
    assert [[m.content for m in case.messages] for case in found] == [["Be brief.", "你好"], ["Be brief.", "Hi"]]


def test_jsonl_has_names_systems_conversations_and_images_beside_it(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    lines = [
        {"name": "one", "prompt": "Hi\u2028there", "system": "Own."},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"prompt": "What is it?", "images": ["a.png", "https://example.com/b.png"]},
    ]
    (folder / "a.jsonl").write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    first, second, third = read_cases(folder / "a.jsonl", system="Given.")
    assert (first.name, first.messages[0].content, first.text) == ("one", "Own.", "Hi\u2028there")
    assert second.messages[0].content == "Given."
    assert third.images == (str(folder / "a.png"), "https://example.com/b.png")


def test_images_are_opened_once_for_all_models(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    case = Case((Message("user", "What?", (str(tmp_path / "a.png"),)),), "it")
    (opened,) = with_open_images([case], Fetching())
    assert (opened.images[0].width, opened.name) == (4, "it")
    with pytest.raises(RequestError, match="there is no file"):
        with_open_images([Case((Message("user", "What?", ("nowhere.png",)),))], Fetching())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", " \n", "one on each line"),
        ("a.jsonl", "", '"prompt" or "messages"'),
        ("a.jsonl", '{"prompt": "Hi"', "line 1 of"),
        ("a.jsonl", "{}", "exactly one of prompt and messages"),
        ("a.jsonl", '{"prompt": "Hi", "messages": []}', "exactly one of prompt and messages"),
        ("a.jsonl", '\n{"prompt": 5}', "line 2 of"),
        ("a.jsonl", '{"prompt": "Hi", "promt": 1}', "'promt'; an object takes name, prompt"),
        ("a.jsonl", '{"prompt": "Hi", "images": "a.png"}', "a list of paths"),
        ("a.jsonl", '{"messages": []}', "at least one message"),
        ("a.jsonl", '{"messages": [{"role": "king", "content": ""}]}', "'king'"),
        ("a.jsonl", '{"prompt": "Hi", "name": 5}', "name in line 1"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=words):
        read_cases(tmp_path / name)


def test_no_prompts_are_refused(tmp_path):
    with pytest.raises(RequestError, match="put the one prompt into a list"):
        cases_of("Hi")
    with pytest.raises(RequestError, match="at least one"):
        cases_of([])
    with pytest.raises(RequestError, match="there is no file"):
        read_cases(tmp_path / "nowhere.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(RequestError, match="not UTF-8 from byte 3"):
        read_cases(tmp_path / "latin.txt")
