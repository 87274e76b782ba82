"""Stop strings over text that arrives in pieces."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from slmkit.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopMatcher:
    """Cuts a text at the first stop string, wherever the borders between the pushed pieces lie.

    The stop string that is complete first wins; of two that end at the same character, the longer. So the result
    depends on the text alone, never on how it was cut into pieces. The stop string itself is not text.

    matched: the stop string that was met, or None so far.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if isinstance(stops, str) or not all(isinstance(stop, str) and stop for stop in stops):
            raise RequestError(f"stop strings are a list of texts of at least one character; given was {stops!r}")
        self.matched: str | None = None
        # Longest first, so that a tie goes to the longer one.
        self._stops = [(stop, _fallbacks(stop)) for stop in sorted(set(stops), key=len, reverse=True)]
        self._progress = [0] * len(self._stops)  # how many characters of each stop the text now ends with
        self._held = ""

    def push(self, text: str) -> str:
        """The text that is now certain to be text; what may be the beginning of a stop string waits."""
        if self.matched is not None:
            return ""
        if not self._stops:
            return text
        for at, char in enumerate(text):
            for n, (stop, fallbacks) in enumerate(self._stops):
                done = self._progress[n]
                while done and stop[done] != char:
                    done = fallbacks[done - 1]
                done += stop[done] == char
                self._progress[n] = done
                if done == len(stop):
                    self.matched = stop
                    safe = (self._held + text[: at + 1])[: -len(stop)]
                    self._held = ""
                    return safe
        pending = self._held + text
        keep = len(pending) - max(self._progress)
        self._held = pending[keep:]
        return pending[:keep]

    def flush(self) -> str:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        self._progress = [0] * len(self._stops)
        return held

    def fork(self) -> StopMatcher:
        """A second one with the same past."""
        twin = copy.copy(self)
        twin._progress = list(self._progress)
        return twin


def _fallbacks(stop: str) -> list[int]:
    """For each prefix of `stop`, the length of the longest shorter prefix that it ends with (Knuth-Morris-Pratt)."""
    lengths = [0]
    for char in stop[1:]:
        length = lengths[-1]
        while length and stop[length] != char:
            length = lengths[length - 1]
        lengths.append(length + (stop[length] == char))
    return lengths
