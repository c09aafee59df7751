"""The inspector: one page of the local service that shows what happens, and the API behind it.

It can read every message and act as every user, so it is for whoever started the service and nobody else: on
loopback only, whatever the service listens on; for requests that name this machine and come from no other page; and
with the token that is in the fragment of the printed URL, which no request carries and no log has.

The page gets news through one streamed response, a JSON line a batch: ``{"rows": [...], "state": {...}}``.
"""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any, Literal

import msgspec
from msgspec import Struct
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from ...connection_string import is_loopback
from ...errors import SignalRError
from ..clock import Timer
from ..faults import Faults, FaultSettings
from ..records.entries import UpstreamCall
from ..records.journal import Journal
from ..upstream.delivery import Upstream
from .console import Connect, Console
from .inspector_entries import details_of, find, rows_since
from .inspector_state import Hubs, state_of

INSPECTOR_PATH = "/inspector"

BATCH = 0.1
"""Seconds in which news is collected: a broadcast is one batch, and nobody reads faster."""

HEARTBEAT = 10.0
"""Seconds without news after which a blank line is sent, so that a page that has gone is noticed."""

ABSENCE = 30.0
"""Seconds without a page after which the console's clients leave: a page that is loaded again finds them."""

_PAGE = {
    INSPECTOR_PATH: ("inspector.html", "text/html"),
    f"{INSPECTOR_PATH}/inspector.css": ("inspector.css", "text/css"),
    f"{INSPECTOR_PATH}/inspector.js": ("inspector.js", "text/javascript"),
    f"{INSPECTOR_PATH}/activity.js": ("activity.js", "text/javascript"),
    f"{INSPECTOR_PATH}/console.js": ("console.js", "text/javascript"),
    f"{INSPECTOR_PATH}/elements.js": ("elements.js", "text/javascript"),
    f"{INSPECTOR_PATH}/faults.js": ("faults.js", "text/javascript"),
    f"{INSPECTOR_PATH}/service.js": ("service.js", "text/javascript"),
    f"{INSPECTOR_PATH}/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _NewClient(Struct, forbid_unknown_fields=True):
    hub: str
    user: str = ""
    claims: dict[str, list[str]] = {}
    protocol: Literal["json", "messagepack"] = "json"


class _Call(Struct, forbid_unknown_fields=True):
    target: str
    arguments: str = "[]"
    wait: bool = True


def is_inspector_path(path: str) -> bool:
    """Whether a request is for the inspector."""
    return path == INSPECTOR_PATH or path.startswith(f"{INSPECTOR_PATH}/")


class Inspector:
    """Page and API as an ASGI app.

    Args:
        hubs: the service's, by name in lower case.
        connect: connects a client of the console.
    """

    def __init__(
        self, *, hubs: Hubs, journal: Journal, faults: Faults, upstream: Upstream, connect: Connect
    ) -> None:
        self.token = secrets.token_urlsafe(32)
        self._hubs = hubs
        self._journal = journal
        self._faults = faults
        self._upstream = upstream
        self._console = Console(connect)
        self._viewers = 0
        self._absence: Timer | None = None  # runs while there is no viewer
        self._ended = False
        self._tasks: set[asyncio.Task[None]] = set()
        api = f"{INSPECTOR_PATH}/api"
        self._router = Router(
            [
                *(Route(path, _page) for path in _PAGE),
                Route(f"{api}/events", self._events),
                Route(f"{api}/entries/{{number:int}}", self._entry),
                Route(f"{api}/entries/{{number:int}}/replay", self._replay, methods=["POST"]),
                Route(f"{api}/faults", self._set_faults, methods=["PUT"]),
                Route(f"{api}/faults/clear", self._clear_faults, methods=["POST"]),
                Route(f"{api}/connections/{{id}}/{{action}}", self._act, methods=["POST"]),
                Route(f"{api}/console", self._connect, methods=["POST"]),
                Route(f"{api}/console/{{id}}", self._disconnect, methods=["DELETE"]),
                Route(f"{api}/console/{{id}}/call", self._call, methods=["POST"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response: Callable[[Scope, Receive, Send], Awaitable[None]] = self._router
        if (reason := _stranger(scope)) is not None:
            response = PlainTextResponse(reason, 403)
        elif scope["path"].startswith(f"{INSPECTOR_PATH}/api/") and not self._has_token(Headers(scope=scope)):
            response = PlainTextResponse("Open the inspector with the URL that the service printed.", 401)
        await response(scope, receive, _with_headers(send))

    async def aclose(self) -> None:
        """End the streams, and the console's clients."""
        self._ended = True
        self._end_absence()
        self._journal.wake()
        await self._console.aclose()
        await asyncio.gather(*self._tasks)

    def _has_token(self, headers: Headers) -> bool:
        return hmac.compare_digest(
            headers.get("authorization", "").encode("latin-1"), f"Bearer {self.token}".encode()
        )

    # --- what happens ----------------------------------------------------------------------------------------

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._news(), media_type="application/x-ndjson")

    async def _news(self) -> AsyncIterator[bytes]:
        number, before = 0, b""
        self._viewers += 1
        self._end_absence()
        try:
            with self._journal.watch() as changed:
                while not self._ended:
                    changed.clear()
                    rows, number = rows_since(self._journal, number)
                    state = msgspec.json.encode(self._state())
                    news: dict[str, Any] = {"rows": rows} if rows else {}
                    if state != before:
                        news["state"] = msgspec.Raw(state)
                        before = state
                    yield (msgspec.json.encode(news) if news else b"") + b"\n"
                    await _until(changed, HEARTBEAT)
                    await asyncio.sleep(BATCH)
        finally:
            self._viewers -= 1
            if not self._viewers and not self._ended:
                clock = self._journal.clock
                self._absence = clock.call_at(clock.time() + ABSENCE, self._empty_console)

    def _end_absence(self) -> None:
        if self._absence is not None:
            self._absence.cancel()
            self._absence = None

    def _empty_console(self) -> None:
        """Nobody is left who could disconnect its clients."""
        task = asyncio.create_task(self._console.aclose())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _state(self) -> Any:
        return state_of(
            self._hubs,
            self._journal,
            self._faults,
            console=self._console.ids,
            now=self._journal.clock.time(),
        )

    async def _entry(self, request: Request) -> Response:
        entry = find(self._journal, request.path_params["number"])
        if entry is None:
            return _problem(404, "This is not kept any more: the journal keeps the newest entries only.")
        return _json(details_of(self._journal, entry))

    # --- what a person does ----------------------------------------------------------------------------------

    async def _replay(self, request: Request) -> Response:
        entry = find(self._journal, request.path_params["number"])
        if not isinstance(entry, UpstreamCall) or not entry.whole:
            return _problem(404, "This call is not kept any more, or not all of it.")

        async def replay() -> dict[str, int]:
            return {"number": (await self._upstream.replay(entry)).number}

        return await _outcome(replay)

    async def _set_faults(self, request: Request) -> Response:
        try:
            settings = msgspec.json.decode(await request.body(), type=FaultSettings)
        except msgspec.MsgspecError as error:
            return _problem(400, str(error))
        self._faults.change(settings)
        self._journal.wake()
        return Response(status_code=204)

    async def _clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        self._journal.wake()
        return Response(status_code=204)

    async def _act(self, request: Request) -> Response:
        connection_id, action = request.path_params["id"], request.path_params["action"]
        match action:
            case "drop":
                found = self._faults.drop(connection_id)
            case "hold":
                found = self._faults.hold(connection_id)
            case "release":
                found = True
                self._faults.release(connection_id)
            case "close":
                found = self._close(connection_id)
            case _:
                return _problem(404, f"There is no action {action}.")
        self._journal.wake()
        return Response(status_code=204) if found else _problem(404, "This connection is gone.")

    def _close(self, connection_id: str) -> bool:
        for hub in self._hubs.values():
            if (connection := hub.connection(connection_id)) is not None:
                connection.close("Closed in the inspector.")
                return True
        return False

    # --- the console -----------------------------------------------------------------------------------------

    async def _connect(self, request: Request) -> Response:
        async def connect() -> dict[str, str]:
            asked = msgspec.json.decode(await request.body(), type=_NewClient)
            connection_id = await self._console.connect(
                asked.hub, user_id=asked.user or None, claims=asked.claims, protocol=asked.protocol
            )
            self._journal.wake()
            return {"connection": connection_id}

        return await _outcome(connect)

    async def _call(self, request: Request) -> Response:
        async def call() -> dict[str, Any]:
            asked = msgspec.json.decode(await request.body(), type=_Call)
            result = await self._console.call(
                request.path_params["id"], asked.target, asked.arguments, wait=asked.wait
            )
            return {"result": msgspec.json.encode(result, enc_hook=str).decode()}

        return await _outcome(call)

    async def _disconnect(self, request: Request) -> Response:
        async def disconnect() -> dict[str, str]:
            await self._console.disconnect(request.path_params["id"])
            self._journal.wake()
            return {}

        return await _outcome(disconnect)


async def _page(request: Request) -> Response:
    name, kind = _PAGE[request.url.path]
    content = files(__package__).joinpath("page", name).read_bytes()
    return Response(content, media_type=kind)


async def _until(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        pass


async def _outcome(action: Callable[[], Awaitable[dict[str, Any]]]) -> Response:
    """What came of it; an error is an outcome too: the person wants to see it, not to be refused."""
    try:
        return _json(await action())
    except (SignalRError, msgspec.MsgspecError, ValueError, TypeError) as error:
        return _json({"error": str(error)})


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _problem(status: int, detail: str) -> Response:
    return Response(msgspec.json.encode({"error": detail}), status, media_type="application/json")


# --- who may come in ---


def _stranger(scope: Scope) -> str | None:
    """Why a request is not answered; None if it may be."""
    headers = Headers(scope=scope)
    address = scope["client"][0] if scope.get("client") else ""
    host = headers.get("host", "")
    if not is_loopback(address):
        return (
            "The inspector answers requests from this machine only; the host of a container is another one."
        )
    if not is_loopback(host if host.endswith("]") else host.rpartition(":")[0] or host):
        return "The Host header does not name this machine: use http://localhost."
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"{scope['scheme']}://{host}".lower():
        return "Other pages may not use the inspector."
    return None


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return send_with_headers
