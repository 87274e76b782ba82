"""POST /api/create, POST /api/copy and DELETE /api/delete: named models, made, named once more, and removed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from slmkit.catalog.create import copied, create
from slmkit.catalog.installed import hub_name
from slmkit.errors import RequestError
from slmkit.request import Message
from slmkit.server.faults import Fault
from slmkit.server.ollama import progress
from slmkit.server.ollama.conversation import messages_of
from slmkit.server.ollama.names import check_name
from slmkit.server.ollama.route import JsonRoute
from slmkit.server.ollama.schema import CopyBody, CreateBody, OfModel, Turn
from slmkit.server.roster import Listed
from slmkit.server.service import Service
from slmkit.untrusted import shown
from slmkit.weights.hub.inventory import cached
from slmkit.weights.hub.removal import remove
from slmkit.weights.named.blobs import assembled
from slmkit.weights.named.store import checked_name, find_named, forget
from slmkit.weights.ollama.modelfile import Modelfile, parse
from slmkit.weights.ollama.parameters import parameters
from slmkit.weights.telling import Progress

_SAID_IN_A_MODELFILE = ("from_", "files", "adapters", "template", "license", "system", "parameters", "messages")
_NOT_KEPT = ("images", "thinking", "tool_calls", "tool_name", "tool_call_id")


def routes(service: Service) -> APIRouter:
    """The endpoints."""
    router = APIRouter(route_class=JsonRoute, tags=["ollama"])

    @router.post("/api/create")
    async def make(http: HttpRequest, body: CreateBody) -> Response:
        name = _new_name(service, body.id)

        def work(told: Progress) -> None:
            modelfile = _modelfile(body)
            parent, base = modelfile.base, modelfile.base
            if not body.files:
                base = _place(service.roster.find(parent))
            create(
                name, replace(modelfile, base=base), parent="" if body.files else parent, offline=True, progress=told
            )

        async def forget_old() -> None:
            await service.fleet.replace(name)

        return await progress.reply(http, work, "reading model metadata", body.stream, forget_old)

    @router.post("/api/copy")
    async def copy(body: CopyBody) -> Response:
        listed = await service.find(check_name(body.source, "source"))
        name = _new_name(service, check_name(body.destination, "destination"))
        made = await asyncio.to_thread(copied, _place(listed), name)
        await service.fleet.replace(made.name)
        return Response()

    @router.delete("/api/delete")
    async def delete(body: OfModel) -> Response:
        listed = await service.find(body.id)
        await asyncio.to_thread(_remove, listed)
        await service.fleet.replace(listed.name)
        return Response()

    return router


def _modelfile(body: CreateBody) -> Modelfile:
    """What a body asks for.   Raises RequestError."""
    if body.quantize:
        raise RequestError("quantize is not supported here; leave it out, and `slm quantize` writes a packed model")
    if body.modelfile is not None:
        if beside := [name for name in _SAID_IN_A_MODELFILE if getattr(body, name)]:
            raise RequestError(f"{beside[0].strip('_')} stands beside modelfile, which says all of a model; give one")
        modelfile = parse(body.modelfile)
        if modelfile.adapter is not None:
            raise RequestError(f"{modelfile.where('ADAPTER')} is a path, and a request reaches none; send its files")
        return modelfile
    if bool(body.from_) == bool(body.files):
        raise RequestError(
            "a model is made of one of from and files; give the name of a model, or files that were sent"
        )
    parameters(body.parameters or {})  # told by name now, and not when it is run
    return Modelfile(
        base=body.from_ or str(assembled(body.files or {}, "the model")),
        parameters={name: value for name, value in (body.parameters or {}).items() if value is not None},
        template=body.template or None,
        system=body.system,
        adapter=str(assembled(body.adapters, "the adapter")) if body.adapters else None,
        messages=_examples(body.messages or []),
        licences=(body.license,) if isinstance(body.license, str) else tuple(body.license or ()),
    )


def _new_name(service: Service, id: str) -> str:
    """The name for a new model.   Raises RequestError for one that requests would not reach it by."""
    name = checked_name(id)
    if service.roster.served.get(name, name) != name:
        raise RequestError(f"{shown(name)} is what this server calls a path that it was started with; rename the model")
    return name


def _examples(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The messages that go before every conversation.   Raises RequestError for what is not kept of one."""
    for at, turn in enumerate(turns):
        if beside := [name for name in _NOT_KEPT if getattr(turn, name)]:
            raise RequestError(f"messages.{at}.{beside[0]} is not kept with a model, which has texts; leave it out")
    return messages_of(turns)


def _place(listed: Listed) -> str:
    """The name that the model is found by from anywhere: a path that the server was started with in full."""
    is_path = os.sep in listed.name and os.path.exists(listed.name)
    return os.path.realpath(listed.name) if is_path else listed.name


def _remove(listed: Listed) -> None:
    """Remove a named model or one of the hub's cache.   Raises Fault for others."""
    if find_named(listed.name) is not None:
        forget(listed.name)
        return
    for model in cached():
        if hub_name(model) == listed.name:
            remove(model.ref)
            return
    raise Fault(400, f"{shown(listed.id)} cannot be removed from here: it comes with slmkit, or is another program's")
