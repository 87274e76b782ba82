"""Answers that match a JSON schema, a pattern or a grammar: which tokens may come next, and where an answer may end.

llguidance reads the grammars and knows, in microseconds, which tokens of a vocabulary can follow. The vocabulary is
ours: the bytes that each id adds to a text, as the detokenizer has them, so nothing is guessed from its spelling.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.json_schema import for_llguidance
from slmkit.errors import RequestError
from slmkit.untrusted import brief

if TYPE_CHECKING:
    from slmkit.request import Constraint
    from slmkit.text.tokenizer import Tokenizer

F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

MOST_CHARS = 1 << 18  # of one grammar: the longest that was tried took two seconds to be understood
MOST_LEXER_STATES = 50_000  # 1 to 2 KB each; llguidance's other limits bound a mask to some 20 ms
# A space, or a line break and its indentation: any amount, as JSON has it, is where weak models never come back from.
WHITE_SPACE = r"\x20|\r?\n[\x20\x09]{0,32}"
# Where bytes are certain, llguidance would choose their tokens by itself. Which ones is left to the model.
_NO_FORCING = '\n%llguidance {"no_forcing": true}'


class Vocabulary:
    """A tokenizer as llguidance takes it, made when first needed. Any thread may call it.

    Ids from size on are no tokens: one ends a text, the others are what is left of a token that begins a text, where
    the tokenizer strips that text's first space.
    twins: for each of `spaced`, the tokens with such a space, the id of what is left of it.   blank: the space alone.
    """

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        """size: of the model's vocabulary, which may have more ids than the tokenizer."""
        self.tokenizer, self.size = tokenizer, size
        self._tokens = [tokenizer.bytes_of(id, show_special=True) for id in range(size)]
        plain = {token: id for id, token in enumerate(self._tokens) if id not in tokenizer.control_ids}
        self.blank = [id for id, token in enumerate(self._tokens) if token == b" "]
        self.spaced = np.array([id for token, id in plain.items() if token[:1] == b" " and token != b" "], np.int64)
        rests = [self._tokens[id][1:] for id in self.spaced]
        added = sorted(set(rests) - plain.keys())
        ids = plain | {token: size + i for i, token in enumerate(added)}
        self.twins = np.array([ids[rest] for rest in rests], np.int64)
        self._tokens += [*added, b""]
        self._lock = threading.Lock()
        self._made: Any = None

    def guide(self, constraint: Constraint, *, continues: bool) -> Guide:
        """What follows an answer that must match.   continues: a first space belongs to the text.

        Raises RequestError for a grammar that is wrong, too large or matches nothing.
        """
        import llguidance

        grammar = _grammar(constraint)
        if len(grammar) > MOST_CHARS:
            raise RequestError(
                f"the constraint has {len(grammar)} characters as a grammar, and {MOST_CHARS} are accepted; simplify it"
            )
        limits = llguidance.LLParserLimits(max_lexer_states=MOST_LEXER_STATES, verbose_errors=False)
        matcher = llguidance.LLMatcher(self._llguidance(), grammar, log_level=0, limits=limits)
        told = [matcher.get_error()] if matcher.is_error() else matcher.get_grammar_warnings()
        if told:
            said = _line(told[0])
            if constraint.kind != "lark":  # then this is a place in no text of the caller's
                said = re.sub(r"^at 1\(\d+\): (failed to compile JSON schema: )?", "", said)
            raise RequestError(f"the constraint ({constraint.kind}) cannot be used: {said}; change it")
        guide = Guide(matcher, self, at_start=self.tokenizer.strips_first_space and not continues)
        guide.prepare()
        if not guide.can_end and not guide.may_follow.any():
            raise RequestError(f"the constraint ({constraint.kind}) matches no text at all; change it")
        return guide

    def _llguidance(self) -> Any:
        import llguidance

        with self._lock:
            if self._made is None:
                wrapper: Any = _Wrapper(self._tokens, self.tokenizer.control_ids)
                self._made = llguidance.LLTokenizer(wrapper)
        return self._made


class Guide:
    """What may follow in one answer: it is told each token, and says which ones may be next.

    may_follow: (vocab,) bool, as of the last prepare().   can_end: whether the answer matches as it is.
    """

    def __init__(self, matcher: Any, vocabulary: Vocabulary, *, at_start: bool) -> None:
        self._matcher, self._vocabulary, self._at_start = matcher, vocabulary, at_start
        self._is_due = True
        self.may_follow: Bools = np.zeros(0, bool)
        self.can_end = False

    def prepare(self) -> None:
        """Find out what may follow, unless that is known. This takes time, and no lock of Python's."""
        if not self._is_due:
            return
        self._is_due = False
        words, n = self._vocabulary, self._vocabulary.size
        self.can_end = self._matcher.is_accepting()
        allowed = np.frombuffer(self._matcher.compute_logit_bias(), np.uint8) != 0
        self.may_follow = allowed[:n].copy()
        if self._at_start:
            self.may_follow[words.spaced] = allowed[words.twins]
            self.may_follow[words.blank] = True

    def masked(self, logits: F32, stop_ids: Iterable[int]) -> F32:
        """The logits of what may follow, the rest -inf. Ids that end the answer may follow where it matches.

        Raises RequestError where the constraint has become too complex to go on, or nothing is left.
        """
        self.prepare()
        if self._matcher.is_error():
            raise RequestError(
                f"the constraint became too complex during the answer ({_line(self._matcher.get_error())}); simplify it"
            )
        allowed = self.may_follow.copy()
        allowed[list(stop_ids)] = self.can_end
        masked: F32 = np.where(allowed, logits, np.float32(-np.inf))
        if not masked.max() > -np.inf:
            raise RequestError("logit_bias and processors leave no token that the constraint allows; allow one")
        return masked

    def take(self, id: int) -> None:
        """Go on after a token that could follow and did not end the answer."""
        self._is_due = True
        words = self._vocabulary
        if not self._at_start:
            self._matcher.consume_token(id)
            return
        self._at_start = id in words.tokenizer.special_ids  # which are not shown
        if id not in words.blank:
            twin = words.twins[words.spaced == id]
            self._matcher.consume_token(int(twin[0]) if len(twin) else id)

    @property
    def is_complete(self) -> bool:
        """Whether the answer matches and nothing could be added, as far as that is known before prepare()."""
        if self._matcher.is_error():
            return False
        if self._is_due:
            return bool(self._matcher.is_stopped() and self._matcher.is_accepting())
        return self.can_end and not self.may_follow.any()

    def fork(self) -> Guide:
        """A second one with the same past."""
        twin = Guide(self._matcher.deep_copy(), self._vocabulary, at_start=self._at_start)
        twin._is_due, twin.may_follow, twin.can_end = self._is_due, self.may_follow, self.can_end
        return twin


class Preparer:
    """A thread that prepares guides while the engine's own runs the model."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    @contextmanager
    def meanwhile(self, guides: list[Guide]) -> Iterator[None]:
        """What these say is known at the end of the block."""
        if not guides:
            yield
            return
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="slmkit-constraints")
        done = self._thread.submit(_prepare, guides)
        try:
            yield
        finally:
            done.result()

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()


def _prepare(guides: list[Guide]) -> None:
    for guide in guides:
        guide.prepare()


class _Wrapper:
    """What llguidance asks of a tokenizer."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokens: list[bytes], special_ids: Iterable[int]) -> None:
        self.tokens, self.special_token_ids, self.eos_token_id = tokens, sorted(special_ids), len(tokens) - 1

    def __call__(self, text: str) -> list[int]:
        raise AssertionError("llguidance chooses no tokens")


def _grammar(constraint: Constraint) -> str:
    """In llguidance's Lark."""
    import llguidance

    if constraint.kind in ("json", "schema"):
        schema = constraint.value if constraint.kind == "schema" else {"type": "object"}
        try:
            told = for_llguidance(schema, {"whitespace_pattern": WHITE_SPACE})
            lark = "start: %json " + json.dumps(told, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(f"the constraint (schema) is no JSON ({brief(error)}); give a JSON schema") from None
    elif constraint.kind == "regex":
        made = json.loads(llguidance.LLMatcher.grammar_from_regex(constraint.value))
        lark = made["grammars"][0]["lark_grammar"]
    else:
        lark = constraint.value
    return llguidance.LLMatcher.grammar_from_lark(lark + _NO_FORCING)


def _line(message: str) -> str:
    """llguidance's message without the excerpt of the grammar below it."""
    lines = re.split(r"\n +\d+ \||\n<|\n+<backtrace>", message)[0].split("\n")
    text = " ".join(line.strip() for line in lines if line.strip(" ^"))
    return brief(ValueError(text))
