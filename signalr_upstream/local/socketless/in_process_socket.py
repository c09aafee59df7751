"""A client's WebSocket and HTTP requests to an ASGI app in this process: all that a server does but the network."""

import asyncio
from collections.abc import Callable

import httpx
import msgspec
from starlette.types import ASGIApp, Message, Scope

from ...errors import SignalRError


class NotAdmittedError(SignalRError):
    """A client is refused.

    Attributes:
        status: of the HTTP answer; None where the handshake was refused.
        by_app: whether the app's negotiate has answered that, and not the service.
    """

    def __init__(self, reason: str, status: int | None = None, *, by_app: bool = False) -> None:
        super().__init__(reason if status is None else f"{status}: {reason}")
        self.status = status
        self.by_app = by_app


def http_client(app: ASGIApp) -> httpx.AsyncClient:
    """An HTTP client of an ASGI app; what the app raises is raised to the caller."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=("127.0.0.1", 0)),
        base_url="http://localhost",
        trust_env=False,
    )


class Socket:
    """A WebSocket to the service: what a server does between the network and the ASGI app.

    Args:
        service: its ASGI app.
        query: query string of ``/client/``.
        token: bearer token.
        on_data: called with every transport message.
        on_end: called when it has ended, whoever has ended it.
    """

    def __init__(
        self,
        service: ASGIApp,
        *,
        query: str,
        token: str,
        on_data: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        self._service = service
        self._scope: Scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "server": ("localhost", None),
            "client": ("127.0.0.1", 0),
            "root_path": "",
            "path": "/client/",
            "raw_path": b"/client/",
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())],
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        self._on_data = on_data
        self._on_end = on_end
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._dealt_with = asyncio.Event()  # the service has taken all of the inbox and asks for more
        self._decided = asyncio.Event()  # accepted or refused
        self._status: int | None = None  # of a refusal
        self._refusal = bytearray()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            NotAdmittedError: the service refuses.
        """
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._run())
        await self._decided.wait()
        if self._status is not None:
            await self.ended()
            raise not_admitted(self._status, bytes(self._refusal))

    def post(self, data: bytes, *, binary: bool) -> None:
        """Send one transport message; the service sees it when it reads on."""
        self._dealt_with.clear()
        self._inbox.put_nowait(
            {"type": "websocket.receive", "bytes": data}
            if binary
            else {"type": "websocket.receive", "text": data.decode()}
        )

    async def read(self) -> None:
        """Wait until the service has read what was sent."""
        await self._dealt_with.wait()

    def hang_up(self) -> None:
        """Close it, as a client does."""
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def ended(self) -> None:
        """Wait until the service has dealt with the end, and raise what has gone wrong in it."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        try:
            await self._service(self._scope, self._receive, self._send)
        finally:
            self._decided.set()
            self._dealt_with.set()
            self._on_end()

    async def _receive(self) -> Message:
        if self._inbox.empty():
            self._dealt_with.set()
        return await self._inbox.get()

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "websocket.send":
                text = message.get("text")
                self._on_data(message["bytes"] if text is None else text.encode())
            case "websocket.accept":
                self._decided.set()
            case "websocket.close":
                self._inbox.put_nowait({"type": "websocket.disconnect", "code": message.get("code", 1000)})
            case "websocket.http.response.start":
                self._status = message["status"]
            case _:  # the body of a refusal
                self._refusal += message.get("body", b"")


def not_admitted(status: int, body: bytes, *, by_app: bool = False) -> NotAdmittedError:
    """What a refusal says; problem bodies of the app and of the service have a ``detail``."""
    try:
        reason = msgspec.json.decode(body, type=_Problem).detail
    except (msgspec.MsgspecError, UnicodeDecodeError):
        reason = body[:200].decode("utf-8", "replace")
    return NotAdmittedError(reason, status, by_app=by_app)


class _Problem(msgspec.Struct):
    detail: str
