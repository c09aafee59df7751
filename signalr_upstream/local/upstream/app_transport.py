"""Upstream calls to an app in this process, with no socket between.

An app sees what a server shows it: a task of its own for every request, and ``http.disconnect`` where the service has
given up on it or its answer is over. It is not cancelled then.

Spec: https://asgi.readthedocs.io/en/stable/specs/www.html
"""

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx
from starlette.types import ASGIApp, Message, Scope

GRACE = 1.0
"""Seconds that requests which nobody waits for any more get to end, when the service ends."""

_ASGI = {"version": "3.0", "spec_version": "2.4"}  # from 2.4 on `send` raises where the caller has gone

_log = logging.getLogger("signalr_upstream.local")


class CallerLeftError(OSError):
    """The service reads no more of this answer."""


class AppTransport(httpx.AsyncBaseTransport):
    """Requests to ``app``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(await request.aread())
        task = asyncio.create_task(exchange.run(self._app, self._scope(request)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            head = await exchange.head()
        except BaseException:
            await exchange.aclose()
            raise
        return httpx.Response(head["status"], headers=list(head.get("headers", ())), stream=exchange)

    async def aclose(self) -> None:
        """Let what runs come to its end, within ``GRACE``."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _scope(self, request: httpx.Request) -> Scope:
        url = request.url
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            "method": request.method,
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.split(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("127.0.0.1", 0),
            "server": (url.host, url.port or 80),
        }


class _Exchange(httpx.AsyncByteStream):
    """One request and its answer, which is read while the app writes it: it waits until each piece is taken."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue(1)  # None: the app has returned
        self._over = asyncio.Event()  # the answer is complete, or nobody reads it
        self._left = False  # nobody reads it

    # --- the app's end ---------------------------------------------------------------------------------------

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            if not self._left:  # else it may be what it makes of CallerLeftError
                _log.exception("the app in this process raised an exception")
        await self._put(None)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._over.is_set():
            raise CallerLeftError("nobody reads this answer")
        await self._put(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._over.set()

    async def _put(self, message: Message | None) -> None:
        if not self._over.is_set():
            await self._messages.put(message)

    # --- the service's end -----------------------------------------------------------------------------------

    async def head(self) -> Message:
        """The start of the answer, which is 500 where the app has none."""
        message = await self._messages.get()
        if message is None or message["type"] != "http.response.start":
            await self.aclose()
            return {"status": 500}
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not (self._over.is_set() and self._messages.empty()):
            message = await self._messages.get()
            if message is None:
                raise httpx.ReadError("the app broke off its answer")
            yield message.get("body", b"")

    async def aclose(self) -> None:
        """Read no more."""
        self._left = not self._over.is_set()
        self._over.set()
        while not self._messages.empty():
            self._messages.get_nowait()  # what the app waits with goes into the place, and is forgotten
