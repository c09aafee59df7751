"""The app of the client matrix: the handlers of ``handlers.py``, and ``counter`` for clients that call ``stream()``.

Items of a stream go to the client by REST, each with the id under which the client waits for it.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
from handlers import app as handlers  # type: ignore[import-not-found] # beside this module
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from signalr_upstream.auth import TokenCache
from signalr_upstream.connection_string import DEFAULT_SETTING, parse_connection_string

_endpoint = parse_connection_string(os.environ[DEFAULT_SETTING])
_tokens = TokenCache()
_streaming: set[asyncio.Task[None]] = set()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI app."""
    if scope["type"] != "http" or Headers(scope=scope).get("x-asrs-event") != "counter":
        await handlers(scope, receive, send)
        return
    request = Request(scope, receive)
    stream, count = _read(request.headers["content-type"], await request.body())
    task = asyncio.create_task(_count(request.headers, stream, count))
    _streaming.add(task)
    task.add_done_callback(_streaming.discard)
    await Response(status_code=204)(scope, receive, send)  # the stream stays open


def _read(content_type: str, body: bytes) -> tuple[str, int]:
    if content_type == "application/json":
        message = msgspec.json.decode(body)
        return message["invocationId"], message["arguments"][0]
    _, _, stream, _, arguments, *_ = msgspec.msgpack.decode(body)
    return stream, arguments[0]


async def _count(headers: Headers, stream: str, count: int) -> None:
    connection, hub = headers["x-asrs-connection-id"], headers["x-asrs-hub"]
    base = f"/api/hubs/{hub}/connections/{connection}/streams/{stream}"
    async with httpx.AsyncClient(base_url=_endpoint.url, trust_env=False) as client:
        for path, content in _calls(base, count):
            token = _tokens.rest_token(_endpoint, path, now=time.time())
            answer = await client.post(
                f"{path}?api-version=2024-12-01",
                content=content,
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            answer.raise_for_status()


def _calls(base: str, count: int) -> Iterator[tuple[str, bytes]]:
    for number in range(count):
        item: dict[str, Any] = {"number": number}
        yield f"{base}/:send", msgspec.json.encode(item)
    yield f"{base}/:complete", b""
