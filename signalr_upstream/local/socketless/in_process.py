"""A local service without sockets: the clients that a test connects, and the REST calls of an app in this process.

Nothing is left out but the network: both go through the same ASGI app, with its checks, codecs and framing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from starlette.types import ASGIApp

from ...claims import Identity, client_access
from ...connection_string import Endpoint
from ...errors import ConfigurationError, ServiceError
from ...transports.httpx_transport import HttpxTransport
from ...transports.transport import Answer
from ..clients.client_endpoint import ClientEndpoint
from ..clock import Clock
from ..records.journal import Journal
from .in_process_client import TIMEOUT, InProcessClient, NothingCameError
from .in_process_socket import http_client, not_admitted


class InProcessTransport:
    """REST calls to a service in this process, on the event loop that it lives in.

    Args:
        service: its ASGI app.
    """

    def __init__(self, service: ASGIApp) -> None:
        self._loop = asyncio.get_running_loop()
        self._http = HttpxTransport(http_client(service))
        self._ended = False

    async def request(
        self,
        method: str,
        base: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        timeout: float,
    ) -> Answer:
        """See ``Transport.request``."""
        if self._ended:
            raise ServiceError("the local service has ended")  # no ConnectError, which would be tried again
        if asyncio.get_running_loop() is not self._loop:
            raise ServiceError(
                "the local service has no port and lives in another event loop: give it one, LocalService(app, port=0)"
            )
        return await self._http.request(method, base, target, headers, body, timeout=timeout)

    async def aclose(self) -> None:
        """Nothing is open."""

    def end(self) -> None:
        """The service has ended: refuse from now on."""
        self._ended = True


class _Redirection(msgspec.Struct):
    """What an app answers to negotiate."""

    url: str
    access_token: str = msgspec.field(name="accessToken")


class _Negotiation(msgspec.Struct, rename="camel"):
    """What the service answers to negotiate."""

    connection_id: str
    connection_token: str


class InProcess:
    """What one service has in this process.

    Args:
        service: its ASGI app.
        app: the upstream app, if it is in this process too.
        endpoint: tells where the service is and with which key tokens are signed.
    """

    def __init__(
        self,
        service: ASGIApp,
        *,
        app: ASGIApp | None,
        endpoint: Callable[[], Endpoint],
        clients: ClientEndpoint,
        clock: Clock,
        journal: Journal,
    ) -> None:
        self._service = service
        self._app = app
        self._endpoint = endpoint
        self._clients = clients
        self._clock = clock
        self._journal = journal
        self._connected: list[InProcessClient] = []

    async def connect(
        self,
        hub: str,
        *,
        user_id: str | None = None,
        claims: Mapping[str, str | Sequence[str]] | None = None,
        protocol: str = "json",
        query: Mapping[str, str] | None = None,
        seal_key: str | None = None,
        timeout: float = TIMEOUT,
    ) -> InProcessClient:
        """Connect a client without a socket; it is there when the app has answered its ``connected``.

        Args:
            user_id: None is a client without a user.
            claims: what ``ctx.claims`` will say.
            protocol: ``"json"`` or ``"messagepack"``.
            query: more of the client's query string.
            seal_key: the app's ``seal_key=``, if it has one; without it such an app sees no claims.
            timeout: seconds.

        Raises:
            NotAdmittedError: the service refuses.
            NothingCameError: the app has not answered.
        """
        claims = claims or {}
        identity = Identity.anonymous(claims=claims) if user_id is None else Identity(user_id, claims=claims)
        access = client_access(
            identity, endpoint=self._endpoint(), hub=hub, seal_key=seal_key, now=self._clock.time()
        )
        more = f"&{urlencode(query)}" if query else ""
        return await self._open(access.url + more, access.access_token, protocol, timeout)

    async def connect_via(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        protocol: str = "json",
        timeout: float = TIMEOUT,
    ) -> InProcessClient:
        """Connect a client as the app's negotiate says.

        Args:
            url: what the official clients give to ``withUrl``; for an app in this process its path will do:
                ``"/chat?name=ann"``.
            headers: of the request to negotiate, such as ``Authorization``.
            protocol, timeout: as in ``connect``.

        Raises:
            NotAdmittedError: the app or the service refuses.
            NothingCameError: the app has not answered.
            ConfigurationError: the app sends its clients to another service.
        """
        parts = urlsplit(url)
        query = f"{parts.query}&negotiateVersion=1".lstrip("&")
        asked = parts._replace(path=f"{parts.path.rstrip('/')}/negotiate", query=query).geturl()
        client = http_client(self._app) if self._app is not None else httpx.AsyncClient(trust_env=False)
        async with client:
            answer = await client.post(asked, headers=headers, timeout=timeout)
        if answer.status_code != 200:
            raise not_admitted(answer.status_code, answer.content, by_app=True)
        try:
            access = msgspec.json.decode(answer.content, type=_Redirection)
        except msgspec.MsgspecError:
            raise ConfigurationError("the app's answer to negotiate has no url and accessToken") from None
        here, there = (urlsplit(url).netloc for url in (self._endpoint().client_url, access.url))
        if here != there:
            raise ConfigurationError(
                f"the app sends its clients to {there}, and this service is {here}: give the app its connection "
                "string, or call connected_to() of the app"
            )
        return await self._open(access.url, access.access_token, protocol, timeout)

    async def settled(self, *, timeout: float = TIMEOUT) -> None:
        """Wait until the app has answered all that clients have sent so far.

        Raises:
            NothingCameError: it has not.
        """
        await self._settle(None, timeout)

    async def end(self) -> None:
        """The service has sent its clients away: wait until they are gone."""
        for client in self._connected:
            await client.close()
        self._connected.clear()

    async def _open(
        self,
        url: str,
        token: str,
        protocol: str,
        timeout: float,
    ) -> InProcessClient:
        """Negotiate with the service and connect, as the official clients do."""
        query = urlsplit(url).query
        async with http_client(self._service) as http:
            answer = await http.post(
                f"/client/negotiate?{query}&negotiateVersion=1", headers={"Authorization": f"Bearer {token}"}
            )
        if answer.status_code != 200:
            raise not_admitted(answer.status_code, answer.content)
        negotiation = msgspec.json.decode(answer.content, type=_Negotiation)
        client = InProcessClient(
            self._service,
            connection_id=negotiation.connection_id,
            query=f"{query}&{urlencode({'id': negotiation.connection_token})}",
            token=token,
            protocol=protocol,
        )
        self._connected = [client for client in self._connected if client.is_open] + [client]
        await client.open(timeout=timeout)
        await self._settle(client.connection_id, timeout)
        return client

    async def _settle(self, connection_id: str | None, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._clients.settled(connection_id)
        except TimeoutError:
            running = ", ".join(
                repr(call.event) for call in self._journal.upstream_calls if call.seconds is None
            )
            raise NothingCameError(f"the app has not answered within {timeout:g} s: {running}") from None
