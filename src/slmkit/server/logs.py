"""Logs as lines of JSON on stderr: one for each request, without its text unless that was asked for."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import datetime, timezone
from typing import Any, TextIO

from slmkit.server.record import Record

log = logging.getLogger("slmkit.server.requests")
LONGEST_PATH = 200
QUIET = ("/health", "/v1/health/live", "/v1/health/ready", "/metrics", "/v1/metrics")  # asked for every few seconds


class Lines(logging.Formatter):
    """A record of logging as one line of JSON; fields given as `extra={"fields": {...}}` stand beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=False, default=str)


def install(stream: TextIO | None = None) -> None:
    """Write what the server and uvicorn have to say to `stream`, stderr by default. For a process that is a server."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Lines())
    for name in ("slmkit", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)


def write(record: Record) -> None:
    """One line for a request that has ended."""
    is_fine = record.status < 400
    if record.path in QUIET and is_fine:
        return
    fields: dict[str, Any] = {
        "request_id": record.id,
        "method": record.method[:16],
        "path": record.path[:LONGEST_PATH],
        "status": record.status,
        "seconds": round(record.seconds, 4),
        "caller": record.caller,
    }
    if record.model:
        fields |= {
            "model": record.model,
            "prompt_tokens": record.prompt_tokens,
            "completion_tokens": record.completion_tokens,
            "finish": record.finish,
        }
    if record.texts:
        fields["text"] = record.texts
    level = logging.INFO if is_fine else logging.WARNING if record.status < 500 else logging.ERROR
    log.log(level, "request", extra={"fields": fields})
