"""An app of one ASGI function: it remembers what the service tells it, and answers with the arguments it was given."""

import asyncio
import json
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class EchoApp:
    """``events`` holds the names, with the user for ``connected`` and the error for ``disconnected``."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.queries: list[str] = []  # of connected
        self.gate = asyncio.Event()  # clear: calls of methods wait
        self.gate.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        event, body = request.headers["x-asrs-event"], await request.body()
        match event:
            case "connected":
                self.events.append((event, request.headers.get("x-asrs-user-id")))
                self.queries.append(request.headers["x-asrs-client-query"])
                response = Response()
            case "disconnected":
                self.events.append((event, json.loads(body).get("Error")))
                response = Response()
            case _:
                await self.gate.wait()
                response = self._echo(event, body, request.headers["content-type"])
        await response(scope, receive, send)

    def _echo(self, event: str, body: bytes, kind: str) -> Response:
        if kind == "application/json":
            message = json.loads(body)
            arguments, invocation_id = message["arguments"], message.get("invocationId")
            completion = {"type": 3, "invocationId": invocation_id, "result": arguments}
            answer = json.dumps(completion, separators=(",", ":")).encode() + b"\x1e"
        else:
            _, _, invocation_id, _, arguments, _ = msgspec.msgpack.decode(body)
            answer = msgspec.msgpack.encode([3, {}, invocation_id, 3, arguments])
            answer = bytes([len(answer)]) + answer
        self.events.append((event, arguments))
        return Response(answer if invocation_id else b"", 200 if invocation_id else 204)
