"""Chat templates in Go's template language, as Ollama keeps them: those that are known, in our own rendering.

Nothing is executed. A template is cut into text and actions as Go's own lexer does it, so that two spellings of one
template are equal; then it is one of the known ones, or it is refused.

Ollama fills a template in one of two ways. One that loops over `.Messages` is run once. An older one, with `.System`,
`.Prompt` and `.Response`, is run for every exchange; for the last one it ends at `.Response`.
Source: https://pkg.go.dev/text/template; https://github.com/ollama/ollama, template/template.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmkit.errors import TemplateError
from slmkit.text.known import MINI, KnownTemplate
from slmkit.untrusted import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slmkit.request import Message

_SPACE = " \t\r\n"
_LONGEST = 4096  # characters; the longest known one has about 200
_TRIM_BEFORE = tuple("-" + space for space in _SPACE)
_TRIM_AFTER = tuple(space + "-" for space in _SPACE)
_HEADER = "<|assistant|>\n"


def recognise(source: str) -> KnownTemplate | None:
    """The known template that this Go text is, or None."""
    return _KNOWN.get(_normal(source)) if len(source) <= _LONGEST else None


def known_template(source: str, model: str) -> KnownTemplate:
    """What writes the prompts of a model of Ollama's store.   model: its name, for messages.

    Raises TemplateError for a template that is not known: another in its place would change the prompt.
    """
    found = recognise(source)
    if found is None:
        raise TemplateError(
            f"{model} has a chat template of its own that slmkit does not know (it begins {shown(source[:60])}), and "
            "another would change the prompt; use `slm complete`, which needs none, or run its GGUF file with the "
            "template inside that, through a link to it whose name ends in .gguf"
        )
    return found


def _normal(source: str) -> str:
    """The template with each action in its shortest spelling, and trimmed where its actions ask for that.

    A quoted `}}` would end an action too early, but no known template has one.
    """
    pieces = [""]  # a text last, always
    for i, part in enumerate(source.split("{{")):
        action, closed, text = part.partition("}}") if i else ("", "", part)
        if i and not closed:
            return source  # which Go would not take
        if action.startswith(_TRIM_BEFORE):
            pieces[-1], action = pieces[-1].rstrip(_SPACE), action[2:]
        trim = action.endswith(_TRIM_AFTER)
        action = (action[:-2] if trim else action).strip(_SPACE)
        is_comment = action.startswith("/*") and action.endswith("*/")
        pieces.append("{{" + " ".join(action.split()) + "}}" if i and not is_comment else "")
        pieces.append(text.lstrip(_SPACE) if trim else text)
    return "".join(pieces)


def _in_exchanges(after_answer: str) -> KnownTemplate:
    """System, prompt and response by turns; nothing is written for an empty system or prompt."""

    def turn(role: str, content: str) -> tuple[str, str] | None:
        if role == "assistant":
            return _HEADER, after_answer
        return (f"<|{role}|>\n", "<|end|>\n") if content and role in ("system", "user") else None

    quoted = after_answer.replace("\n", r"\n")
    source = (
        r"{% for message in messages %}{% if message['role'] == 'assistant' %}"
        rf"{{{{ '<|assistant|>\n' + message['content'] + '{quoted}' }}}}"
        r"{% elif message['content'] and message['role'] in ['system', 'user'] %}"
        r"{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
        r"{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    )
    return KnownTemplate(f"Phi-3, Ollama, answers end with {after_answer!r}", source, turn, _header)


def _header(messages: Sequence[Message], eos_token: str, add_generation_prompt: bool) -> str:
    return _HEADER if add_generation_prompt else ""


def _as_it_is(role: str, content: str) -> tuple[str, str] | None:
    return ("", "") if role in ("user", "assistant") else None


def _nothing(messages: Sequence[Message], eos_token: str, add_generation_prompt: bool) -> str:
    return ""


PLAIN = KnownTemplate(
    "plain text, Ollama",
    "{% for message in messages %}{% if message['role'] in ['user', 'assistant'] %}{{ message['content'] }}"
    "{% endif %}{% endfor %}",
    _as_it_is,
    _nothing,
)

_SYSTEM = "{{if .System}}<|system|>\n{{.System}}<|end|>\n{{end}}"
_PROMPTS = (  # the same wherever there is a prompt, and a conversation has one
    "{{if .Prompt}}<|user|>\n{{.Prompt}}<|end|>\n{{end}}<|assistant|>\n",
    "{{if .Prompt}}<|user|>\n{{.Prompt}}<|end|>\n<|assistant|>\n{{end}}",
    "<|user|>\n{{.Prompt}}<|end|>\n<|assistant|>\n",
)
# What follows the prompt -> what follows an answer. Where no response is written, Ollama appends it.
_ANSWERS = {
    "": "",
    "{{.Response}}": "",
    "{{.Response}}<|end|>": "<|end|>",
    "{{.Response}}<|end|>\n": "<|end|>\n",
}
_BY_END = {after: _in_exchanges(after) for after in _ANSWERS.values()}
_KNOWN = {_SYSTEM + prompt + answer: _BY_END[_ANSWERS[answer]] for prompt in _PROMPTS for answer in _ANSWERS} | {
    # template/phi-3.gotmpl of Ollama
    "{{range .Messages}}<|{{.Role}}|>\n{{.Content}}<|end|>\n{{end}}<|assistant|>\n": MINI,
    "{{.Prompt}}": PLAIN,
    "{{.Prompt}}{{.Response}}": PLAIN,
}
