"""What a handler learns about its caller, and how it answers."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, NoReturn, TypeVar, overload

import anyio.from_thread
import msgspec
from msgspec import Raw, Struct
from starlette.datastructures import Headers, QueryParams, State
from starlette.requests import Request

from .claims import Claims, Unsealer
from .client import HubClient
from .connection_string import Endpoint
from .errors import InvalidMessageError
from .protocol.upstream import (
    CLIENT_QUERY,
    CONNECTION_ID,
    DISCONNECTED,
    HEADER_PREFIX,
    USER_CLAIMS,
    USER_ID,
    decode_header,
)
from .rest.hub_calls import HubCalls
from .rest.memberships import Connections, Groups, Users
from .rest.targets import UNTYPED, C, Clients, ConnectionTarget, Kinds, Target
from .streams import stream_to
from .telemetry import Outcome

T = TypeVar("T")

# What opens doors is not handed out: a handler that logs all headers or the query gives nothing away.
_SECRET_HEADERS = frozenset({b"authorization", b"authentication", b"proxy-authorization", b"cookie"})
_SECRET_QUERY = frozenset({"access_token", "id"})


class Service(Struct, frozen=True):
    """What stands behind one connection setting."""

    verify: Callable[[bytes, bytes], Endpoint | None]
    """Signature and connection id → the endpoint whose key made it; SignatureError, NoKeysError."""
    key_index: Callable[[bytes, bytes], int | None]
    """The same → which of our keys made it, for metrics; None if none did."""
    unsealer: Unsealer
    hub_client: Callable[[str, Endpoint | None], HubClient]
    """A hub's name and the endpoint its connections live at."""
    prove: Callable[[bytes, bytes, Sequence[tuple[bytes, bytes]]], Endpoint | None] | None = None
    """In place of ``verify`` where calls bring tokens: it is given all headers as well."""
    parallel_invocations: bool = False
    """Whether the service goes on with a connection's messages while a handler runs."""
    check_room: Callable[[], None] = lambda: None
    """Raises a HubError if no call may leave more work for after its answer."""


class Context(Generic[C]):
    """One upstream call, as its handler sees it. In a hub with ``client=ChatClient`` it is a ``Context[ChatClient]``.

    Attributes:
        hub: name of the hub, as the service sent it.
        category: ``"connections"`` or ``"messages"``.
        event: ``"connected"``, ``"disconnected"`` or the invocation's target, as the service sent it.
        after_work: what ``after`` was given.
        invocation_id: None if the caller does not wait for an answer (``send()`` in the JavaScript client).
        error: what the service has ended the connection for, only for ``disconnected``. None where the client has left,
            its network broke, or the app has closed it.
        is_answered: whether the service has its answer, or gets it now; so in work of ``after``.
        begun: when it began, as ``time.perf_counter`` says.
        outcome, error_type: what became of it, and the name of the exception it ended with; see ``telemetry``.
    """

    begun: float = 0.0
    outcome: Outcome = Outcome.SUCCESS
    error_type: str = ""

    after_work: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]] = ()

    def __init__(  # noqa: PLR0917 - made for every call, and keywords cost
        self,
        hub: str,
        category: str,
        event: str,
        headers: Mapping[bytes, bytes],
        scope: Mapping[str, Any],
        body: bytes,
        service: Service,
        endpoint: Endpoint | None,
        kinds: Kinds[C] = UNTYPED,
    ) -> None:
        self.hub = hub
        self.category = category
        self.event = event
        self.invocation_id: str | None = None
        self.error: str | None = None
        self._raw_headers = headers
        self._scope = scope
        self._body = body
        self._service = service
        self._endpoint = endpoint
        self._kinds = kinds
        self.is_answered = False
        self._raw_arguments: Raw | None = None
        self._binary = False

    def carries(self, arguments: Raw, *, binary: bool) -> None:
        """Set the invocation's arguments, raw as they came."""
        self._raw_arguments = arguments
        self._binary = binary

    def __repr__(self) -> str:
        # With their repr: clients choose the event, and this goes to logs.
        return f"<Context {f'{self.hub}/{self.category}/{self.event}'!r} connection={self.connection_id!r}>"

    @cached_property
    def connection_id(self) -> str:
        """The caller's connection."""
        return decode_header(self._raw_headers[CONNECTION_ID])

    @cached_property
    def user_id(self) -> str | None:
        """The caller's user id; None for an anonymous connection."""
        value = self._raw_headers.get(USER_ID)
        return decode_header(value) if value else None

    @cached_property
    def claims(self) -> Claims:
        """The claims that our negotiate sealed for this user: name → values. Empty for tokens made elsewhere.

        The service's own list of claims can be forged by a claim's value (see ``claims_raw``), so only the sealed
        claim is read, and only if its signature and user id are right.
        """
        return self._service.unsealer.unseal(self.claims_raw, self.user_id)

    @cached_property
    def claims_raw(self) -> str:
        """The service's ``type: value, type: value`` text. Never decide by it: values are not escaped, so one claim
        valued ``Doe, role: admin`` looks like two."""
        return decode_header(self._raw_headers.get(USER_CLAIMS, b""))

    @cached_property
    def query(self) -> QueryParams:
        """The query string the client connected with, without ``access_token`` and ``id``."""
        text = decode_header(self._raw_headers.get(CLIENT_QUERY, b"")).removeprefix("?")
        return QueryParams(
            [(k, v) for k, v in QueryParams(text).multi_items() if k.lower() not in _SECRET_QUERY]
        )

    @cached_property
    def headers(self) -> Headers:
        """The request's headers without credentials, cookies and ``X-ASRS-*`` (which the attributes here give)."""
        return Headers(
            raw=[
                (name, value)
                for name, value in self._scope["headers"]
                if name not in _SECRET_HEADERS and not name.startswith(HEADER_PREFIX)
            ]
        )

    @cached_property
    def arguments(self) -> Sequence[Any]:
        """The invocation's arguments as Python's builtins; empty for connected and disconnected.

        Raises:
            InvalidMessageError: they cannot be decoded.
        """
        if self._raw_arguments is None:
            return ()
        try:
            decode = msgspec.msgpack.decode if self._binary else msgspec.json.decode
            return tuple(decode(self._raw_arguments, type=list[Any]))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise InvalidMessageError("the arguments cannot be decoded") from None

    @cached_property
    def request(self) -> Request:
        """The upstream request itself, with every header and the raw body: the way to what the others leave out."""

        async def receive() -> Mapping[str, Any]:
            return {"type": "http.request", "body": self._body, "more_body": False}

        return Request(dict(self._scope), receive)  # type: ignore[arg-type]  # ASGI's own types are looser

    @property
    def body(self) -> bytes:
        """The body as it came."""
        return self._body

    def after(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function`` when the answer has been sent, an error's included; plain functions run in a thread.

        It may invoke the caller, who waits for nothing any more. What it raises is logged. A shutdown waits for it. It
        is dropped where nothing is answered: the caller hung up (``cancel_on_disconnect``), or the call comes again.

        Raises:
            HubError: the worker does such work for as many calls as it takes (1,000). The handler may catch it.
            TypeError: it is no function, but what calling one has given.
        """
        if not callable(function):
            _refuse_called(function)
        if not self.is_answered:
            self._service.check_room()
        if isinstance(self.after_work, list):
            self.after_work.append((function, args))
        else:
            self.after_work = [(function, args)]

    def wait(self, awaitable: Awaitable[T]) -> T:
        """In a plain ``def`` handler: await something on the event loop, e.g. ``ctx.wait(ctx.clients.all.send(...))``.

        Raises:
            RuntimeError: in an async handler, which can ``await`` itself.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return anyio.from_thread.run(_awaited, awaitable)
        if isinstance(awaitable, Coroutine):
            awaitable.close()  # nobody will await it
        raise RuntimeError("ctx.wait is for plain def handlers: use await here")

    async def stream_to_caller(
        self, target: str, items: AsyncIterable[Any], *, stream_id: str | None = None
    ) -> bool:
        """Send each item to the caller as it comes: its client method ``target`` is called with ``(stream_id, number,
        what, value)``, where ``what`` is ``"item"``, and in the end once ``"end"`` or ``"error"``.

        One send is under way at a time. For what takes longer than a handler may, leave it for after the answer:
        ``ctx.after(ctx.stream_to_caller, "token", tokens())``.

        Args:
            items: e.g. an async generator; it is closed whatever happens.
            stream_id: what the client knows the stream by; default: a new one.

        Returns:
            False if the caller has gone before the end.

        Raises:
            Exception: what ``items`` raises. Its text goes to the client only if it is a HubError.
            ServiceError: as ``Target.send``.
        """
        caller = ConnectionTarget(self._hub_client.calls, self.connection_id)
        return await stream_to(caller, target, items, stream_id=stream_id)

    @property
    def state(self) -> State:
        """What the outer application's lifespan has put into its state."""
        return self.request.state

    @property
    def _hub_client(self) -> HubClient:
        return self._service.hub_client(self.hub, self._endpoint)

    def _check_caller_is_free(self) -> None:
        """Raise RuntimeError if the caller's answer to an invocation could never come."""
        waits = not self.is_answered and self.event.lower() != DISCONNECTED
        if waits and not self._service.parallel_invocations:
            raise RuntimeError(
                "a handler cannot invoke its own caller: the service takes the caller's next message, its result, "
                "only when this call is answered. Leave it for after the answer with ctx.after(...), or, if your "
                "service takes messages in parallel: UpstreamApp(parallel_invocations=True)"
            )

    @property
    def clients(self) -> "CallerClients[C]":
        """Whom to send to, the caller and the others included."""
        return CallerClients(self._hub_client.calls, self._kinds, self)

    @property
    def groups(self) -> "CallerGroups":
        """Groups of this hub; the caller's connection is the default."""
        return CallerGroups(self._hub_client.calls, self.connection_id)

    @property
    def users(self) -> Users:
        """Users of this hub and their group memberships."""
        return self._hub_client.users

    @property
    def connections(self) -> Connections:
        """Connections of this hub."""
        return self._hub_client.connections


class _Caller:
    """``clients.caller``: a ``ConnectionTarget``, or the hub's client class, which a property could not say."""

    @overload
    def __get__(self, clients: "CallerClients[Target]", owner: type) -> ConnectionTarget: ...
    @overload
    def __get__(self, clients: "CallerClients[C]", owner: type) -> C: ...

    def __get__(self, clients: "CallerClients[Any]", owner: type) -> Any:
        return clients.connection(clients.connection_id)


class CallerClients(Clients[C]):
    """``Clients`` that knows who called.

    Args:
        context: of the call.

    Attributes:
        caller: the connection that sent this call.
    """

    caller = _Caller()

    def __init__(self, calls: HubCalls, kinds: Kinds[C], context: Context[Any]) -> None:
        super().__init__(calls, kinds)
        self._context = context

    @property
    def connection_id(self) -> str:
        """The caller's connection."""
        return self._context.connection_id

    @property
    def untyped(self) -> "CallerClients[Target]":
        """See ``Clients``."""
        return CallerClients(self._calls, UNTYPED, self._context)

    @overload
    def connection(self: "CallerClients[Target]", connection_id: str) -> ConnectionTarget: ...
    @overload
    def connection(self, connection_id: str) -> C: ...

    def connection(self, connection_id: str) -> Any:
        """One connection."""
        guard = self._context._check_caller_is_free if connection_id == self.connection_id else None
        return self._kinds.connection(self._calls, connection_id, before_invoke=guard)

    @property
    def others(self) -> C:
        """Everybody but the caller."""
        return self.all_except([self.connection_id])

    def others_in_group(self, group: str) -> C:
        """Everybody in ``group`` but the caller."""
        return self.group(group, excluding=[self.connection_id])


class CallerGroups(Groups):
    """``Groups`` whose connection is the caller's unless another one is named."""

    def __init__(self, calls: HubCalls, connection_id: str) -> None:
        super().__init__(calls)
        self._connection_id = connection_id

    async def add(self, group: str, *, connection_id: str | None = None) -> bool:
        """Put a connection (the caller's) into a group; False if the connection is gone."""
        return await super().add(
            group, connection_id=self._connection_id if connection_id is None else connection_id
        )

    async def remove(self, group: str, *, connection_id: str | None = None) -> None:
        """Take a connection (the caller's) out of a group."""
        await super().remove(
            group, connection_id=self._connection_id if connection_id is None else connection_id
        )

    async def remove_from_all(self, *, connection_id: str | None = None) -> None:
        """Take a connection (the caller's) out of all groups."""
        await super().remove_from_all(
            connection_id=self._connection_id if connection_id is None else connection_id
        )


def role(*names: str) -> "Predicate":
    """A predicate for ``require=``: the caller has one of these values in its sealed claim ``role``."""
    wanted = frozenset(names)

    def has_role(context: Context[Any]) -> bool:
        return not wanted.isdisjoint(context.claims.get("role", ()))

    has_role.__name__ = f"role({', '.join(map(repr, names))})"
    return has_role


def _refuse_called(given: object) -> NoReturn:
    if isinstance(given, Coroutine):
        given.close()  # said here; no warning besides
    name = getattr(given, "__name__", "function")
    raise TypeError(f"give the function and its arguments, without calling it: ctx.after({name}, ...)")


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


Predicate = Callable[[Context[Any]], bool]
"""What ``require=`` takes."""
