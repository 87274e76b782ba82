"""Every reader of untrusted files, on a few hundred damaged ones each: it reads them or refuses them in one line."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if sys.platform == "win32":
    pytest.skip("mapped files that are replaced", allow_module_level=True)

import targets

CORPUS = Path(__file__).parent / "corpus"
JSON = ("index", "config", "generation_config", "tokenizer", "tokenizer_config", "ollama_manifest", "ollama_params",
        "hub_listing", "adapter_config")  # fmt: skip
BYTES = ("safetensors", "packed", "gguf", "gguf_tokenizer", "sentencepiece_model")
TEXT = ("pattern", "go_template", "names")
# What numbers, texts and names of fields become.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, -(2**63), 10**40, 0.5, 1e300, 1e-300]),
    st.sampled_from(["", "a", "..", "../x", "/etc/passwd", "\0", "\x1b[2J", "\ud800", "a" * 5000, "\n", "(a+)+$"]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.lists(st.integers(-5, 300), max_size=5),
    st.dictionaries(st.sampled_from(["type", "id", "content", "name"]), st.integers(), max_size=3),
)
FEW = settings(max_examples=60, suppress_health_check=list(HealthCheck))


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there are values in a JSON object; of long tables the first few."""
    inside = list(value.items())[:12] if isinstance(value, dict) else list(enumerate(value))[:6]
    found = []
    for key, child in inside:
        found.append((*path, key))
        if isinstance(child, (dict, list)):
            found += paths(child, (*path, key))
    return found


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy in which one place holds something else."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_value(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("name", JSON)
@FEW
@given(data=st.data())
def test_json_with_other_values_is_read_or_refused(name: str, data: st.DataObject) -> None:
    value = json.loads(data.draw(st.sampled_from(objects(name))))
    for _ in range(data.draw(st.integers(1, 3))):
        places = paths(value)
        if not places:
            break
        value = with_value(value, data.draw(st.sampled_from(places)), data.draw(VALUES))
        if not isinstance(value, dict):
            break
    targets.check(name, json.dumps(value).encode())


def objects(name: str) -> list[bytes]:
    """The seeds that are JSON objects."""
    found = []
    for seed in targets.seeds(name):
        try:
            if isinstance(json.loads(seed), dict):
                found.append(seed)
        except (ValueError, RecursionError):
            continue
    return found


@pytest.mark.parametrize("name", [*JSON, *BYTES])
@FEW
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused(name: str, data: st.DataObject) -> None:
    """Cut, flipped, repeated, taken out, and with numbers that overflow put anywhere."""
    raw = bytearray(data.draw(st.sampled_from(targets.seeds(name))))
    numbers = [n.to_bytes(8, "little") for n in (0, 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        kind = data.draw(st.sampled_from(["cut", "flip", "number", "repeat", "remove", "random"]))
        if kind == "cut":
            del raw[at:]
        elif kind == "flip" and raw:
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "number":
            raw[at : at + 8] = data.draw(st.sampled_from(numbers))
        elif kind == "repeat":
            raw[at:at] = raw[at : at + data.draw(st.integers(1, 200))]
        elif kind == "remove":
            del raw[at : at + data.draw(st.integers(1, 200))]
        else:
            raw[at : at + 4] = data.draw(st.binary(max_size=20))
    targets.check(name, bytes(raw))


@pytest.mark.parametrize("name", TEXT)
@FEW
@given(data=st.data())
def test_texts_are_read_or_refused(name: str, data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from(WORDS[name]) | st.text(max_size=3), max_size=8))
    targets.check(name, "".join(words).encode("utf-8", "surrogatepass"))


WORDS = {
    "pattern": ["a", "\\s", "\\p{L}", "[ab]", "[^\\r\\n]", "(", "(?:", "(?i:", "(?=", ")", "|", "*", "+", "?", "{1,3}",
                "{2,}", "\\1", "(?<x>", "\\g<x>", ".", "$", "^", "+?", "?+", " "],
    "go_template": ["{{ ", "}}", ".Prompt", ".System", "range .Messages", "if ", "end", "<|user|>", "\n", "- ", "."],
    "names": ["phi3", ".5", ":", "@", "/", "..", "owner/name", "Q4_K_M", ".gguf", "~", "\\", "hf.co", "http://", "\0",
              "\u0130", "%2e", " ", "main", "refs/pr/1", "-", "--"],
}  # fmt: skip


MARKUP = [
    "{{ ", " }}", "{% for m in messages %}", "{% endfor %}", "{% if ", " %}", "m", "messages", "['content']", "[0]",
    "|trim", "|upper", " * 99999999", "range(999999)", "x", " + ", "{% set x = ", "raise_exception('no')",
    "{% macro x() %}", "{% endmacro %}", "x()", ".__class__", "|attr('__init__')", "bos_token", "{#", "#}",
]  # fmt: skip


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(MARKUP), max_size=12))
def test_templates_are_rendered_or_refused(words: list[str]) -> None:
    targets.check("template", "".join(words).encode())


@pytest.mark.parametrize("path", sorted(path for path in CORPUS.rglob("*") if path.is_file()),
                         ids=lambda path: str(path.relative_to(CORPUS)))  # fmt: skip
def test_what_was_found_once_is_not_found_again(path: Path) -> None:
    targets.check(path.parent.name, path.read_bytes())


@pytest.mark.parametrize("name", targets.GOOD)
def test_the_good_file_is_read(name: str) -> None:
    """Else the others would be refused for a reason that has nothing to do with their damage."""
    assert targets.check(name, targets.GOOD[name]()[0]) is None


def test_every_target_has_seeds() -> None:
    assert [name for name in targets.TARGETS if not targets.seeds(name)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in targets.TARGETS if name != "template"])
def test_three_seconds_of_random_damage_are_read_or_refused(name: str) -> None:
    """Without atheris, for Pythons that it is not made for."""
    import time

    rng, seeds = random.Random(name), targets.seeds(name)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        raw = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(raw) + 1)
            raw[at : at + rng.choice((0, 1, 4, 8))] = rng.randbytes(rng.choice((0, 1, 1, 4, 8)))
        targets.check(name, bytes(raw))
