"""Whether the server lives and can answer, and what it is: for probes, and in the shape of NIM's containers."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, files
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

import slmkit
from slmkit.server.roster import served_id
from slmkit.server.service import Service

LICENSE = "LICENSE"


def routes(service: Service) -> APIRouter:
    """GET /health, /v1/health/live, /v1/health/ready, /v1/metadata and /v1/version."""
    router = APIRouter()
    license = _license()

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/v1/health/live")
    async def live() -> dict[str, str]:
        return _said("Service is live.")

    @router.get("/v1/health/ready")
    async def ready() -> JSONResponse:
        if service.is_draining:
            return JSONResponse(_said("Service is shutting down."), 503)
        if not service.fleet.has_loaded:
            return JSONResponse(_said("Service is not ready: no model is loaded yet."), 503)
        return JSONResponse(_said("Service is ready."))

    @router.get("/v1/metadata")
    async def metadata() -> dict[str, Any]:
        loaded = {served_id(berth.name): berth.model.describe() for berth in service.fleet.berths}
        served = service.roster.served
        return {
            "version": slmkit.__version__,
            "assetInfo": [],
            "licenseInfo": license,
            "modelInfo": [{"shortName": id, "modelUrl": id} for id in dict.fromkeys([*served, *loaded])],
            "selectedModelProfileId": next((_profile(facts) for facts in loaded.values()), ""),
            "repository_override": "",
        }

    @router.get("/v1/version")
    async def version() -> dict[str, str]:
        return {"release": slmkit.__version__, "api": slmkit.__version__}

    return router


def _said(message: str) -> dict[str, str]:
    return {"object": "health.response", "message": message}


def _profile(facts: dict[str, Any]) -> str:
    """How a model is run, as NIM's profiles say it: format of the weights, and where they are multiplied."""
    return f"cpu-{facts.get('kernels', 'unknown')}-{facts.get('quantization', 'unknown')}"


def _license() -> dict[str, str]:
    """slmkit's own; a model's licence is told with the model."""
    try:
        found = [file for file in files("slmkit") or () if file.name == LICENSE]
        text = found[0].read_binary() if found else b""
    except (PackageNotFoundError, OSError):  # a checkout that was not installed
        text = b""
    return {"name": "MIT", "path": LICENSE, "sha": hashlib.sha256(text).hexdigest() if text else ""}
