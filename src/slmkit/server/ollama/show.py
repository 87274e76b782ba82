"""POST /api/show: what a model is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from slmkit.catalog.facts import facts
from slmkit.catalog.tensor_types import tensor_rows
from slmkit.options import Options
from slmkit.server.ollama.details import details, modified_of, time_text
from slmkit.server.ollama.route import JsonRoute
from slmkit.server.ollama.schema import ShowBody
from slmkit.server.roster import Listed
from slmkit.server.service import Service
from slmkit.sources.base import Source
from slmkit.sources.find import open_source
from slmkit.weights.ollama.modelfile import Modelfile
from slmkit.weights.ollama.parameters import ollama_options


def routes(service: Service) -> APIRouter:
    """The endpoint."""
    router = APIRouter(route_class=JsonRoute, tags=["ollama"])

    @router.post("/api/show")
    async def show(body: ShowBody) -> dict[str, Any]:
        listed = await service.find(body.id)
        return await asyncio.to_thread(_shown, listed, bool(body.verbose))

    return router


def _shown(listed: Listed, verbose: bool) -> dict[str, Any]:
    source = open_source(listed.name, offline=True)
    found = facts(source)
    template, licence = found["template"].get("text", ""), (found["licence"] or {}).get("text", "")
    parameters = ollama_parameters(source.defaults, source.ctx, found["stop_tokens"])
    answer = {
        "license": licence,
        "modelfile": _modelfile(listed, source, parameters),
        "parameters": "\n".join(f"{name:<30} {_value(value)}" for name, value in parameters),
        "template": template,
        "system": source.system or "",
        "details": details(source),
        "model_info": _model_info(found),
        "capabilities": ["completion", "tools", *(["vision"] if source.sees else [])],
        "modified_at": time_text(modified_of(listed)),
    }
    if source.examples:
        answer["messages"] = [{"role": message.role, "content": message.content} for message in source.examples]
    if verbose:
        answer["tensors"] = [{"name": t.name, "type": t.type, "shape": list(t.shape)} for t in tensor_rows(source)]
    return answer


def ollama_parameters(defaults: Options, ctx: int | None, stops: Any = ()) -> list[tuple[str, Any]]:
    """Options as lines of a Modelfile: name and value, one for each text to stop at."""
    found: list[tuple[str, Any]] = [("num_ctx", ctx)] if ctx else []
    for name, value in ollama_options(defaults).items():
        found += [(name, each) for each in (value if name == "stop" else [value])]
    told = {value for name, value in found if name == "stop"}
    texts = [stop["text"] for stop in stops if stop["text"]] if isinstance(stops, list) else []
    return found + [("stop", text) for text in texts if text not in told]


def _modelfile(listed: Listed, source: Source, parameters: list[tuple[str, Any]]) -> str:
    return Modelfile(
        base=listed.id,
        parameters={
            name: [v for n, v in parameters if n == name] if name == "stop" else value for name, value in parameters
        },
        system=source.system,
        messages=source.examples,
    ).text()


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _model_info(found: Mapping[str, Any]) -> dict[str, Any]:
    """By the keys of GGUF files, whatever the model's own format."""
    kind = found["architecture"]
    return {
        "general.architecture": kind,
        "general.basename": found["name"],
        "general.parameter_count": found["parameters"],
        f"{kind}.attention.head_count": found["heads"],
        f"{kind}.attention.head_count_kv": found["key_value_heads"],
        f"{kind}.attention.key_length": found["head_dim"],
        f"{kind}.block_count": found["layers"],
        f"{kind}.context_length": found["context"],
        f"{kind}.embedding_length": found["hidden_size"],
        f"{kind}.vocab_size": found["vocabulary"],
    }
