"""The written-out templates against their own Jinja text, rendered by Jinja as transformers sets it up."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from text_data import DATA, phi3_config

from slmkit.errors import TemplateError
from slmkit.request import Message
from slmkit.text import known

JINJA = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
CONTENTS = st.sampled_from(["", " ", "Hi", "two\nlines\n", "<|end|>", "{{ x }}", "日本", "'\"\\"])
CONVERSATIONS = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), CONTENTS), min_size=1, max_size=6
)


def text_of(template, messages, *, bos="<s>", eos="<|endoftext|>", prompt=True):
    pieces = template.pieces(messages, bos_token=bos, eos_token=eos, add_generation_prompt=prompt)
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("template", known.ALL, ids=lambda t: t.name)
@settings(max_examples=40, deadline=None)
@given(messages=CONVERSATIONS, prompt=st.booleans())
def test_a_written_out_template_says_what_its_jinja_text_says(template, messages, prompt):
    rendered = JINJA.from_string(template.source).render(
        messages=[{"role": m.role, "content": m.content} for m in messages],
        add_generation_prompt=prompt,
        bos_token="<s>",
        eos_token="<|endoftext|>",
    )
    assert text_of(template, messages, prompt=prompt) == rendered


@pytest.mark.parametrize(
    ("file", "template"),
    [
        ("phi-3", known.MINI_APRIL),
        ("phi-3-mini", known.MINI),
        ("phi-3-medium", known.MEDIUM),
        ("phi-3-vision", known.VISION),
    ],
)
def test_the_checkpoints_own_templates_are_recognised(file, template):
    assert known.recognise(phi3_config(file)["chat_template"]) is template


def test_a_template_with_real_line_breaks_is_recognised_and_one_with_any_other_change_is_not():
    source = (DATA / "llama.cpp/microsoft-Phi-3.5-mini-instruct.jinja").read_text("utf-8")
    assert known.recognise(source) is known.MINI_35
    assert known.recognise(source + "\n") is known.MINI_35
    assert known.recognise(source + "\n\n") is None
    assert known.recognise(" " + source) is None
    assert known.recognise(source.replace("<|end|>", "<|END|>", 1)) is None


@pytest.mark.parametrize("name", ["user", "user-assistant-user", "system-user-assistant-user"])
@pytest.mark.parametrize("template", [known.MINI, known.MINI_35, known.VISION], ids=lambda t: t.name)
def test_renderings_equal_those_of_ollama(name, template):
    said = {
        "system": "You are a helpful assistant.",
        "assistant": "I'm doing great. How can I help you today?",
        "user": "Hello, how are you?",
    }
    messages = [Message(role, said[role]) for role in name.split("-")]
    if len(messages) > 1:
        messages[-1] = Message("user", "I'd like to show off how chat templating works!")
    expected = (DATA / "ollama" / name).read_bytes().decode()
    assert text_of(template, messages).removesuffix("\n") == expected.removesuffix("\n")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (known.MINI_APRIL, "<s><|user|>\nU<|end|>\n<|assistant|>\n"),
        (known.SMALL, "<|endoftext|><|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n"),
        (known.MINI, "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n"),
        (known.MINI_35, "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n"),
        (known.MEDIUM, "<|user|>\nU<|end|>\n<|assistant|>\n"),
        (known.VISION, "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_worked_example(template, expected):
    bos = "<|endoftext|>" if template is known.SMALL else "<s>"
    assert text_of(template, [Message("system", "S"), Message("user", "U")], bos=bos) == expected


@pytest.mark.parametrize(
    ("family", "template"),
    [("phi3", known.MINI_35), ("phi3small", known.SMALL), ("phi3_v", known.VISION), ("phimoe", known.MINI_35)],
)
def test_each_family_has_a_template_for_checkpoints_without_one(family, template):
    assert known.fallback_template(family) is template


@pytest.mark.parametrize("family", ["gpt2", ""])
def test_an_unknown_family_without_a_template_is_told_of_complete(family):
    with pytest.raises(TemplateError, match="slm complete"):
        known.fallback_template(family)


def test_the_sources_survive_json():
    for template in known.ALL:
        assert known.recognise(json.loads(json.dumps(template.source))) is template
