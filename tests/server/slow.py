"""The bundled model made slow and endless, for tests of what happens meanwhile."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from slmkit.model import Model
from slmkit.options import LoadOptions
from slmkit.request import Request
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions


class SlowBackend:
    """A backend that takes at least so long for each token of each answer, and never ends one by itself.

    n_steps: tokens made so far.
    """

    def __init__(self, inner: Any, token_s: float) -> None:
        self._inner, self._token_s = inner, token_s
        self.n_steps = 0

    def generate(self, request: Request) -> Any:
        options = replace(request.options, ignore_eos=True)
        return self._inner.generate(replace(request, processors=(self._wait,), options=options))

    def _wait(self, ids: Any, logits: Any) -> Any:
        self.n_steps += 1
        time.sleep(self._token_s)
        return logits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class SlowService(Service):
    """Serves `tiny`, slowly.   backend: None until it is loaded."""

    def __init__(self, token_s: float = 0.01, **options: Any) -> None:
        super().__init__(("tiny",), ServeOptions(**options), LoadOptions(ctx=1024))
        self._token_s = token_s
        self.backend: SlowBackend | None = None

    def _open(self, name: str) -> Model:
        self.backend = SlowBackend(super()._open(name).backend, self._token_s)
        return Model(self.backend)
