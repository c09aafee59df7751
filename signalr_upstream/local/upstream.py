"""Calls to the upstream app: one HTTP POST an event, and what its answer means for the client.

The app is reached by URL, or in this process with no socket between. A client that waits always gets an answer: what
went wrong is said in the error of its completion, and logged.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple, assert_never
from urllib.parse import urlsplit

import httpx
import msgspec
import starlette.types as asgi
from msgspec import structs

from ..auth import sign_connection
from ..errors import ConfigurationError
from ..protocol import upstream as wire
from ..protocol.messages import (
    CloseConnection,
    Completion,
    Invocation,
    OpenConnection,
    StreamInvocation,
    UpstreamMessage,
)
from ..protocol.path import DEFAULT_PATTERN, expand_template
from .clock import SystemClock
from .faults import FAULT_HEADER, Faults, pause
from .journal import Journal, UpstreamCall

TIMEOUT = 100.0
"""Seconds an app has to answer: .NET's default, which the service and its emulator share."""

NO_STREAM = (
    "Stream failed, the app did not take it: it answers 204, and sends the items through the REST API."
)

RETRY_INTERVAL = 0.1
"""Seconds between attempts to reach an app that is being restarted."""

_IN_PROCESS = "http://app.localhost"

_log = logging.getLogger("signalr_upstream.local")


class Caller(msgspec.Struct, frozen=True):
    """The client on whose behalf the app is called.

    Attributes:
        hub: as the client wrote it.
        claims: of its token, in order, as ``(type, value)``.
        query: raw query string of the request that opened the transport, with its ``?``. Holds secrets.
    """

    connection_id: str
    hub: str
    user_id: str | None
    claims: tuple[tuple[str, str], ...]
    query: str

    def __repr__(self) -> str:
        return f"Caller({self.connection_id!r}, hub={self.hub!r})"


class _Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class _UnreachableError(Exception):
    """No answer; the text says why."""


class Upstream:
    """The app behind the service.

    Args:
        app: an ASGI app in this process.
        template: URL with ``{hub}``, ``{category}`` and ``{event}``, if the app is elsewhere.
        keys: each makes one signature.
        lenient: pass answers on as the app wrote them, as Microsoft's emulator does, wherever the client's
            invocation comes to an end with it.
        timeout: seconds for one call.
        connect_patience: seconds for which a refused connection is tried again, since the app may be restarting.
        transport: how HTTP requests travel; for tests.
        journal: where the calls are noted.
        faults: what is to go wrong.

    Raises:
        ConfigurationError: the template is no URL.
    """

    def __init__(
        self,
        *,
        app: asgi.ASGIApp | None = None,
        template: str | None = None,
        keys: Sequence[str],
        lenient: bool = False,
        timeout: float = TIMEOUT,
        connect_patience: float = 0.0,
        transport: httpx.AsyncBaseTransport | None = None,
        journal: Journal | None = None,
        faults: Faults | None = None,
    ) -> None:
        if app is not None:
            template = _IN_PROCESS + DEFAULT_PATTERN
            transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("127.0.0.1", 0))
        if template is not None:
            _check_template(template)
        self._template = template
        self._keys = tuple(keys)
        self._lenient = lenient
        self._timeout = timeout
        self._patience = connect_patience
        self._journal = journal or Journal(SystemClock())
        self._faults = faults or Faults()
        # A bare transport: a client would log URLs, follow redirects with the signature, and use proxies.
        self._transport = transport or httpx.AsyncHTTPTransport(trust_env=False, limits=httpx.Limits())

    def __repr__(self) -> str:
        return f"<Upstream {self._where()}>"

    async def aclose(self) -> None:
        """Close the connections to the app."""
        await self._transport.aclose()

    async def call(
        self, caller: Caller, message: UpstreamMessage, *, binary: bool
    ) -> Completion | bytes | None:
        """Tell the app. What comes back is for the client; None: it waits for nothing, or its stream goes on."""
        category, event, body = _describe(message, binary=binary)
        invocation_id = _invocation_id(message)
        try:
            answer = await self._post(caller, category, event, body, binary=binary)
        except _UnreachableError as error:
            _log.warning("%r of hub %r: %s", event, caller.hub, error)
            return Completion(invocation_id, error=f"Invocation failed, {error}") if invocation_id else None
        if answer.status not in (200, 204):
            _log.warning(
                "%r of hub %r: the app at %s answered %d", event, caller.hub, self._where(), answer.status
            )
        if invocation_id is None:
            return None
        result = self._for_client(answer, message, invocation_id, binary=binary)
        if isinstance(result, Completion) and result.error is not None:
            _log.info("%r of hub %r: %s", event, caller.hub, result.error)
        return result

    def _for_client(
        self,
        answer: _Answer,
        message: UpstreamMessage,
        invocation_id: str,
        *,
        binary: bool,
    ) -> Completion | bytes | None:
        status, body = answer.status, answer.body
        is_stream = isinstance(message, StreamInvocation)
        if is_stream and status == HTTPStatus.NO_CONTENT:
            return None  # its items come through the REST API
        verbatim = self._lenient and not is_stream and status == HTTPStatus.OK
        if verbatim and wire.ends_invocation(body, invocation_id=invocation_id, binary=binary):
            return body
        completion = wire.decode_answer(status, body, invocation_id=invocation_id, binary=binary)
        if is_stream and completion.error is None:
            return Completion(invocation_id, error=NO_STREAM)
        return completion

    async def _post(self, caller: Caller, category: str, event: str, body: bytes, *, binary: bool) -> _Answer:
        if self._template is None:
            raise _UnreachableError("no upstream app: start the local service with one")
        url = expand_template(self._template, hub=caller.hub, category=category, event=event)
        in_messagepack = binary and category == wire.MESSAGES
        try:
            headers = wire.encode_headers(
                connection_id=caller.connection_id,
                hub=caller.hub,
                category=category,
                event=event,
                user_id=caller.user_id,
                claims=caller.claims,
                client_query=caller.query,
                signature=sign_connection(caller.connection_id, self._keys),
                content_type=wire.MESSAGEPACK_TYPE if in_messagepack else wire.JSON_TYPE,
            )
        except ValueError as error:
            raise _UnreachableError(f"it cannot be sent to the app: {error}") from None
        call = UpstreamCall(
            connection_id=caller.connection_id,
            hub=caller.hub,
            category=category,
            event=event,
            request=self._journal.request("POST", url, headers, body),
            start=0.0,
        )
        if self._faults.upstream_duplicate:
            await self._deliver(structs.replace(call), headers, body)
        return await self._deliver(call, headers, body)

    async def replay(self, call: UpstreamCall) -> UpstreamCall:
        """Make a call of the journal once more, signed anew. Its answer goes to nobody but the journal."""
        signature = sign_connection(call.connection_id, self._keys).encode()
        headers = [
            (name, signature if name.lower() == wire.SIGNATURE else value)
            for name, value in call.request.headers
        ]
        again = structs.replace(call, answer=None, error=None, seconds=None)
        with contextlib.suppress(_UnreachableError):
            await self._deliver(again, headers, call.request.body)
        return again

    async def _deliver(self, call: UpstreamCall, headers: list[tuple[bytes, bytes]], body: bytes) -> _Answer:
        """One delivery of an event, noted in the journal."""
        call.start = self._journal.clock.time()
        self._journal.upstream_called(call)
        try:
            answer = await self._attempt(call.request.url, headers, body)
        except _UnreachableError as error:
            self._journal.upstream_answered(call, str(error))
            raise
        except asyncio.CancelledError:
            self._journal.upstream_answered(call, "the service gave it up")
            raise
        self._journal.upstream_answered(call, self._journal.answer(*answer))
        return answer

    async def _attempt(self, url: str, headers: list[tuple[bytes, bytes]], body: bytes) -> _Answer:
        await pause(self._journal.clock, self._faults.upstream_latency)
        if self._faults.upstream_status is not None:
            return _Answer(self._faults.upstream_status, [(FAULT_HEADER.encode(), b"upstream_status")], b"")
        try:
            async with asyncio.timeout(self._timeout):
                return await self._exchange(httpx.Request("POST", url, headers=headers, content=body))
        except TimeoutError:
            raise _UnreachableError(
                f"the app at {self._where()} did not answer within {self._timeout:g} seconds"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _UnreachableError(f"the app at {self._where()} failed: {_reason(error)}") from None

    async def _exchange(self, request: httpx.Request) -> _Answer:
        response = await self._connect(request)
        try:
            body = bytearray()
            async for chunk in response.stream:  # type: ignore[union-attr]  # always async here
                body += chunk
                if len(body) > wire.MAX_ANSWER:
                    break  # one byte over is enough to be told so
            return _Answer(response.status_code, response.headers.raw, bytes(body))
        finally:
            await response.aclose()

    async def _connect(self, request: httpx.Request) -> httpx.Response:
        """Send; where nothing listens, wait for an app that is being restarted."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        while True:
            try:
                return await self._transport.handle_async_request(request)
            except httpx.ConnectError:
                if loop.time() >= until:
                    raise
            await asyncio.sleep(RETRY_INTERVAL)

    def _where(self) -> str:
        """The app's origin: the rest of the URL may hold a code."""
        if self._template is None:
            return "nowhere"
        parts = urlsplit(self._template)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _check_template(template: str) -> None:
    try:
        url = urlsplit(template)
        usable = url.scheme in ("http", "https") and bool(url.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError("the URL template of the upstream app is no http or https URL")


def _invocation_id(message: UpstreamMessage) -> str | None:
    if isinstance(message, Invocation | StreamInvocation):
        return message.invocation_id or None
    return None


def _describe(message: UpstreamMessage, *, binary: bool) -> tuple[str, str, bytes]:
    match message:
        case OpenConnection():
            return wire.CONNECTIONS, wire.CONNECTED, wire.encode_connected()
        case CloseConnection():
            return wire.CONNECTIONS, wire.DISCONNECTED, wire.encode_disconnected(message.error)
        case Invocation() | StreamInvocation():
            return wire.MESSAGES, message.target, wire.encode_invocation(message, binary=binary)
        case _:
            assert_never(message)


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError):
        return "nothing listens there"
    return type(error).__name__  # the text may quote the URL
