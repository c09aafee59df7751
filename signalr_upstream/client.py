"""Send to clients, and manage groups and connections, through the service's REST API."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from .connection_string import Endpoint
from .delivery import Delivery, Request
from .endpoints import Endpoints
from .errors import NotFoundError, PartialDelivery, ServiceError
from .protocol import rest
from .protocol.rest import Operation
from .transport import Transport

if TYPE_CHECKING:  # see httpx_transport
    import httpx

MAX_TTL: Final = 2**31 - 1
"""Seconds; the service reads an int32."""

_Names = Mapping[str, str]
_Query = Sequence[tuple[str, str]]


class ServiceClient:
    """The REST API of the configured SignalR service; safe to share between tasks and event loops.

    Args:
        connection_string: one, or several for several endpoints; None for what the environment says
            (``AzureSignalRConnectionString`` and its relatives).
        endpoints: endpoints that are loaded already, in place of a connection string.
        application: prefix of all hubs, where applications share one service.
        transport: how requests travel, if not over httpx.
        http_client: an ``httpx.AsyncClient`` to use (proxy, certificates, mocks). It stays yours to close.
        timeout: seconds for each request.
        api_version: of the REST API.

    Raises:
        ConnectionStringError: a connection string that cannot be used. (A missing one fails the first call.)
        InvalidNameError: the application's name.
    """

    def __init__(
        self,
        connection_string: str | Sequence[str] | None = None,
        *,
        endpoints: Endpoints | None = None,
        application: str = "",
        transport: Transport | None = None,
        http_client: "httpx.AsyncClient | None" = None,
        timeout: float = 10.0,
        api_version: str = rest.API_VERSION,
    ) -> None:
        if application:
            rest.check_name("application", application)
        if endpoints is None:
            endpoints = Endpoints.load(connection_string, environ=os.environ)
        if transport is None:
            from .httpx_transport import HttpxTransport  # noqa: PLC0415 - see there

            transport = HttpxTransport(http_client)
        self._delivery = Delivery(
            endpoints,
            transport,
            application=application,
            timeout=timeout,
            api_version=api_version,
        )

    def __repr__(self) -> str:
        return f"<ServiceClient {self._delivery.endpoints!r}>"

    @property
    def endpoints(self) -> Endpoints:
        """The endpoints that calls go to."""
        return self._delivery.endpoints

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections to the service that this client has opened in the running event loop."""
        await self._delivery.transport.aclose()

    def hub(self, name: str) -> "HubClient":
        """What can be done with one hub.

        Raises:
            InvalidNameError: not a hub name that the service takes.
        """
        return HubClient(self, name)


class HubClient:
    """One hub of the service.

    Args:
        origin: the endpoint that the connections talked about belong to; None to ask all.

    Attributes:
        clients: whom to send to.
        groups: groups of connections.
        users: users and their groups.
        connections: single connections.
    """

    def __init__(self, service: ServiceClient, name: str, *, origin: Endpoint | None = None) -> None:
        rest.check_name("hub", name)
        self.name = name
        self.origin = origin
        self._delivery = service._delivery
        self.clients = Clients(self)
        self.groups = Groups(self)
        self.users = Users(self)
        self.connections = Connections(self)

    def __repr__(self) -> str:
        return f"<HubClient {self.name}>"

    async def close_all(self, *, excluding: Iterable[str] = (), reason: str | None = None) -> None:
        """Close every connection of the hub.

        Args:
            excluding: connection ids that stay.
            reason: text for the clients.
        """
        await self._do(rest.CLOSE_ALL, query=_closing(excluding, reason))

    def _prepare(
        self, operation: Operation, names: _Names, *, query: _Query = (), body: bytes = b""
    ) -> list[Request]:
        return self._delivery.prepare(
            operation,
            {"hub": self.name, **names},
            origin=self.origin if "connection" in names else None,
            query=query,
            body=body,
        )

    async def _do(self, operation: Operation, *, query: _Query = (), **names: str) -> bool:
        """Make one call at each endpoint concerned.

        Returns:
            False if the service says that there is no such connection, user or group.
        """
        requests = self._prepare(operation, names, query=query)
        outcomes = await self._delivery.send_all(requests)
        found = outcomes.count(None)
        if found and operation.method == "HEAD":
            return True
        failures = {
            request.endpoint.url: error
            for request, error in zip(requests, outcomes, strict=True)
            if error is not None and not _is_absence(operation, error)
        }
        _raise_failures(operation, failures, total=len(requests))
        return found > 0


class Target:
    """Whom to send to. Nothing happens before ``send``."""

    def __init__(
        self,
        hub: HubClient,
        operation: Operation,
        *,
        kind: str = "",
        names: Iterable[str] = (),
        excluding: Iterable[str] = (),
    ) -> None:
        self._hub = hub
        self._operation = operation
        self._kind = kind
        self._names = _listed(names) if kind else ("",)
        self._query = [("excluded", connection_id) for connection_id in _listed(excluding)]

    def __repr__(self) -> str:
        return f"<Target {self._operation.name} of {self._hub!r}>"

    async def send(self, target: str, *args: Any) -> None:
        """Call the client method ``target`` with ``args``, which are encoded as JSON, once for all.

        It returns when the service has accepted the message, which may be before clients have it. Several
        targets are sent to concurrently, and all are waited for.

        Raises:
            InvalidNameError: a name that the service does not take; nothing was sent.
            TooLargeError: more than 1 MB; nothing was sent.
            DeliveryUnknown: the service may have taken it, but did not say so.
            PartialDelivery: several targets, or several endpoints for one, and not all took it: ``errors`` by
                target or by endpoint.
            ServiceError: the service did not take it; its classes say why.
        """
        body = rest.encode_message(target, args)
        prepared = [
            (
                name,
                self._hub._prepare(
                    self._operation, {self._kind: name} if self._kind else {}, query=self._query, body=body
                ),
            )
            for name in self._names
        ]
        requests = [request for _, of_name in prepared for request in of_name]
        outcomes = iter(await self._hub._delivery.send_all(requests))
        by_name = len(prepared) > 1
        failures: dict[str, ServiceError] = {}
        for name, of_name in prepared:
            errors = {
                request.endpoint.url: error for request in of_name if (error := next(outcomes)) is not None
            }
            if len(errors) < len(of_name):
                # A connection lives at one endpoint: the others may well not know it.
                errors = {url: e for url, e in errors.items() if not _is_absence(self._operation, e)}
            failures |= {(name if by_name else url): error for url, error in errors.items()}
        _raise_failures(self._operation, failures, total=len(prepared) if by_name else len(requests))


class Clients:
    """Whom to send to."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    @property
    def all(self) -> Target:
        """Everybody connected to the hub."""
        return Target(self._hub, rest.SEND_TO_ALL)

    def all_except(self, connection_ids: Iterable[str]) -> Target:
        """Everybody but these connections. Their ids travel in the URL, which ends at some 250 of them."""
        return Target(self._hub, rest.SEND_TO_ALL, excluding=connection_ids)

    def group(self, group: str, *, excluding: Iterable[str] = ()) -> Target:
        """A group of this hub, without the connections ``excluding``."""
        return Target(self._hub, rest.SEND_TO_GROUP, kind="group", names=[group], excluding=excluding)

    def groups(self, groups: Iterable[str]) -> Target:
        """Several groups. Who is in two of them gets the message twice."""
        return Target(self._hub, rest.SEND_TO_GROUP, kind="group", names=groups)

    def user(self, user_id: str) -> Target:
        """Every connection of a user."""
        return Target(self._hub, rest.SEND_TO_USER, kind="user", names=[user_id])

    def users(self, user_ids: Iterable[str]) -> Target:
        """Every connection of several users."""
        return Target(self._hub, rest.SEND_TO_USER, kind="user", names=user_ids)

    def connection(self, connection_id: str) -> Target:
        """One connection."""
        return Target(self._hub, rest.SEND_TO_CONNECTION, kind="connection", names=[connection_id])

    def connections(self, connection_ids: Iterable[str]) -> Target:
        """Several connections."""
        return Target(self._hub, rest.SEND_TO_CONNECTION, kind="connection", names=connection_ids)


class Groups:
    """Groups of connections. A group exists as long as a connection is in it."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    async def add(self, group: str, *, connection_id: str) -> bool:
        """Put a connection into a group; False if the connection is gone."""
        return await self._hub._do(rest.ADD_CONNECTION_TO_GROUP, group=group, connection=connection_id)

    async def remove(self, group: str, *, connection_id: str) -> None:
        """Take a connection out of a group. It is no error if the connection is gone."""
        await self._hub._do(rest.REMOVE_CONNECTION_FROM_GROUP, group=group, connection=connection_id)

    async def remove_from_all(self, *, connection_id: str) -> None:
        """Take a connection out of all its groups. It is no error if the connection is gone."""
        await self._hub._do(rest.REMOVE_CONNECTION_FROM_ALL_GROUPS, connection=connection_id)

    async def exists(self, group: str) -> bool:
        """Whether a connection is in the group."""
        return await self._hub._do(rest.GROUP_EXISTS, group=group)

    async def close_all(
        self, group: str, *, excluding: Iterable[str] = (), reason: str | None = None
    ) -> None:
        """Close every connection of a group but those ``excluding``; the clients are told the reason."""
        await self._hub._do(rest.CLOSE_GROUP, query=_closing(excluding, reason), group=group)


class Users:
    """Users and the groups that all their connections, also later ones, belong to."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    async def add_to_group(self, user_id: str, *, group: str, ttl: float | None = None) -> None:
        """Put a user into a group.

        Args:
            ttl: seconds that this lasts, rounded up. 0: only the connections of this moment join. None: the
                service keeps it for up to a year.

        Raises:
            ValueError: ``ttl`` is negative or over 2**31 - 1.
        """
        query = []
        if ttl is not None:
            if not 0 <= ttl <= MAX_TTL:
                raise ValueError(f"ttl must be 0 to {MAX_TTL} seconds, not {ttl}")
            query.append(("ttl", str(math.ceil(ttl))))
        await self._hub._do(rest.ADD_USER_TO_GROUP, query=query, user=user_id, group=group)

    async def remove_from_group(self, user_id: str, *, group: str) -> None:
        """Take a user out of a group."""
        await self._hub._do(rest.REMOVE_USER_FROM_GROUP, user=user_id, group=group)

    async def remove_from_all_groups(self, user_id: str) -> None:
        """Take a user out of all groups."""
        await self._hub._do(rest.REMOVE_USER_FROM_ALL_GROUPS, user=user_id)

    async def in_group(self, user_id: str, *, group: str) -> bool:
        """Whether the user is in the group."""
        return await self._hub._do(rest.USER_IN_GROUP, user=user_id, group=group)

    async def exists(self, user_id: str) -> bool:
        """Whether the user has a connection."""
        return await self._hub._do(rest.USER_EXISTS, user=user_id)

    async def close_all(
        self, user_id: str, *, excluding: Iterable[str] = (), reason: str | None = None
    ) -> None:
        """Close every connection of a user but those ``excluding``; the clients are told the reason."""
        await self._hub._do(rest.CLOSE_USER, query=_closing(excluding, reason), user=user_id)


class Connections:
    """Single connections."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    async def exists(self, connection_id: str) -> bool:
        """Whether the connection is open."""
        return await self._hub._do(rest.CONNECTION_EXISTS, connection=connection_id)

    async def close(self, connection_id: str, *, reason: str | None = None) -> bool:
        """Close a connection, telling the client the reason; False if it was gone already."""
        query = _closing((), reason)
        return await self._hub._do(rest.CLOSE_CONNECTION, query=query, connection=connection_id)


def _listed(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in order."""
    if isinstance(names, str):
        raise TypeError("give a list of names, not one name")
    return tuple(dict.fromkeys(names))


def _closing(excluding: Iterable[str], reason: str | None) -> list[tuple[str, str]]:
    query = [("excluded", connection_id) for connection_id in _listed(excluding)]
    return query if reason is None else [*query, ("reason", reason)]


def _is_absence(operation: Operation, error: ServiceError) -> bool:
    """Whether the service says, by its error code, that what was asked about is not there."""
    code = (error.error_code or "").lower()
    return isinstance(error, NotFoundError) and code in (known.lower() for known in operation.absent)


def _raise_failures(operation: Operation, failures: Mapping[str, ServiceError], *, total: int) -> None:
    if not failures:
        return
    if total == 1:
        raise next(iter(failures.values()))
    raise PartialDelivery(operation.name, failures, total - len(failures))
