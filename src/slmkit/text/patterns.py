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
_ESCAPE = re.compile(
    r"\\(?:[pP]\{\^?\w+\}|[sSdDwWrntfvhHbBAzZ]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|x\{[0-9A-Fa-f]{1,6}\}|\W)"
)
_GROUP = re.compile(r"\((?:\?(?:[ims]*:|[=!>]))?")
_COUNT = re.compile(r"\{(?:\d{1,3}(?:,\d{0,3})?|,\d{1,3})\}")


def is_tame(pattern: str) -> bool:
    """Whether the pattern has no repeated group, no reference back, and few repetitions in each alternative."""
    if len(pattern) > _LONGEST:
        return False
    at, loops, choices = 0, [0], [0]  # the counts of each open group; the first is the whole pattern
    before = ""  # what a quantifier would repeat: "", "atom", "group" or "quantifier"
    while at < len(pattern):
        sign = pattern[at]
        if sign == "\\":
            escape = _ESCAPE.match(pattern, at)
            if not escape:
                return False
            at, before = escape.end(), "atom"
        elif sign == "[":
            at, before = _after_class(pattern, at), "atom"
        elif sign == "(":
            group = _GROUP.match(pattern, at)
            if not group or pattern[group.end() : group.end() + 1] == "?" or len(loops) > 8:
                return False
            at, before = group.end(), ""
            loops.append(0)
            choices.append(0)
        elif sign == ")":
            if len(loops) == 1:
                return False
            inner_loops, inner_choices = loops.pop(), choices.pop()
            loops[-1] += inner_loops
            choices[-1] += inner_choices
            at, before = at + 1, "group"
        elif sign == "|":
            if len(loops) == 1:  # within a group the alternatives count together, which is on the safe side
                loops, choices = [0], [0]
            at, before = at + 1, ""
        elif sign in "*+?{":
            count = _COUNT.match(pattern, at) if sign == "{" else None
            if not before or (sign == "{" and not count):
                return False
            if before == "quantifier":  # lazy or possessive
                if sign not in "?+":
                    return False
                at, before = at + 1, ""
                continue
            if sign == "?":
                choices[-1] += 1
            elif before == "group":
                return False
            else:
                loops[-1] += 1
            at, before = count.end() if count else at + 1, "quantifier"
        else:
            at, before = at + 1, "atom"
        if at < 0 or sum(loops) > _MOST_LOOPS or sum(choices) > _MOST_CHOICES:
            return False
    return len(loops) == 1


def _after_class(pattern: str, at: int) -> int:
    """Where the class that opens at `at` has ended; -1 if it does not, or holds another class."""
    at += 1 + (pattern[at + 1 : at + 2] == "^")
    while at < len(pattern):
        if pattern[at] == "]":
            return at + 1
        if pattern[at] == "[":
            return -1
        escape = _ESCAPE.match(pattern, at) if pattern[at] == "\\" else None
        if pattern[at] == "\\" and not escape:
            return -1
        at = escape.end() if escape else at + 1
    return -1
