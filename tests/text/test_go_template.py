"""Go templates of Ollama's store: what is recognised, and what it renders to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from text_data import DATA

from ollama_store import LIBRARY_TEMPLATE
from slmkit.errors import TemplateError
from slmkit.request import Message
from slmkit.text import go_template, known
from slmkit.text.added import Piece
from slmkit.text.template import ChatTemplate

JINJA = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
GOTMPL = (DATA / "ollama" / "phi-3.gotmpl").read_bytes().decode()
QUESTION = Message("user", "Hello, how are you?")
ANSWER = Message("assistant", "I'm doing great. How can I help you today?")
SECOND = Message("user", "I'd like to show off how chat templating works!")
CONVERSATIONS = {
    "user": [QUESTION],
    "user-assistant-user": [QUESTION, ANSWER, SECOND],
    "system-user-assistant-user": [Message("system", "You are a helpful assistant."), QUESTION, ANSWER, SECOND],
}


def text_of(template, messages):
    pieces = ChatTemplate(template, {"bos_token": "<s>", "eos_token": "</s>"}).render(messages, lambda text: [])
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("go", [GOTMPL, LIBRARY_TEMPLATE + "\n"], ids=["phi-3.gotmpl", "library, with a line's end"])
def test_the_renderings_are_ollamas_to_the_byte(name, go):
    expected = (DATA / "ollama" / name).read_bytes().decode()
    assert text_of(go_template.recognise(go), CONVERSATIONS[name]) == expected


@pytest.mark.parametrize("answer", ["", "{{ .Response }}", "{{ .Response }}<|end|>", "{{ .Response }}<|end|>\n"])
def test_what_follows_the_response_follows_every_answer_but_not_the_prompt(answer):
    """By hand, after Ollama's rules: the template is run for every exchange, and the last one ends at .Response."""
    go = LIBRARY_TEMPLATE.removesuffix("{{ .Response }}<|end|>") + answer
    after = answer.removeprefix("{{ .Response }}")
    assert text_of(go_template.recognise(go), CONVERSATIONS["system-user-assistant-user"]) == (
        "<|system|>\nYou are a helpful assistant.<|end|>\n<|user|>\nHello, how are you?<|end|>\n<|assistant|>\n"
        f"I'm doing great. How can I help you today?{after}"
        "<|user|>\nI'd like to show off how chat templating works!<|end|>\n<|assistant|>\n"
    )


SAME_AS_THE_LIBRARYS = [
    LIBRARY_TEMPLATE.replace("{{ ", "{{").replace(" }}", "}}"),
    LIBRARY_TEMPLATE.replace("{{ if", "{{   if").replace(" }}", "\n}}"),
    LIBRARY_TEMPLATE.replace("{{ if .System", "\n\n{{- if .System"),
    "{{/* Phi-3 */}}" + LIBRARY_TEMPLATE,
    LIBRARY_TEMPLATE + "{{- /* the end */ -}}\n\n",
    LIBRARY_TEMPLATE.replace("{{ end }}{{ if .Prompt }}", "{{ end -}}\n\n{{ if .Prompt }}"),
    LIBRARY_TEMPLATE.replace("{{ end }}<|assistant|>\n", "<|assistant|>\n{{ end }}"),
    LIBRARY_TEMPLATE.replace("{{ if .Prompt }}", "").replace("{{ end }}<|assistant|>", "<|assistant|>"),
]


@pytest.mark.parametrize("go", SAME_AS_THE_LIBRARYS)
def test_a_template_in_another_spelling_is_the_same(go):
    assert go_template.recognise(go) is go_template.recognise(LIBRARY_TEMPLATE) is not None


OTHERS = [
    "",
    " ",
    "{{ .Prompt",
    "{{ .Prompt }}\n",
    LIBRARY_TEMPLATE + " ",
    LIBRARY_TEMPLATE.replace("\n", "\r\n"),
    LIBRARY_TEMPLATE.replace("\n", ""),
    LIBRARY_TEMPLATE.replace("{{ end }}", "{{ end }}\n"),
    LIBRARY_TEMPLATE.replace("{{ if .System }}", "{{- if .System -}}").replace(
        "<|end|>\n{{ end }}", "<|end|>{{- end }}"
    ),
    LIBRARY_TEMPLATE.replace("<|system|>\n", "<|system|>\n{{- "),
    LIBRARY_TEMPLATE.replace("<|end|>", "<|im_end|>"),
    LIBRARY_TEMPLATE.replace(".System", ".system"),
    LIBRARY_TEMPLATE.replace("{{ .Prompt }}", "{{ .Prompt | json }}"),
    LIBRARY_TEMPLATE.replace("{{ .Prompt }}", "{{ `{{.Prompt}}` }}"),
    "{{- if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}" + GOTMPL,  # Ollama writes the system text twice
    GOTMPL.replace("{{ .Role }}", "user"),
    GOTMPL.rstrip("\n"),
    "{{" * 100_000,
    "{{ .Prompt }}" * 10_000,
]


@pytest.mark.parametrize("go", OTHERS, ids=range(len(OTHERS)))
def test_any_other_template_is_unknown(go):
    assert go_template.recognise(go) is None


def test_a_template_that_says_nothing_but_the_prompt_is_plain_text():
    assert text_of(go_template.recognise("{{ .Prompt }}"), [QUESTION]) == QUESTION.content
    assert go_template.recognise("{{ .Prompt }}{{ .Response }}") is go_template.recognise("{{ .Prompt }}")


@pytest.mark.parametrize(
    "template", sorted(set(go_template._KNOWN.values()), key=lambda t: t.name), ids=lambda t: t.name
)
@settings(max_examples=40, deadline=None)
@given(
    messages=st.lists(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.sampled_from(["", " ", "Hi", "a\n"])),
        min_size=1,
        max_size=6,
    )
)
def test_the_jinja_text_beside_a_template_says_the_same(template, messages):
    """It is what an export of such a model carries."""
    rendered = JINJA.from_string(template.source).render(
        messages=[{"role": m.role, "content": m.content} for m in messages],
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
    )
    pieces = template.pieces(messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=True)
    assert "".join(piece.text for piece in pieces) == rendered


def test_typed_text_stays_apart_from_markup():
    pieces = ChatTemplate(go_template.recognise(LIBRARY_TEMPLATE)).render([Message("user", "<|end|>")], lambda text: [])
    assert pieces == [Piece("<|user|>\n", True), Piece("<|end|>", False), Piece("<|end|>\n<|assistant|>\n", True)]


def test_an_unknown_template_is_refused_and_not_replaced():
    assert go_template.known_template(GOTMPL, "m") is known.MINI
    go = "{{ .System }}: {{ .Prompt }}" + "x" * 10_000
    with pytest.raises(TemplateError, match=r"phi3:mini has a chat template .* begins '\{\{ \.System") as refused:
        go_template.known_template(go, "ollama-store:phi3:mini")
    assert "slm complete" in str(refused.value)
    assert len(str(refused.value)) < 400
