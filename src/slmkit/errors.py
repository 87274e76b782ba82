"""Every error slmkit raises on purpose, in one tree.

    SlmError
    ├── RequestError             the caller can fix it            400   exit 2
    │   ├── OptionError              a value outside its bounds   400
    │   ├── UnsupportedFeature       this backend cannot do that  400
    │   ├── ContextExceeded          prompt and answer too long   400
    │   ├── AccessDenied             a token or a licence is due  403
    │   └── ModelNotFound            no model of that name        404   exit 3
    │       └── ModelRetired             the service gave it up   410
    ├── ModelError               the checkpoint is at fault       422   exit 4
    │   ├── UnsupportedModel         understood, not implemented  422
    │   ├── CheckpointError          tensors or files are wrong   422
    │   ├── TokenizerError           no usable tokenizer          422
    │   └── TemplateError            the chat template fails      422
    └── RuntimeFailure           we or the machine                500   exit 5
        ├── NotEnoughMemory          with both numbers            503
        ├── Busy                     too many requests under way  503
        ├── DeadlineExceeded         not complete in time         408
        ├── StorageError             disk full, not writable      507
        ├── DownloadError            network, server, checksum    502
        ├── Unreachable              no server answers there      502
        ├── MissingDependency        with the line that installs  501
        └── ShapeError               arrays that do not fit       500

Each message says what was given, what is accepted and what to do about it, in one sentence.
"""

from __future__ import annotations


class SlmError(Exception):
    """Base of all: catch this to catch everything slmkit raises on purpose."""

    http_status = 500
    exit_code = 1


class RequestError(SlmError):
    """The caller asked for something that cannot be done as asked."""

    http_status = 400
    exit_code = 2


class OptionError(RequestError):
    """An option's value is outside its bounds or of the wrong type."""


class UnsupportedFeature(RequestError):
    """The backend that would run this request cannot do one of the things it asks for."""


class ContextExceeded(RequestError):
    """Prompt and requested answer together do not fit the context."""


class AccessDenied(RequestError):
    """Whoever has the model asks for a token, or for its licence to be accepted, first."""

    http_status = 403


class ModelNotFound(RequestError):
    """No model answers to that name."""

    http_status = 404
    exit_code = 3


class ModelRetired(ModelNotFound):
    """The service had the model, and has given it up for good."""

    http_status = 410


class ModelError(SlmError):
    """The checkpoint, its tokenizer or its template cannot be used."""

    http_status = 422
    exit_code = 4


class UnsupportedModel(ModelError):
    """The configuration is readable and asks for something slmkit does not implement."""


class CheckpointError(ModelError):
    """A weight file or a tensor in it is missing, damaged or does not fit the configuration."""


class TokenizerError(ModelError):
    """The tokenizer is missing, damaged or does not fit the model."""


class TemplateError(ModelError):
    """The chat template is missing, fails, or exceeds its limits."""


class RuntimeFailure(SlmError):
    """slmkit or the machine failed; the request itself was fine."""

    http_status = 500
    exit_code = 5


class NotEnoughMemory(RuntimeFailure):
    """The machine lacks the memory; the message has what is needed and what is free."""

    http_status = 503


class Busy(RuntimeFailure):
    """As many requests as are allowed are under way; one more is likely to be taken after retry_after_s seconds."""

    http_status = 503

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(RuntimeFailure):
    """The answer was not complete when the time that the request allows was over."""

    http_status = 408


class StorageError(RuntimeFailure):
    """A file could not be written; nothing half-written is left under its final name."""

    http_status = 507


class DownloadError(RuntimeFailure):
    """The network or the server failed, or what arrived is not what was promised; what arrived so far is kept."""

    http_status = 502


class Unreachable(RuntimeFailure):
    """No server answers where the model is said to run."""

    http_status = 502


class MissingDependency(RuntimeFailure):
    """An optional package is not installed; the message has the line that installs it."""

    http_status = 501


class ShapeError(RuntimeFailure):
    """Arrays handed to an op do not fit together."""
