"""The data path: one upstream call from its headers to its answer.

    verify → headers → lookup → body → envelope → require → filters of the app → filters of the hub → bind →
    dependencies → handler → encode → dependencies end → answer → what ``ctx.after`` was given

What a call may do is decided once: handlers are compiled at registration, and a (hub, category, event) that was seen
before is one dictionary lookup away from everything known about it.
"""

import functools
import hmac
import logging
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Raw, Struct
from starlette.types import Receive, Scope, Send

from .after import AfterWork
from .context import Context
from .depends import Overrides
from .errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    ConfigurationError,
    HubError,
    InvalidMessageError,
    KeysNotFetchedError,
    MethodNotAllowedError,
    NoHandlerError,
    OverloadedError,
    ProtocolError,
    Redeliver,
    SignalRError,
    SignatureError,
    TokenError,
    UpstreamError,
)
from .handler import Handler
from .hub import Connector, current_app
from .protocol.messages import CloseConnection, Invocation, OpenConnection, StreamInvocation
from .protocol.upstream import (
    CONNECTED,
    CONNECTION_ID,
    CONNECTIONS,
    CONTENT_LENGTH,
    DISCONNECTED,
    HEADER_PREFIX,
    MESSAGES,
    SIGNATURE,
    decode_header,
    decode_json_body,
    decode_json_invocation,
    decode_msgpack_invocation,
    encode_error,
)
from .reply import NO_CONTENT, Reply, completion, problem, send_reply
from .routing import Headers, Route, Routes
from .running import CallerGone, Runner
from .stream_calls import StreamCalls
from .streams import MASKED, encodable, text_for_client
from .threads import Threads
from .time_limit import TimeLimitPassed

logger = logging.getLogger("signalr_upstream")

TIMED_OUT = "The call took too long on the server and was ended."


class Limits(Struct, frozen=True):
    """What one worker takes. Sizes in bytes, times in seconds."""

    max_body_size: int
    max_concurrent_calls: int
    body_timeout: float
    handler_timeout: float


class Calls:
    """Serves the upstream calls of one app."""

    def __init__(
        self,
        app: Connector,
        routes: Routes,
        *,
        limits: Limits,
        code: str | None,
        debug: bool,
        overrides: Overrides,
        after: AfterWork,
        streams: StreamCalls,
        enc_hook: Callable[[Any], Any] | None,
    ) -> None:
        self._app = app
        self._routes = routes
        self._limits = limits
        self._limit_digits = len(str(limits.max_body_size))
        self._code = code
        self._debug = debug
        self._after = after
        self._streams = streams
        self._running = 0
        self._said: set[str] = set()
        threads = Threads(left_behind=self._thread_left, ended_late=self._thread_ended)
        self._runner = Runner(
            timeout=limits.handler_timeout, threads=threads, overrides=overrides, enc_hook=enc_hook
        )
        self.time_limits = self._runner.time_limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one upstream call. It never raises for what the caller sent."""
        current = current_app.set(self._app)
        try:
            await self._answer(scope, receive, send)
        except (UpstreamError, TokenError, ProtocolError, ConfigurationError) as error:
            await send_reply(send, self._refusal(error))
        except TimeLimitPassed:  # of the body: that of a handler is an answer to its caller
            detail = f"the body did not arrive within {self._limits.body_timeout:g} seconds"
            await send_reply(send, self._refusal(BodyTimeoutError(detail)))
        finally:
            current_app.reset(current)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter() if logger.isEnabledFor(logging.DEBUG) else None
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        headers = dict(lines)
        repeated = None if len(headers) == len(lines) else _join_repeated(lines, headers)
        route = self._routes.seen(scope, headers)
        service = self._routes.service(headers) if route is None else route.service
        connection_id = headers.get(CONNECTION_ID, b"")
        endpoint = (
            service.verify(headers.get(SIGNATURE, b""), connection_id)
            if service.prove is None
            else service.prove(headers.get(SIGNATURE, b""), connection_id, lines)
        )
        if not connection_id:
            raise SignatureError("the header x-asrs-connection-id is missing")
        if self._code is not None:
            self._check_code(scope["query_string"])
        if scope["method"] != "POST":
            raise MethodNotAllowedError("upstream calls are POST")
        if repeated is not None:
            raise UpstreamError(f"the header {repeated.decode('latin-1')} is repeated")
        if route is None:
            route = self._routes.find(scope, headers)
        if route.category == CONNECTIONS and route.event.lower() == DISCONNECTED:
            self._streams.end_of(decode_header(connection_id))
        handler = route.handler
        if handler is None:
            self._routes.explain_missing(route)
            await send_reply(send, NO_CONTENT)
            return
        if self._running >= self._limits.max_concurrent_calls:
            raise OverloadedError("this worker runs as many calls as it takes; try again")
        self._running += 1
        try:
            body = await self._body(headers, receive)
            if body is None:
                return  # the caller has gone
            context = Context(
                route.hub,
                route.category,
                route.event,
                headers,
                scope,
                body,
                route.service,
                endpoint,
                handler.kinds,
            )
            if route.category == MESSAGES:
                message = _decode_invocation(body, route)
                reply = await self._invoke(route, handler, context, message, receive)
            else:
                reply = await self._connection_event(route, handler, context, receive)
        finally:
            self._running -= 1
        context.is_answered = True
        try:
            await send_reply(send, reply)
        finally:  # also if the caller has gone meanwhile: the handler has run
            if context.after_work and not handler.binding.is_stream:
                self._after.begin(context)
        if begun is not None:
            logger.debug("%r answered %d in %.1f ms", context, reply[0], (time.perf_counter() - begun) * 1000)

    def _check_code(self, query: bytes) -> None:
        given = urllib.parse.parse_qs(query.decode("latin-1")).get("code", [""])[-1]
        if not hmac.compare_digest(given.encode(), (self._code or "").encode()):
            raise SignatureError("the upstream URL's code= is missing or wrong")

    # --- the body ---

    def _body(self, headers: Headers, receive: Receive) -> Awaitable[bytes | None]:
        """The body; None if the caller hung up."""
        limit = self._limits.max_body_size
        length = headers.get(CONTENT_LENGTH, b"0")
        # The server has checked its form; a number of fewer digits than the limit's is below it.
        if len(length) >= self._limit_digits and (not length.isdigit() or int(length[:20]) > limit):
            raise BodyTooLargeError(f"the body is larger than {limit} bytes")
        return self.time_limits.within(self._limits.body_timeout, _read_pieces(receive, limit))

    # --- handlers ---

    async def _invoke(
        self,
        route: Route,
        handler: Handler,
        context: Context,
        message: Invocation | StreamInvocation,
        receive: Receive,
    ) -> Reply:
        context.invocation_id = invocation_id = message.invocation_id or None
        binary = route.binary
        context.carries(message.arguments, binary=binary)
        try:
            with_items = isinstance(message, StreamInvocation)
            if with_items is not handler.binding.is_stream:
                handler.refuse_answer(with_items=with_items)
            if handler.require is not None:
                handler.admit(context)
            if handler.binding.is_stream:
                self._begin_stream(handler, route, context, message.arguments)
                return NO_CONTENT
            body = await self._runner.run(handler, route, context, message.arguments, receive)
        except InvalidMessageError:
            raise
        except Exception as error:
            said = self._said_of(error, route, context)
            if not isinstance(said, str):
                return said
            body = b"" if invocation_id is None else encode_error(invocation_id, said, binary=binary)
        return NO_CONTENT if invocation_id is None else completion(body, binary=binary)

    def _begin_stream(self, handler: Handler, route: Route, context: Context, arguments: Raw) -> None:
        def explain(error: Exception) -> str:
            said = self._said_of(error, route, context)
            return said if isinstance(said, str) else MASKED

        work = functools.partial(self._runner.run_stream, handler, route, context, arguments)
        self._streams.begin(context, work, explain=explain)

    async def _connection_event(
        self, route: Route, handler: Handler, context: Context, receive: Receive
    ) -> Reply:
        is_connected = context.event.lower() == CONNECTED
        # Microsoft's runtime never reads the body of connected: an empty one is taken here too.
        body = context.body
        message = decode_json_body(body) if body or not is_connected else OpenConnection()
        if not isinstance(message, OpenConnection if is_connected else CloseConnection):
            raise InvalidMessageError(f"the body is not that of {context.event!r}")
        if isinstance(message, CloseConnection):
            context.error = message.error
        try:
            handler.admit(context)
            await self._runner.run(handler, route, context, None, receive)
            return NO_CONTENT
        except Exception as error:
            said = self._said_of(error, route, context)
        if not isinstance(said, str):
            return said
        return await self._turn_away(context, said) if is_connected else NO_CONTENT

    async def _turn_away(self, context: Context, reason: str) -> Reply:
        # The service lets a client stay whatever the answer to `connected` is, so it is closed by hand.
        try:
            await context.connections.close(context.connection_id, reason=reason)
        except Exception as error:  # whatever it is: the refusal is answered
            logger.error("a refused connection could not be closed and is still there: %s", error)
        return problem(403, "the connected handler refused this connection")

    def _thread_left(self) -> None:
        self._running += 1  # it cannot be stopped, and still counts

    def _thread_ended(self) -> None:
        self._running -= 1

    # --- errors ---

    def _said_of(self, error: Exception, route: Route, context: Context) -> str | Reply:
        """What the caller is told of an error, which is logged if nobody else would hear of it; or the whole answer."""
        if isinstance(error, CallerGone):
            logger.info("%r was cancelled, since its caller has gone", context)
            context.after_work = ()
            return NO_CONTENT
        if isinstance(error, TimeLimitPassed):
            logger.warning("%r passed its time limit", context)
            return TIMED_OUT
        error = route.errors.map(error)
        if isinstance(error, Redeliver):
            logger.warning("%r asks to be delivered again", context)
            context.after_work = ()  # it is left again then
            detail = "the handler asks for this call to be delivered again"
            return problem(error.status_code, detail, (b"retry-after", b"1"))
        if isinstance(error, HubError):
            if context.invocation_id is None:
                logger.warning(
                    "%r was refused, and its caller does not wait for an answer: %r", context, str(error)
                )
            return text_for_client(error)
        logger.error("%r failed", context, exc_info=error)
        return encodable(f"{type(error).__name__}: {error}") if self._debug else MASKED

    def _refusal(self, error: SignalRError) -> Reply:
        status = error.status_code
        if isinstance(error, ConfigurationError):
            if str(error) not in self._said:
                logger.error("upstream calls are answered %d: %s", status, error)
            self._said.add(str(error))
        elif not isinstance(error, NoHandlerError):
            logger.warning("upstream call answered %d: %s", status, error)
        if isinstance(error, OverloadedError | KeysNotFetchedError):
            return problem(status, str(error), (b"retry-after", b"1"))
        if isinstance(error, MethodNotAllowedError):
            return problem(status, str(error), (b"allow", b"POST"))
        if isinstance(error, SignatureError):
            code = "" if self._code is None else ", and does the upstream URL have its code="
            return problem(
                status, f"the signature is missing or wrong: is this the access key of the service{code}?"
            )
        return problem(status, str(error))


def _decode_invocation(body: bytes, route: Route) -> Invocation | StreamInvocation:
    message = decode_msgpack_invocation(body) if route.binary else decode_json_invocation(body)
    if message.target != route.event and message.target.lower() != route.event.lower():
        raise InvalidMessageError("the invocation's target is not the event in X-ASRS-Event")
    return message


def _join_repeated(lines: list[tuple[bytes, bytes]], headers: dict[bytes, bytes]) -> bytes | None:
    """Join repeated signature lines in ``headers``; the name of another repeated header that matters, or None."""
    seen: set[bytes] = set()
    repeated = None
    for name, _ in lines:
        if name in seen and name != SIGNATURE and name.startswith((HEADER_PREFIX, b"content-")):
            repeated = name
        seen.add(name)
    headers[SIGNATURE] = b",".join(value for name, value in lines if name == SIGNATURE)
    return repeated


async def _read_pieces(receive: Receive, limit: int) -> bytes | None:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise BodyTooLargeError(f"the body is larger than {limit} bytes")
        pieces.append(piece)
        if not message.get("more_body", False):
            return piece if len(pieces) == 1 else b"".join(pieces)
