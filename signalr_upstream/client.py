"""The output client: messages to clients, groups, users and connections, through the service's REST API."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, Self, overload

import msgspec

from .claims import ClientAccess, Identity, client_access
from .commands import Command
from .connection_string import Endpoint
from .endpoints import Endpoints, Setting, Source
from .entra import Credential
from .errors import ConfigurationError, ServiceError, UnavailableError
from .models import enc_hook_with
from .protocol import rest
from .protocol.rest_bodies import BodyEncoder
from .protocol.rest_paths import HubPaths, Resource
from .rest.access_keys import AccessKeys
from .rest.delivery import TIMEOUT, TOTAL_TIMEOUT, Delivery, Request
from .rest.hub_calls import HubCalls
from .rest.memberships import Connections, Groups, Users
from .rest.targets import C, Clients, Kinds, closing
from .rest.typed_clients import kinds_of
from .router import DefaultRouter, Router
from .telemetry import Observer, tell
from .transports.transport import Transport

if TYPE_CHECKING:  # see httpx_transport
    import httpx

MAX_HUBS: Final = 1024
"""Hubs whose calls are kept ready; a family such as "tenant_*" may have any number."""


class ServiceClient:
    """The REST API of the configured SignalR service; safe to share between tasks and event loops.

    Args:
        connection_string: one, or several for several endpoints or keys; None for what the environment says
            (``AzureSignalRConnectionString`` and its relatives). Or a function that gives one or several: it is
            asked again every 60 seconds, in a thread, and after the service has refused our token. While it has not
            given a usable one yet, calls fail, and it is asked again every second that there is one.
        credential: proves who we are to endpoints without an access key: any object with ``get_token(scope)``, plain
            or async, as those of azure-identity.
        router: which of several endpoints a client or a call goes to.
        endpoints: endpoints that are loaded already, in place of a connection string.
        application: prefix of all hubs, where applications share one service.
        protocols: ``("json",)``, which the service converts for MessagePack clients, or
            ``("json", "messagepack")``: then bytes, timestamps and integers reach MessagePack clients as they are.
        enc_hook: makes something msgspec can encode out of what it cannot.
        seal_key: signs the claims of client tokens; default: a key derived from the access key.
        transport: how requests travel, if not directly.
        http_client: an ``httpx.AsyncClient`` to use (proxy, certificates, mocks). It stays yours to close.
        timeout: seconds for each attempt of a request.
        total_timeout: seconds for a call with all its attempts.
        telemetry: observers that count and trace; see ``UpstreamApp``.
        api_version: of the REST API.

    Raises:
        ConnectionStringError: a connection string that cannot be used. (A missing one, and a function that gives none,
            fail the first call.)
        InvalidNameError: the application's name.
        ValueError: ``protocols``.
    """

    def __init__(
        self,
        connection_string: Setting | Source = None,
        *,
        credential: Credential | None = None,
        endpoints: Endpoints | None = None,
        router: Router | None = None,
        seal_key: str | None = None,
        application: str = "",
        protocols: Sequence[str] = ("json",),
        enc_hook: Callable[[Any], Any] | None = None,
        transport: Transport | None = None,
        http_client: "httpx.AsyncClient | None" = None,
        timeout: float = TIMEOUT,
        total_timeout: float = TOTAL_TIMEOUT,
        telemetry: Sequence[Observer] = (),
        api_version: str = rest.API_VERSION,
    ) -> None:
        if application:
            rest.check_name("application", application)
        self._application = application
        self._api_version = api_version
        self._bodies = BodyEncoder(protocols, enc_hook=enc_hook_with(enc_hook))
        if endpoints is None:
            endpoints = Endpoints.load(connection_string, environ=os.environ, credential=credential)
        self.endpoints = endpoints
        self._router = router or DefaultRouter()
        self._seal_key = seal_key
        if transport is None:
            from .transports.default_transport import DefaultTransport, transport_over  # noqa: PLC0415 - importing an app needs none of it

            transport = transport_over(http_client)
            if isinstance(transport, DefaultTransport):
                pooled = transport
                tell(telemetry, lambda observer: observer.watch(pooled))
        self._transport = transport
        self._delivery = Delivery(
            self.endpoints, self._transport, timeout=timeout, total_timeout=total_timeout, telemetry=telemetry
        )
        self._access_keys = AccessKeys(self._delivery, api_version=api_version, telemetry=telemetry)
        self._hubs: dict[tuple[str, str, object], HubClient[Any]] = {}

    def __repr__(self) -> str:
        return f"<ServiceClient {self.endpoints!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections to the service that this client has opened in the running event loop."""
        await self._transport.aclose()

    @overload
    def hub(self, name: str, *, origin: str = "", client: None = None) -> "HubClient": ...
    @overload
    def hub(self, name: str, *, origin: str = "", client: Callable[..., C] | None) -> "HubClient[C]": ...

    def hub(self, name: str, *, origin: str = "", client: Any = None) -> "HubClient[Any]":
        """What can be done with one hub.

        Args:
            client: a ``typing.Protocol`` with the methods that clients of this hub have; see ``Hub``.
            origin: ``url`` of the endpoint that the connections talked about belong to; "" to ask all.

        Raises:
            InvalidNameError: not a hub name that the service takes.
            RegistrationError: ``client`` is no such class.
        """
        hub = self._hubs.get((name, origin, client))
        if hub is None:
            paths = HubPaths(name, application=self._application, api_version=self._api_version)
            calls = HubCalls(
                name,
                paths,
                endpoints=self.endpoints,
                delivery=self._delivery,
                bodies=self._bodies,
                origin=origin,
                router=self._router,
            )
            hub = HubClient(calls, self, kinds_of(client))
            if len(self._hubs) >= MAX_HUBS:
                self._hubs.clear()
            self._hubs[name, origin, client] = hub
        return hub

    def check_seal_key(self, endpoints: Iterable[Endpoint]) -> None:
        """Check that the claims of clients of these endpoints can be signed.

        Raises:
            ConfigurationError: one has no access key, and there is no ``seal_key``.
        """
        if self._seal_key is None and not all(endpoint.keys for endpoint in endpoints):
            raise ConfigurationError(
                "seal_key is missing: with Entra ID there is no access key to sign the claims of clients with. "
                "Give a secret of 32 bytes or more, the same in every worker"
            )

    async def client_access(self, hub: str, identity: Identity) -> ClientAccess:
        """URL and token for a client; see ``HubClient.client_access``."""
        endpoints = self.endpoints.for_sending
        endpoint = self._router.negotiate(self._delivery.health.well(endpoints), hub=hub, identity=identity)
        self.check_seal_key([endpoint])
        signing = await self._access_keys.of(endpoint)
        return client_access(
            identity,
            endpoint=endpoint,
            hub=hub,
            application=self._application,
            seal_key=self._seal_key or endpoint.keys[0],
            signing_key=signing.key,
            key_id=signing.key_id,
            now=time.time(),
        )

    async def health(self) -> bool:
        """Whether every endpoint says that it is well.

        Raises:
            ServiceError: one does not answer as the service does.
        """
        resource = Resource.of_service(rest.HEALTH, api_version=self._api_version)
        request = Request(rest.HEALTH, resource, idempotent=True)
        for endpoint in self.endpoints.all:
            try:
                await self._delivery.make(endpoint, request)
            except UnavailableError:
                return False
        return True


class HubClient(Generic[C]):
    """One hub of the service.

    Attributes:
        name: of the hub.
        clients: whom to send to.
        groups: groups of connections.
        users: users and their groups.
        connections: single connections.
    """

    def __init__(self, calls: HubCalls, service: ServiceClient, kinds: Kinds[C]) -> None:
        self.calls = calls
        self._kinds = kinds
        self.name = calls.name
        self._service = service

    def __repr__(self) -> str:
        return f"<HubClient {self.name}>"

    @cached_property
    def clients(self) -> Clients[C]:
        """Whom to send to."""
        return Clients(self.calls, self._kinds)

    @cached_property
    def groups(self) -> Groups:
        """Groups of connections."""
        return Groups(self.calls)

    @cached_property
    def users(self) -> Users:
        """Users and their groups."""
        return Users(self.calls)

    @cached_property
    def connections(self) -> Connections:
        """Single connections."""
        return Connections(self.calls)

    async def client_access(self, identity: Identity) -> ClientAccess:
        """What a client needs to connect: the service's URL and a token.

        Raises:
            IdentityError: no token can be made for this identity.
            ConfigurationError: Entra ID without a ``seal_key``.
            ServiceError: with Entra ID, no temporary key could be had.
        """
        return await self._service.client_access(self.name, identity)

    async def close_all(self, *, excluding: Iterable[str] = (), reason: str | None = None) -> None:
        """Close every connection of the hub.

        Args:
            excluding: connection ids that stay.
            reason: text for the clients.
        """
        await self.calls.ask(rest.CLOSE_ALL, query=closing(excluding, reason))

    async def execute(self, commands: Sequence[Command], *, filter: str | None = None) -> None:
        """Carry out commands for every connection that fits the filter.

        Args:
            commands: ``SendMessage``, ``JoinGroup``, ``LeaveGroup`` and ``CloseConnection`` of
                ``signalr_upstream.commands``.
            filter: OData over ``connectionId``, ``userId`` and ``groups``, e.g. ``"startswith(userId, 'a')"``;
                None for all connections.

        Raises:
            ServiceError: as ``Target.send``.
        """
        query = () if filter is None else [("filter", filter)]
        body = self.calls.bodies.commands(commands)
        await self.calls.send(self.calls.prepare(rest.EXECUTE, query=query, body=body))

    async def generate_token(self, user_id: str | None = None, *, minutes: int = 60) -> str:
        """Let the service make a client token, which knows no claims but the user id; see also negotiate.

        Args:
            minutes: for which it is valid.
        """
        query = [("minutesToExpire", str(minutes))]
        if user_id is not None:
            query.insert(0, ("userId", user_id))
        answer = await self.calls.fetch(self.calls.prepare(rest.GENERATE_TOKEN, query=query))
        try:
            return msgspec.json.decode(answer.body, type=_Token).token
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise ServiceError(
                "generate_token: the answer has no token", operation="generate_token", status=answer.status
            ) from None


class _Token(msgspec.Struct):
    token: str
