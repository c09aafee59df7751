"""Real clients of a service in the test's event loop: each gets in with the URL and token that it is given."""

import asyncio
import functools
import json
from types import TracebackType
from typing import Any, Self

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from signalr_upstream.claims import ClientAccess
from signalr_upstream.local.server import Server

from .clients import Call, Client
from .conftest import Connect


class Person:
    """A client, which is another process: what waits for it leaves the event loop free."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def receive(self) -> list[Any]:
        """The next message, as method and arguments; nothing is skipped."""
        return await asyncio.to_thread(self.client.receive)

    async def receive_many(self, count: int) -> list[list[Any]]:
        """The next messages."""
        return await asyncio.to_thread(lambda: [self.client.receive() for _ in range(count)])

    async def invoke(self, target: str, *args: Any) -> Any:
        """Call a method of the app and wait for its answer."""
        return await asyncio.to_thread(self.client.invoke, target, *args)

    async def wait(self, call: Call) -> Any:
        """The result of a command."""
        return await asyncio.to_thread(call.wait)

    async def wait_closed(self) -> str | None:
        """Wait for the end of the connection; the reason that the library gives."""
        return await asyncio.to_thread(self.client.wait_closed)


class Served:
    """An ASGI app on a free port of loopback, in the test's event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._server = Server(app, host="127.0.0.1", port=0)

    @property
    def url(self) -> str:
        """``http://localhost:port``."""
        return f"http://localhost:{self._server.port}"

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop()


class Door(Served):
    """Answers negotiate with what ``let_in`` was given, as a route of one's own does."""

    def __init__(self, connect: Connect) -> None:
        super().__init__(self._negotiate)
        self._connect = connect
        self._access: list[ClientAccess] = []

    async def let_in(
        self,
        access: ClientAccess,
        *methods: str,
        library: str = "node-json",
        transport: str = "WebSockets",
    ) -> Person:
        """Connect a client, whose methods the service may call."""
        self._access.append(access)
        url = f"{self.url}/{len(self._access) - 1}"
        connect = functools.partial(self._connect, library, url, *methods, transport=transport)
        return Person(await asyncio.to_thread(connect))

    async def _negotiate(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = int(scope["path"].split("/")[1])
        await Response(self._access[number].encode(), media_type="application/json")(scope, receive, send)


class StreamTaker:
    """An app that takes every call, and remembers the streams that clients have called for."""

    def __init__(self) -> None:
        self._streams: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        if request.headers["x-asrs-event"] == "counter":
            self._streams.put_nowait((request.headers["x-asrs-connection-id"], _stream_id(request, body)))
        await Response(status_code=204)(scope, receive, send)

    async def next(self) -> tuple[str, str]:
        """Connection and id of the next stream."""
        return await self._streams.get()


def _stream_id(request: Request, body: bytes) -> str:
    if request.headers["content-type"] == "application/json":
        return str(json.loads(body)["invocationId"])
    return str(msgspec.msgpack.decode(body)[2])
