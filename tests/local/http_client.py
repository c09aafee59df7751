"""Clients of a local service that use HTTP requests, without a socket: every step of a request can be watched."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.types import Message

from signalr_upstream.auth import encode_token
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.local import LocalService

HANDSHAKE = b'{"protocol":"json","version":1}\x1e'
HANDSHAKEN = b"{}\x1e"


class Exchange:
    """A request under way, and what has come of its answer."""

    def __init__(self, service: LocalService, scope: dict[str, Any]) -> None:
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._changed = asyncio.Event()
        self.sent: list[Message] = []
        self.gate = asyncio.Event()  # clear: the client does not read
        self.gate.set()
        self.task = asyncio.create_task(self._run(service, scope))

    async def _run(self, service: LocalService, scope: dict[str, Any]) -> None:
        try:
            await service.asgi(scope, self._incoming.get, self._send)
        finally:
            self._changed.set()

    async def _send(self, message: Message) -> None:
        await self.gate.wait()
        self.sent.append(message)
        self._changed.set()
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.leave()  # as a server tells an app whose answer is complete

    def say(self, body: bytes, *, more: bool = False) -> None:
        """Send a piece of the request's body."""
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        """Close the connection."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode().lower(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    async def hears(self, data: bytes) -> None:
        """Wait for this and nothing else to be the next part of the answer's body; it is forgotten then."""
        while len(self.body) < len(data):
            assert not self.task.done(), self.sent
            self._changed.clear()
            await self._changed.wait()
        assert self.body == data
        del self.sent[1:]

    async def done(self) -> "Exchange":
        await self.task
        return self


class HttpClient:
    """A client with a token.

    Args:
        lifetime: seconds until it expires.
    """

    def __init__(
        self,
        service: LocalService,
        *,
        hub: str = "chat",
        user: str = "ann",
        lifetime: float = 3600.0,
        **headers: str,
    ) -> None:
        self.service = service
        self.hub = hub
        self.user = user
        self._headers = headers
        self.renew(lifetime)

    def renew(self, lifetime: float, **claims: Any) -> None:
        """Get another token."""
        endpoint = parse_connection_string(self.service.connection_string)
        self.token = encode_token(
            {
                "asrs.s.uid": self.user,
                "exp": self.service.clock.time() + lifetime,
                "aud": f"{endpoint.audience}/client/?hub={self.hub}",
            }
            | claims,
            endpoint.keys[0],
        )

    def start(
        self,
        method: str,
        target: str,
        body: bytes | None = b"",
        headers: Mapping[str, str] | None = None,
        *,
        authorized: bool = True,
    ) -> Exchange:
        """Begin a request. With a body of None it has not been said."""
        path, _, query = target.partition("?")
        given = {"Host": "localhost", **self._headers, **(headers or {})}
        if authorized:
            given["Authorization"] = f"Bearer {self.token}"
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        exchange = Exchange(self.service, scope)
        if body is not None:
            exchange.say(body)
        return exchange

    async def ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Exchange:
        """A request and its whole answer."""
        return await self.start(method, target, body, headers).done()

    # --- what clients do ---

    async def negotiate(self, query: str = "&negotiateVersion=1") -> str:
        """The token of a new connection."""
        answer = await self.ask("POST", f"/client/negotiate?hub={self.hub}{query}")
        assert answer.status == 200, answer.body
        negotiation = json.loads(answer.body)
        return str(negotiation.get("connectionToken", negotiation["connectionId"]))

    def url(self, connection: str) -> str:
        return f"/client/?hub={self.hub}&id={connection}"

    def poll(self, connection: str) -> Exchange:
        return self.start("GET", self.url(connection))

    def events(self, connection: str) -> Exchange:
        """Open an event stream, as the JavaScript client does: with the token in the query."""
        target = f"{self.url(connection)}&access_token={quote(self.token)}"
        return self.start("GET", target, headers={"Accept": "text/event-stream"}, authorized=False)

    async def post(self, connection: str, data: bytes) -> Exchange:
        return await self.ask("POST", self.url(connection), data)

    async def delete(self, connection: str) -> Exchange:
        return await self.ask("DELETE", self.url(connection))

    async def open_polls(self) -> str:
        """Connect by long polling; the handshake is over."""
        connection = await self.negotiate()
        await self.poll(connection).done()
        await self.post(connection, HANDSHAKE)
        answer = await self.poll(connection).done()
        assert answer.body == HANDSHAKEN
        return connection

    async def open_events(self) -> tuple[str, Exchange]:
        """Connect by Server-Sent Events; the handshake is over."""
        connection = await self.negotiate()
        events = self.events(connection)
        await events.hears(b":\r\n")
        await self.post(connection, HANDSHAKE)
        await events.hears(event(HANDSHAKEN))
        return connection, events


def event(data: bytes) -> bytes:
    """A message of one line as an event."""
    return b"data: " + data + b"\r\n\r\n"


async def settle() -> None:
    """Let tasks that can run do so, and those that they wake."""
    ready: deque[object] = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # asyncio tells nobody
    for _ in range(50):
        await asyncio.sleep(0)
        if not ready:
            return


async def broadcast(service: LocalService, body: bytes, hub: str = "chat") -> None:
    """Send to everybody, by REST."""
    sender = HttpClient(service, hub=hub)
    sender.renew(60, aud=f"http://localhost/api/hubs/{hub}/:send")
    target = f"/api/hubs/{hub}/:send?api-version=2024-12-01"
    answer = await sender.ask("POST", target, body, {"Content-Type": "application/json"})
    assert answer.status == 202
