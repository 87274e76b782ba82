"""Which regular expressions of a tokenizer are tame: those that no text can make take for ever.

The tokenizers package searches with backtracking, where `(a+)+b` takes 2^n steps on n letters. The patterns of
published tokenizers (GPT-2, cl100k, o200k, Llama 3, Qwen, DeepSeek) repeat single characters and classes only, twice at
most in each alternative, so that is what is accepted.
"""

from __future__ import annotations

import re

_LONGEST = 4096  # characters; the longest published one has some 400
_MOST_LOOPS = 2  # *, + and counts in one alternative: n characters take n^2 steps at most
_MOST_CHOICES = 8  # ? in one alternative: 2^8 ways
_MOST_DEPTH = 8  # groups in groups
_IN_ESCAPE = r"\\(?:[pP]\{\^?\w+\}|[sSdDwWrntfvhHbBAzZ]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|x\{[0-9A-Fa-f]{1,6}\}|\W)"
# What a pattern may be made of, by its first sign; any other sign is an atom that stands for itself.
_FORMS = {
    "\\": re.compile(_IN_ESCAPE),
    "[": re.compile(rf"\[\^?(?:{_IN_ESCAPE}|[^\[\]\\])*\]"),  # no class within a class
    "(": re.compile(r"\((?:\?(?:[ims]*:|[=!>]))?(?!\?)"),
    "{": re.compile(r"\{(?:\d{1,3}(?:,\d{0,3})?|,\d{1,3})\}"),
}
_ATOM, _GROUP, _QUANTIFIER = "atom", "group", "quantifier"  # what the next quantifier would repeat


def is_tame(pattern: str) -> bool:
    """Whether the pattern has no repeated group, no reference back, and few repetitions in each alternative."""
    signs = _signs(pattern) if len(pattern) <= _LONGEST else None
    if signs is None:
        return False
    loops, choices = [0], [0]  # the counts of each open group; the first is the whole pattern
    before = ""
    for sign in signs:
        if sign == "(":
            if len(loops) > _MOST_DEPTH:
                return False
            loops.append(0)
            choices.append(0)
            before = ""
        elif sign == ")":
            if len(loops) == 1:
                return False
            inner_loops, inner_choices = loops.pop(), choices.pop()
            loops[-1] += inner_loops
            choices[-1] += inner_choices
            before = _GROUP
        elif sign == "|":
            if len(loops) == 1:  # within a group the alternatives count together, which is on the safe side
                loops, choices = [0], [0]
            before = ""
        elif sign == _ATOM:
            before = _ATOM
        elif before == _QUANTIFIER and sign in "?+":  # lazy or possessive
            before = ""
        elif before in ("", _QUANTIFIER) or (before == _GROUP and sign != "?"):
            return False
        else:
            counted = choices if sign == "?" else loops
            counted[-1] += 1
            before = _QUANTIFIER
        if sum(loops) > _MOST_LOOPS or sum(choices) > _MOST_CHOICES:
            return False
    return len(loops) == 1


def _signs(pattern: str) -> list[str] | None:
    """The pattern as a list of "atom" and its operators ( ) | * + ? {; None for what no published pattern has."""
    signs, at = [], 0
    while at < len(pattern):
        sign = pattern[at]
        form = _FORMS[sign].match(pattern, at) if sign in _FORMS else None
        if sign in _FORMS and form is None:
            return None
        signs.append(sign if sign in "()|*+?{" else _ATOM)
        at = form.end() if form else at + 1
    return signs
