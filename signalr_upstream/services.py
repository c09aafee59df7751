"""The services behind the hubs of one app: one for each connection setting that a hub names."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from .claims import Unsealer
from .client import ServiceClient
from .connection_string import DEFAULT_SETTING, Endpoint
from .context import Service
from .endpoints import Endpoints, Setting, Source
from .entra import Credential
from .hubs.hub import Hub
from .router import Router
from .telemetry import Observer
from .transports.transport import Transport
from .upstream_tokens import UpstreamProof, UpstreamTokens

if TYPE_CHECKING:  # see httpx_transport
    import httpx


class Connection(Struct, frozen=True):
    """Which service an app uses.

    Attributes:
        connection_string: one, several, a function that gives them, or None for what the environment says.
        transport: how REST calls travel; None: directly.
        overrides_all: whether it counts for the hubs that name another connection setting, too.
    """

    connection_string: Setting | Source = None
    transport: Transport | None = None
    overrides_all: bool = False

    def __repr__(self) -> str:
        return "<Connection redacted>"


class Services:
    """What the hubs of one app send through, and whom they take calls from; made when first needed.

    The arguments are those of ``UpstreamApp``; ``tokens`` checks those that calls have to bring, None: they need none.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        hubs: Sequence[Hub[Any]],
        credential: Credential | None,
        upstream_keys: Sequence[str],
        tokens: UpstreamTokens | None,
        application: str,
        seal_key: str | None,
        protocols: Sequence[str],
        enc_hook: Callable[[Any], Any] | None,
        router: Router | None,
        http_client: "httpx.AsyncClient | None",
        insecure: bool,
        parallel_invocations: bool,
        check_room: Callable[[], None],
        telemetry: Sequence[Observer],
    ) -> None:
        self._connection = connection
        self._hubs = hubs
        self._credential = credential
        self._upstream_keys = tuple(upstream_keys)
        self._tokens = tokens
        self.application = application
        self.seal_key = seal_key
        self._protocols = protocols
        self._enc_hook = enc_hook
        self._router = router
        self._http_client = http_client
        self._insecure = insecure
        self._parallel_invocations = parallel_invocations
        self._check_room = check_room
        self._telemetry = telemetry
        self._clients: dict[str, ServiceClient] = {}  # by setting, as the next
        self._services: dict[tuple[str, bool], Service] = {}

    @property
    def connection(self) -> Connection:
        """Which service is used; what is set here is used from the next call on."""
        return self._connection

    @connection.setter
    def connection(self, connection: Connection) -> None:
        self._connection = connection
        self._clients.clear()
        self._services.clear()

    @property
    def wants_tokens(self) -> bool:
        """Whether calls have to bring an Entra ID token."""
        # Another service in Azure's place, such as the local one, has no identity there: its signature is the proof.
        return self._tokens is not None and not self._connection.overrides_all

    def client_of(self, hub: Hub[Any]) -> ServiceClient:
        """What this hub sends through.

        Raises:
            ConnectionStringError: a connection string that cannot be used.
        """
        setting = self._setting_of(hub)
        if setting not in self._clients:
            given = self._connection.connection_string if setting == DEFAULT_SETTING else None
            self._clients[setting] = ServiceClient(
                endpoints=Endpoints.load(
                    given,
                    environ=os.environ,
                    name=setting,
                    upstream_keys=self._upstream_keys,
                    credential=self._credential,
                ),
                application=self.application,
                seal_key=self.seal_key,
                protocols=self._protocols,
                enc_hook=self._enc_hook,
                router=self._router,
                transport=self._connection.transport,
                http_client=self._http_client,
                telemetry=self._telemetry,
            )
        return self._clients[setting]

    def service_of(self, hub: Hub[Any] | None) -> Service:
        """What a call of this hub is checked with; None stands for a hub the app does not have."""
        hub = hub or self._hubs[0]
        key = (self._setting_of(hub), hub.trust_raw_claims)
        if key not in self._services:
            client = self.client_of(hub)
            self._services[key] = Service(
                verify=client.endpoints.verify_nothing if self._insecure else client.endpoints.verify,
                prove=proof.verify if (proof := self._proof_by_token(client.endpoints)) else None,
                key_index=client.endpoints.key_index,
                unsealer=Unsealer(
                    [self.seal_key] if self.seal_key else lambda: client.endpoints.seal_keys,
                    trust_raw_claims=hub.trust_raw_claims,
                ),
                hub_client=lambda name, origin: client.hub(name, origin=origin.url if origin else ""),
                parallel_invocations=self._parallel_invocations,
                check_room=self._check_room,
            )
        return self._services[key]

    def check(self, hub: Hub[Any]) -> None:
        """Check that calls of this hub can be told from anybody's, and that its negotiate can make tokens.

        Raises:
            NoKeysError: no usable access key is configured; the text says why.
            ConnectionStringError: a connection string that cannot be used.
            ConfigurationError: see ``UpstreamProof.require`` and ``ServiceClient.check_seal_key``.
        """
        client = self.client_of(hub)
        proof = self._proof_by_token(client.endpoints)
        if proof is None:
            client.endpoints.require_keys()
        else:
            proof.require()
        if hub.negotiator is not None:
            client.check_seal_key(e for e in client.endpoints.all if e.credential is not None)

    async def start(self) -> None:
        """Fetch what tokens are checked with, so that the first call finds it."""
        if self._tokens is not None:
            await self._tokens.start()

    def name_of(self, hub: str) -> str:
        """A hub's name as the service knows it: with the application's prefix."""
        return f"{self.application}_{hub}" if self.application else hub

    async def aclose(self) -> None:
        """Close the connections to all of them; they are opened again when needed."""
        for client in self._clients.values():
            await client.aclose()
        if self._tokens is not None:
            await self._tokens.aclose()

    def _proof_by_token(self, endpoints: Endpoints) -> UpstreamProof | None:
        if self._tokens is None or not self.wants_tokens:
            return None
        return UpstreamProof(endpoints, self._tokens, self._all_endpoints)

    def _all_endpoints(self) -> Iterator[Endpoint]:
        for hub in self._hubs:
            yield from self.client_of(hub).endpoints.all

    def _setting_of(self, hub: Hub[Any]) -> str:
        return DEFAULT_SETTING if self._connection.overrides_all else hub.connection
