"""A server of the page's own API without a model: it answers by words in the prompt, in the shapes of the real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from slmkit.server.pages import playground

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

STORY = (
    "There was once a fox who lived below a lighthouse. Each night she counted its turns, and each night there were "
    "3.5 more than she could count! One evening the lamp stayed dark. “Somebody,” thought the fox, “has to go and "
    "look.” So she climbed all ninety-nine steps, and found the keeper asleep over a very good book."
)
MARKDOWN = """\
## Primes

A number is **prime** if only 1 and itself *divide* it, see [the definition](https://example.org/prime).
A test up to `sqrt(n)` is enough: 5 &lt; 7.

```python
def is_prime(n: int) -> bool:
    # 1 is none
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))
```

| tree | height | age |
|---|--:|---|
| Oak | 40 m | 1,000 years |
| Giant sequoia | 95 m | 3,200 years |
| Birch | 25 m | 120 years |

1. Read the number.
2. Try each divisor:
   - stop at the root
   - [x] done

> Two is the only even one.
"""
HOSTILE = """\
<img src=x onerror="window.hurt = 1"><script>window.hurt = 2</script>

<svg onload="window.hurt = 3"></svg> and <b>bold</b>

[click](javascript:window.hurt=4) [data](data:text/html,<script>window.hurt=5</script>) ![pixel](https://example.org/p.png)

```html
<script>window.hurt = 6</script>
```
"""
OTHERS = ["the", " a", " and", "\n", " very", " small", " Once", ".", " light", " she"]


def answer_to(text: str, body: dict[str, Any]) -> str:
    if body.get("response_format"):
        cut = "cut" in text
        return '{"name": "Ada", "age":' if cut else '{"name": "Ada", "age": 36, "languages": ["English", "French"]}'
    for word, answer in (("markdown", MARKDOWN), ("hostile", HOSTILE), ("café", "Un café, s'il vous plaît. 🦊")):
        if word in text.lower():
            return answer
    if "system" in text:
        systems = [m["content"] for m in body["messages"] if m["role"] == "system"]
        return f"My instructions: {systems[0] if systems else 'none'}."
    if "many" in text:
        return " ".join(f"word{i}" for i in range(400))
    return STORY


def tokens_of(text: str) -> list[bytes]:
    """Words with their space before them; what is not ASCII comes in single bytes, as from a byte-level vocabulary."""
    pieces: list[bytes] = []
    for piece in re.findall(r" ?\w+|\s|[^\w\s]", text):
        raw = piece.encode()
        pieces += [raw] if len(raw) == len(piece) else [bytes([b]) for b in raw]
    return pieces


def logprob_entry(token: bytes, at: int, n: int) -> dict[str, Any]:
    p = (0.96, 0.81, 0.62, 0.44, 0.27, 0.06)[(at * 7 + len(token)) % 6]
    shares = [p] + [(1 - p) * 0.55**i * 0.45 for i in range(1, n)]
    texts = [token, *(o.encode() for o in OTHERS[at % 5 :] if o.encode() != token)]
    top = [entry(t, s) for t, s in zip(texts, shares, strict=False)]
    top.sort(key=lambda e: -e["logprob"])
    return {**entry(token, p), "top_logprobs": top}


def entry(token: bytes, p: float) -> dict[str, Any]:
    return {"token": token.decode(errors="replace"), "bytes": list(token), "logprob": math.log(p)}


def error(status: int, message: str, param: str | None = None, code: str | None = None, **headers: str) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status, {k.replace("_", "-"): v for k, v in headers.items()})


def stand_in(key: str | None = None, pace_s: float = 0.002) -> FastAPI:
    """The app. `app.state.asked` has the bodies it was asked with, `app.state.stopped` counts answers cut short."""
    app = FastAPI(openapi_url=None)
    app.state.asked = []
    app.state.stopped = 0
    playground(app)

    def refused(request: Request) -> JSONResponse | None:
        if key is None or request.headers.get("authorization") == f"Bearer {key}":
            return None
        return error(401, "this server asks for an API key", code="invalid_api_key")

    @app.get("/v1/models")
    def models(request: Request) -> Any:
        names = ("tiny", "phi-3.5-mini", "phi3.5-vision")
        data = [{"id": name, "object": "model", "created": 1, "owned_by": "slmkit"} for name in names]
        return refused(request) or {"object": "list", "data": data}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        if answer := refused(request):
            return answer
        body = await request.json()
        app.state.asked.append(body)
        parts = body["messages"][-1]["content"]
        text = parts if isinstance(parts, str) else " ".join(p.get("text", "") for p in parts)
        if not isinstance(parts, str) and "vision" not in body["model"]:
            return error(400, f"{body['model']} takes no images; leave them out or choose a model for images")
        if "busy" in text:
            return error(503, "32 requests are waiting, which is the most; ask again later", retry_after="7")
        if body.get("top_k") == 13:
            return error(400, "top_k is 13, which this stand-in refuses; use another number", param="top_k")
        return StreamingResponse(events(app, body, text, pace_s), media_type="text/event-stream")

    return app


async def events(app: FastAPI, body: dict[str, Any], text: str, pace_s: float) -> AsyncIterator[str]:
    finished = False
    pace_s = 0.05 if "slow" in text else pace_s
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

    def sent(**chunk: Any) -> str:
        return f"data: {json.dumps({**head, **chunk})}\n\n"

    def choice(delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> str:
        return sent(choices=[{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}])

    try:
        yield ": a comment, which keeps the connection open\n\n"
        yield choice({"role": "assistant", "content": ""})
        tokens = tokens_of(answer_to(text, body))
        most = body.get("max_tokens", len(tokens))
        pending = b""
        for at, token in enumerate(tokens[:most]):
            await asyncio.sleep(pace_s)
            pending += token
            try:
                shown, pending = pending.decode(), b""
            except UnicodeDecodeError:
                shown = ""  # half a character
            logprobs = {"content": [logprob_entry(token, at, body["top_logprobs"])]} if body.get("logprobs") else None
            yield choice({"content": shown}, None, logprobs)
            if "break off" in text and at == 12:
                return
            if "fail midway" in text and at == 12:
                yield 'data: {"error": {"message": "the machine ran out of memory at 12 tokens", "code": 503}}\n\n'
                return
        yield choice({}, "length" if most < len(tokens) else "stop")
        n = min(most, len(tokens))
        speed = 2.0 if body["model"] == "tiny" else 1.0
        usage = {"prompt_tokens": 42, "completion_tokens": n, "total_tokens": 42 + n}
        timing = {"first_token_s": 0.084 / speed, "total_s": 0.084 / speed + n / (38.2 * speed)}
        yield sent(choices=[], usage=usage, timing=timing)
        yield "data: [DONE]\n\n"
        finished = True
    finally:
        app.state.stopped += not finished


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app on a free port, until the end of the block; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
