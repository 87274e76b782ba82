"""The same model on this machine, where a server or a cloud has it no longer: if that was asked for, and never unsaid.

It takes over where the model is gone (404, 410, known to be retired) or nobody answers. A key that is refused, a
service that is busy or fails, and an answer that broke off are not that: they are told as they are.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from slmkit.backends.address import parted
from slmkit.backends.answering import Answering, Cancel
from slmkit.backends.local_names import local_name
from slmkit.errors import ModelNotFound, Unreachable
from slmkit.events import Event

if TYPE_CHECKING:
    from slmkit.backends.base import Backend, Events
    from slmkit.backends.registry import Runtime
    from slmkit.options import LoadOptions
    from slmkit.request import Request
    from slmkit.weights.telling import Notice, Progress

GONE = (ModelNotFound, Unreachable)


def open_falling(
    name: str, runtime: Runtime, model: str, options: LoadOptions, progress: Progress | None, notice: Notice | None
) -> Backend:
    """The model where it was asked for, and on this machine once it is gone from there.

    Raises what opening it raises, also where no model of ours is known to be the same.
    """
    here = local_name(parted(model)[1])
    tell = notice or warnings.warn
    if here is None:
        tell(f"{name} is none of the models that are known here, so none can take its place")
    try:
        there: Backend = runtime.load().open_model(model, options, progress, notice)
    except GONE as error:
        if here is None:
            raise
        return _open(name, here, error, options, progress, notice)
    return there if here is None else FallingBackend(name, there, here, options, progress, notice)


class FallingBackend:
    """A model elsewhere until it is gone, then the same one here."""

    def __init__(
        self,
        name: str,
        there: Backend,
        here: str,
        options: LoadOptions,
        progress: Progress | None,
        notice: Notice | None,
    ) -> None:
        self.name, self._here = name, here
        self._now, self._options, self._progress, self._notice = there, options, progress, notice
        self.capabilities, self.context = there.capabilities, there.context
        self._has_fallen = False
        self._falling = threading.Lock()

    def generate(self, request: Request) -> Events:
        """Start the request now. Closing the iterator, or dropping it, cancels the request."""
        if self._has_fallen:
            return self._now.generate(request)
        return Answering(lambda cancel: self._events(request, cancel))

    def describe(self) -> dict[str, Any]:
        """Of the one that answers now."""
        return {**self._now.describe(), "name": self.name, "answers_here": self._has_fallen}

    def close(self) -> None:
        """Free the model; later requests are refused."""
        self._now.close()

    def _events(self, request: Request, cancel: Cancel) -> Iterator[Event]:
        has_begun = False
        try:
            for event in _ending_with(cancel, self._now.generate(request)):
                has_begun = True
                yield event
            return
        except GONE as error:
            if has_begun:
                raise
            self._fall(error)
        self.capabilities.check(request, self._now.name)
        yield from _ending_with(cancel, self._now.generate(request))

    def _fall(self, error: Exception) -> None:
        """Once, whichever requests find it gone."""
        with self._falling:
            if not self._has_fallen:
                self._now.close()
                self._now = _open(self.name, self._here, error, self._options, self._progress, self._notice)
                self.capabilities, self.context = self._now.capabilities, self._now.context
                self._has_fallen = True


def _open(
    name: str, here: str, error: Exception, options: LoadOptions, progress: Progress | None, notice: Notice | None
) -> Backend:
    from slmkit.backends.native import NativeBackend

    (notice or warnings.warn)(f"{here} on this machine answers instead of {name}: {error}")
    return NativeBackend(here, options, progress, notice)


def _ending_with(cancel: Cancel, events: Events) -> Iterator[Event]:
    """Events that are cancelled with the answer that they are part of."""
    cancel.on(events.close)
    return events
