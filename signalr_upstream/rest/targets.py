"""Whom to send to: everybody, groups, users and connections. A selector only says whom; ``send`` sends."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar, overload

import typing_extensions
from msgspec import Struct

from ..protocol import rest
from ..protocol.rest import Operation
from .hub_calls import HubCalls
from .results import result_of

R = TypeVar("R")

INVOKE_TIMEOUT = 30.0
"""Seconds a client has to answer; the service itself waits for ten minutes."""


class Target:
    """Whom to send to. Nothing happens before ``send``."""

    def __init__(
        self,
        calls: HubCalls,
        operation: Operation,
        names: Sequence[tuple[str, ...]] = ((),),
        *,
        excluding: Iterable[str] = (),
    ) -> None:
        self._calls = calls
        self._operation = operation
        self._names = names  # for each request, the variables of the path behind the hub's
        self._query = (
            [("excluded", connection_id) for connection_id in listed(excluding)] if excluding else ()
        )

    def __repr__(self) -> str:
        return f"<Target {self._operation.name} of hub {self._calls.name}>"

    async def send(self, target: str, *args: Any, idempotent: bool = False) -> None:
        """Call the client method ``target`` with ``args``, which are encoded once for all.

        It returns when the service has accepted the message, which may be before clients have it. Several
        targets are sent to concurrently, and all are waited for.

        Args:
            idempotent: twice does no harm, so repeat it also where the service may have got it.

        Raises:
            InvalidNameError: a name that the service does not take; nothing was sent.
            TooLargeError: more than 1 MB; nothing was sent.
            DeliveryUnknown: the service may have taken it, but did not say so.
            PartialDelivery: several targets, or several endpoints for one, and not all took it: ``errors`` by
                target or by endpoint.
            ServiceError: the service did not take it; its classes say why.
        """
        calls, names = self._calls, self._names
        body = calls.bodies.message(target, args)
        if len(names) == 1:
            await calls.send(
                calls.prepare(self._operation, names[0], self._query, body, idempotent=idempotent)
            )
        else:
            await calls.send_all(
                {
                    name[0]: calls.prepare(self._operation, name, self._query, body, idempotent=idempotent)
                    for name in names
                }
            )


class ConnectionTarget(Target):
    """One connection: it can also be asked, and given the items of a stream it has called for."""

    def __init__(
        self, calls: HubCalls, connection_id: str, *, before_invoke: Callable[[], None] | None = None
    ) -> None:
        super().__init__(calls, rest.SEND_TO_CONNECTION, [(connection_id,)])
        self._connection_id = connection_id
        self._before_invoke = before_invoke

    @overload
    async def invoke(self, target: str, *args: Any, timeout: float = ...) -> Any: ...
    @overload
    async def invoke(self, target: str, *args: Any, result_type: type[R], timeout: float = ...) -> R: ...

    async def invoke(
        self,
        target: str,
        *args: Any,
        result_type: Any = Any,
        timeout: float = INVOKE_TIMEOUT,
    ) -> Any:
        """Call the client method ``target`` and give what the client returns.

        The service handles one connection's messages one at a time, so a handler that asked its own caller would
        wait for ever: that raises a RuntimeError, see ``Context.after`` for the way out.

        Args:
            result_type: what the result has to be, as msgspec converts it.
            timeout: seconds the client has.

        Raises:
            ClientInvocationError: the client's method failed, or there is none; its text is the client's.
            NotFoundError: there is no such connection, or it went before it answered.
            DeliveryUnknown: no answer in time.
            ConnectError: as many clients are being asked as may be at a time (50), and none has answered.
            ResultError: the result is no ``result_type``.
        """
        if self._before_invoke is not None:
            self._before_invoke()
        calls = self._calls
        request = calls.prepare(
            rest.INVOKE_CONNECTION, (self._connection_id,), body=calls.bodies.message(target, args)
        )
        answer = await calls.invoke(request, timeout=timeout)
        return result_of(answer, result_type)

    async def send_item(self, stream_id: str, item: Any, *, completed: bool = False) -> bool:
        """Send one item of a stream that the client has called for.

        Args:
            stream_id: invocation id of the client's ``stream()`` call.
            completed: it is the last item.

        Returns:
            False if the connection or the stream is gone.
        """
        query = [("completed", "true")] if completed else ()
        return await self._calls.ask(
            rest.SEND_STREAM_ITEM,
            self._connection_id,
            stream_id,
            query=query,
            body=self._calls.bodies.item(stream_id, item),
        )

    async def complete_stream(self, stream_id: str, *, error: str | None = None) -> bool:
        """End a stream; with ``error`` it fails at the client. False if the connection or the stream is gone."""
        query = () if error is None else [("reason", error)]
        return await self._calls.ask(rest.COMPLETE_STREAM, self._connection_id, stream_id, query=query)


C = typing_extensions.TypeVar("C", default=Target)
"""What a selector gives: a ``Target``, or for a hub with ``client=`` that class."""


class Kinds(Struct, Generic[C], frozen=True):
    """The classes that selectors make: ``Target`` and ``ConnectionTarget``, or those that know a hub's client."""

    target: Callable[..., C]
    connection: Callable[..., C]


UNTYPED: Kinds[Any] = Kinds(Target, ConnectionTarget)


class Clients(Generic[C]):
    """Whom to send to."""

    def __init__(self, calls: HubCalls, kinds: Kinds[C] = UNTYPED) -> None:
        self._calls = calls
        self._kinds = kinds

    @property
    def untyped(self) -> "Clients[Target]":
        """The same without the hub's client class, e.g. for targets that are no Python names."""
        return Clients(self._calls)

    @property
    def all(self) -> C:
        """Everybody connected to the hub."""
        return self._kinds.target(self._calls, rest.SEND_TO_ALL)

    def all_except(self, connection_ids: Iterable[str]) -> C:
        """Everybody but these connections. Their ids travel in the URL, which ends at some 250 of them."""
        return self._kinds.target(self._calls, rest.SEND_TO_ALL, excluding=connection_ids)

    def group(self, group: str, *, excluding: Iterable[str] = ()) -> C:
        """A group of this hub, without the connections ``excluding``."""
        return self._kinds.target(self._calls, rest.SEND_TO_GROUP, ((group,),), excluding=excluding)

    def groups(self, groups: Iterable[str]) -> C:
        """Several groups. Who is in two of them gets the message twice."""
        return self._kinds.target(self._calls, rest.SEND_TO_GROUP, each(groups))

    def user(self, user_id: str) -> C:
        """Every connection of a user."""
        return self._kinds.target(self._calls, rest.SEND_TO_USER, ((user_id,),))

    def users(self, user_ids: Iterable[str]) -> C:
        """Every connection of several users."""
        return self._kinds.target(self._calls, rest.SEND_TO_USER, each(user_ids))

    @overload
    def connection(self: "Clients[Target]", connection_id: str) -> ConnectionTarget: ...
    @overload
    def connection(self, connection_id: str) -> C: ...

    def connection(self, connection_id: str) -> Any:
        """One connection."""
        return self._kinds.connection(self._calls, connection_id)

    def connections(self, connection_ids: Iterable[str]) -> C:
        """Several connections."""
        return self._kinds.target(self._calls, rest.SEND_TO_CONNECTION, each(connection_ids))


def listed(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in order.

    Raises:
        TypeError: one name where several are expected: its letters are none.
    """
    if isinstance(names, str):
        raise TypeError("give a list of names, not one name")
    return tuple(dict.fromkeys(names))


def each(names: Iterable[str]) -> list[tuple[str, ...]]:
    """A request for each name."""
    return [(name,) for name in listed(names)]


def closing(excluding: Iterable[str], reason: str | None) -> list[tuple[str, str]]:
    """The query of what closes connections."""
    query = [("excluded", connection_id) for connection_id in listed(excluding)]
    return query if reason is None else [*query, ("reason", reason)]
