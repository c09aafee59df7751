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
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Raw, Struct
from starlette.types import Receive, Scope, Send

from ..connection_string import Endpoint
from ..context import Context
from ..duplicates import Once, duplicate_key
from ..errors import (
    ConfigurationError,
    HubError,
    InvalidMessageError,
    MethodNotAllowedError,
    OverloadedError,
    ProtocolError,
    Redeliver,
    SignalRError,
    SignatureError,
    TokenError,
    UpstreamError,
)
from ..hubs.depends import Overrides
from ..hubs.handler import Handler
from ..hubs.hub import Connector, current_app
from ..hubs.threads import Threads
from ..protocol.messages import CloseConnection, Invocation, OpenConnection, StreamInvocation
from ..protocol.upstream import (
    CONNECTED,
    CONNECTION_ID,
    CONNECTIONS,
    DISCONNECTED,
    MESSAGES,
    SIGNATURE,
    decode_header,
    decode_json_body,
    encode_error,
)
from ..reply import NO_CONTENT, Reply, completion, problem, send_reply
from ..streams import MASKED, encodable, text_for_client
from ..telemetry import UNKNOWN, Call, Observed, Observer, Outcome
from .after import AfterWork
from .call_body import BodyReader, decode_invocation, join_repeated
from .call_log import TOLD, CallLog
from .refusals import Refusals
from .routing import Route, Routes
from .running import CallerGone, Runner
from .stream_calls import StreamCalls
from .time_limit import TimeLimitPassed

logger = logging.getLogger("signalr_upstream")

TIMED_OUT = "The call took too long on the server and was ended."

_COMES_AGAIN = (Outcome.REDELIVER, Outcome.CALLER_GONE)
"""What has been answered so may be delivered once more, and then runs."""


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
        observers: Sequence[Observer],
        slow_after: float,
        duplicates: Once | None,
    ) -> None:
        self._app = app
        self._routes = routes
        self._limits = limits
        self._code = code
        self._debug = debug
        self._after = after
        self._streams = streams
        self._observe = [observer.call for observer in observers]
        self.slow_after = slow_after
        self._duplicates = duplicates
        self._running = 0
        self._log = CallLog()
        self._refusals = Refusals(routes, with_code=code is not None)
        threads = Threads(left_behind=self._thread_left, ended_late=self._thread_ended)
        self._runner = Runner(
            timeout=limits.handler_timeout, threads=threads, overrides=overrides, enc_hook=enc_hook
        )
        self.time_limits = self._runner.time_limits
        self._body = BodyReader(self.time_limits, max_size=limits.max_body_size, timeout=limits.body_timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one upstream call. It never raises for what the caller sent."""
        current = current_app.set(self._app)
        begun = time.perf_counter()
        observed = Observed(self._observe, Call(scope["headers"])) if self._observe else None
        try:
            await self._answer(scope, receive, send, observed, begun)
        except (UpstreamError, TokenError, ProtocolError, ConfigurationError, TimeLimitPassed) as error:
            # The time limit is that of the body: that of a handler is an answer to its caller. No variable here may
            # hold the error: its traceback holds them, and only the garbage collector would find both.
            await send_reply(
                send,
                self._refuse(
                    self._body.late() if isinstance(error, TimeLimitPassed) else error, scope, begun, observed
                ),
            )
        finally:
            if observed is not None:
                observed.end()
            current_app.reset(current)

    def _refuse(
        self, error: SignalRError, scope: Scope, begun: float, observed: Observed[Call] | None
    ) -> Reply:
        if observed is not None:
            observed.what.refused(error)
            observed.begin()
        return self._refusals.answer(error, scope, begun)

    def _admit(self, scope: Scope, call: Call | None) -> tuple[dict[bytes, bytes], Route, Endpoint | None]:
        """Everything that is checked before the body: headers, route, and the endpoint the call comes from."""
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        headers = dict(lines)
        repeated = None if len(headers) == len(lines) else join_repeated(lines, headers)
        route = self._routes.seen(scope, headers)
        service = self._routes.service(headers) if route is None else route.service
        connection_id = headers.get(CONNECTION_ID, b"")
        endpoint = (
            service.verify(headers.get(SIGNATURE, b""), connection_id)
            if service.prove is None
            else service.prove(headers.get(SIGNATURE, b""), connection_id, lines)
        )
        if not connection_id:
            raise SignatureError("the header x-asrs-connection-id is missing", reason="no_connection_id")
        if call is not None:
            call.connection_id = decode_header(connection_id)
            call.key_index = service.key_index(headers.get(SIGNATURE, b""), connection_id)
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
        if call is not None:
            call.hub = route.registered_hub
            call.handler = UNKNOWN if route.handler is None else route.handler.event
        return headers, route, endpoint

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, observed: Observed[Call] | None, begun: float
    ) -> None:
        call = None if observed is None else observed.what
        headers, route, endpoint = self._admit(scope, call)
        if observed is not None:
            observed.begin()
        handler = route.handler
        if handler is None:
            self._routes.explain_missing(route)
            if call is not None:
                call.outcome, call.status = Outcome.IGNORED, NO_CONTENT[0]
            await send_reply(send, NO_CONTENT)
            return
        if self._running >= self._limits.max_concurrent_calls:
            raise OverloadedError("this worker runs as many calls as it takes; try again")
        self._running += 1
        try:
            body = await self._body.read(headers, receive)
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
            context.begun = begun
            message = None
            if route.category == MESSAGES:
                message = decode_invocation(body, route)
                context.invocation_id = message.invocation_id or None
            if self._duplicates is None:
                reply = await self._handled(route, handler, context, message, receive)
            else:
                work = functools.partial(self._handled, route, handler, context, message, receive)
                reply = await self._once(self._duplicates, endpoint, context, work)
        finally:
            self._running -= 1
        context.is_answered = True
        if call is not None:
            call.outcome, call.status, call.error_type = context.outcome, reply[0], context.error_type
        try:
            await send_reply(send, reply)
        finally:  # also if the caller has gone meanwhile: the handler has run
            if context.after_work and not handler.binding.is_stream:
                self._after.begin(context)
        is_slow = time.perf_counter() - begun >= self.slow_after and context.outcome not in TOLD
        if is_slow or logger.isEnabledFor(logging.DEBUG):
            self._log.end(context, handler, reply[0], is_slow=is_slow)

    async def _once(
        self,
        duplicates: Once,
        endpoint: Endpoint | None,
        context: Context,
        work: Callable[[], Awaitable[Reply]],
    ) -> Reply:
        """Do the work, or give the answer to the call that this is a duplicate of."""
        if context.category == MESSAGES and context.invocation_id is None:
            return await work()
        is_first = False

        async def first() -> tuple[Reply, bool]:
            nonlocal is_first
            is_first = True
            reply = await work()
            return reply, context.outcome not in _COMES_AGAIN

        reply = await duplicates.answer(
            duplicate_key(
                endpoint.url if endpoint else "",
                context.hub,
                context.connection_id,
                invocation_id=context.invocation_id,
                event=context.event,
            ),
            first,
        )
        if not is_first:
            context.outcome = Outcome.DUPLICATE
        return reply

    def _handled(
        self,
        route: Route,
        handler: Handler,
        context: Context,
        message: Invocation | StreamInvocation | None,
        receive: Receive,
    ) -> Awaitable[Reply]:
        if message is None:
            return self._connection_event(route, handler, context, receive)
        return self._invoke(route, handler, context, message, receive)

    def _check_code(self, query: bytes) -> None:
        given = urllib.parse.parse_qs(query.decode("latin-1")).get("code", [""])[-1]
        if not hmac.compare_digest(given.encode(), (self._code or "").encode()):
            raise SignatureError("the upstream URL's code= is missing or wrong", reason="code")

    # --- handlers ---

    async def _invoke(
        self,
        route: Route,
        handler: Handler,
        context: Context,
        message: Invocation | StreamInvocation,
        receive: Receive,
    ) -> Reply:
        invocation_id = context.invocation_id
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
            self._log.not_closed(error)
        return problem(403, "the connected handler refused this connection")

    def _thread_left(self) -> None:
        self._running += 1  # it cannot be stopped, and still counts

    def _thread_ended(self) -> None:
        self._running -= 1

    # --- errors ---

    def _said_of(self, error: Exception, route: Route, context: Context) -> str | Reply:
        """What the caller is told of an error, which is logged if nobody else would hear of it; or the whole answer."""
        note = functools.partial(self._log.note, context, route.handler)
        if isinstance(error, CallerGone):
            note(Outcome.CALLER_GONE, logging.INFO, "%r was cancelled, since its caller has gone")
            context.after_work = ()
            return NO_CONTENT
        if isinstance(error, TimeLimitPassed):
            note(Outcome.TIMED_OUT, logging.WARNING, "%r passed its time limit")
            return TIMED_OUT
        error = route.errors.map(error)
        context.error_type = type(error).__name__
        if isinstance(error, Redeliver):
            note(Outcome.REDELIVER, logging.WARNING, "%r asks to be delivered again")
            context.after_work = ()  # it is left again then
            detail = "the handler asks for this call to be delivered again"
            return problem(error.status_code, detail, (b"retry-after", b"1"))
        if isinstance(error, HubError):
            context.outcome = Outcome.REFUSED
            if context.invocation_id is None:
                text = "%r was refused, and its caller does not wait for an answer: %r"
                note(Outcome.REFUSED, logging.WARNING, text, str(error))
            return text_for_client(error)
        note(Outcome.FAILED, logging.ERROR, "%r failed", error=error)
        return encodable(f"{type(error).__name__}: {error}") if self._debug else MASKED
