"""The ASGI app: options, keys, and the way of a request to ``calls`` or to the app's own routes.

It works by itself, mounted into another ASGI app, and whether or not the outer app runs its lifespan.
"""

import contextlib
import functools
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from .calls.after import PATIENCE, AfterWork
from .calls.data_path import Calls, Limits
from .calls.routing import Routes
from .calls.stream_calls import StreamCalls, check_streams
from .claims import ClientAccess, Identity
from .client import HubClient
from .connection_string import counts_as_none
from .duplicates import Once
from .endpoints import Setting, Source
from .entra import Credential, EntraUpstream
from .errors import ConfigurationError
from .hubs.hub import Hub
from .hubs.registering import Filter
from .models import enc_hook_with
from .negotiate import negotiate_routes
from .probes import HEALTH_ROUTES
from .protocol.path import DEFAULT_PATTERN, PathPattern
from .protocol.rest import check_name
from .protocol.upstream import HEADER_PREFIX
from .reply import problem, send_reply
from .rest.targets import C
from .router import Router
from .services import Connection, Services
from .telemetry import SLOW_AFTER, Observer
from .transports.transport import Transport
from .upstream_tokens import tokens_of

if TYPE_CHECKING:  # see httpx_transport
    import httpx

MAX_BODY_SIZE = 1024 * 1024
"""Bytes. Clients' messages are small; the service itself takes at most 1 MB over REST."""
MAX_CONCURRENT_CALLS = 200
"""A worker. Far above what one event loop answers in time, far below what exhausts its memory."""
BODY_TIMEOUT = 10.0
"""Seconds. The service sends header and body together; only a slow or hostile caller takes longer."""
HANDLER_TIMEOUT = 30.0
"""Seconds. A client waits for its answer, and behind it waits its connection's next message."""


class UpstreamApp(Starlette):
    """Serves the upstream calls of Azure SignalR Service for one or more hubs.

    Args:
        hubs: what to serve.
        connection_string: one, or several (an endpoint each, or more keys of one); default: the setting
            ``AzureSignalRConnectionString`` and its companions from the environment, read when first needed. Or a
            function that gives them: see ``ServiceClient``.
        credential: proves who we are to endpoints without an access key; see ``ServiceClient``. Upstream calls then
            need ``upstream_keys``.
        upstream_keys: keys that verify upstream calls, beside those of the connection string.
        entra: upstream calls have to bring an Entra ID token, of one of these.
        path: where upstream calls come to, behind any prefix. Without parameters the headers alone decide.
        path_check: ``"off"`` stops comparing the path with the headers.
        code: also require ``?code=`` with this value in the upstream URL.
        application: the service's application name, a prefix of every hub.
        cors_origins: origins whose pages may negotiate, e.g. ``["https://app.example"]``.
        max_body_size: bytes of one upstream body.
        max_concurrent_calls: calls one worker runs at a time; more are answered 503.
        body_timeout: seconds for a body to arrive.
        handler_timeout: seconds for a handler or a negotiate function to answer.
        slow_after: seconds after which a call is logged as a warning, however well it ends.
        duplicates: ``Duplicates()`` or ``RedisDuplicates(...)``: a call that the service delivers twice runs once, and
            both get its answer. Default: it runs twice.
        telemetry: observers that count and trace: ``Prometheus()``, ``OpenTelemetry()``, your own ``Observer``.
        debug: send the text of any exception to the caller. For development.
        insecure: serve calls without looking at their signature. For experiments on loopback only.
        health: also serve ``/healthz`` and ``/readyz``.
        seal_key: signs the claims of our negotiate; default: a key derived from the access key.
        parallel_invocations: the service goes on with a connection's messages while a handler runs, so a handler may
            invoke its own caller. Azure's does not.
        experimental_streams: let async generators answer a client's ``stream()``; the service has to pass that on.
        filters: run around every handler, outside of the hubs' own; see ``Hub.filter``.
        protocols, enc_hook, router: see ``ServiceClient``.
        http_client: an httpx client to call the service with: proxies, client certificates, mocks.
        routes, middleware, lifespan: as in Starlette, for what else the app serves.

    Attributes:
        dependency_overrides: dependencies that are replaced, and by what; for tests.
        filters, telemetry: as given.
        services: what its hubs send through, and whom they take calls from.
        upstream_path: where upstream calls come to, behind any prefix; with ``code=``, which is a secret.

    Raises:
        ConfigurationError: options that cannot work. Missing keys are no such error: they are reported at start-up
            (lifespan), by ``check_keys``, and by a 503 for every call.
    """

    _instances: ClassVar["weakref.WeakSet[UpstreamApp]"] = weakref.WeakSet()

    def __init__(
        self,
        *hubs: Hub[Any],
        connection_string: Setting | Source = None,
        credential: Credential | None = None,
        upstream_keys: Sequence[str] = (),
        entra: EntraUpstream | Sequence[EntraUpstream] | None = None,
        path: str = DEFAULT_PATTERN,
        path_check: Literal["on", "off"] = "on",
        code: str | None = None,
        application: str = "",
        cors_origins: Sequence[str] = (),
        max_body_size: int = MAX_BODY_SIZE,
        max_concurrent_calls: int = MAX_CONCURRENT_CALLS,
        body_timeout: float = BODY_TIMEOUT,
        handler_timeout: float = HANDLER_TIMEOUT,
        slow_after: float = SLOW_AFTER,
        duplicates: Once | None = None,
        telemetry: Sequence[Observer] = (),
        debug: bool = False,
        insecure: bool = False,
        health: bool = False,
        parallel_invocations: bool = False,
        experimental_streams: bool = False,
        seal_key: str | None = None,
        filters: Sequence[Filter] = (),
        protocols: Sequence[str] = ("json",),
        enc_hook: Callable[[Any], Any] | None = None,
        router: Router | None = None,
        http_client: "httpx.AsyncClient | None" = None,
        routes: Sequence[BaseRoute] = (),
        middleware: Sequence[Middleware] | None = None,
        lifespan: Lifespan["UpstreamApp"] | None = None,
    ) -> None:
        if not hubs:
            raise ConfigurationError("UpstreamApp needs at least one hub: UpstreamApp(Hub('chat'))")
        _check_distinct(hubs)
        if application:
            check_name("application", application)
        if code is not None and not code.strip():
            raise ConfigurationError("code is empty: everybody would know it. Leave it out, or set a secret")
        if seal_key is not None and counts_as_none(seal_key):
            raise ConfigurationError("seal_key is empty, a placeholder, or shorter than 32 bytes")
        try:
            self._pattern = PathPattern(path)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        if not experimental_streams:
            check_streams(handler for hub in hubs for handler in hub.handlers)
        query = "" if code is None else f"?{urlencode({'code': code})}"
        self.upstream_path = self._pattern.template + query
        self.hubs = hubs
        self.filters = tuple(filters)
        self.telemetry = tuple(telemetry)
        self.insecure = insecure
        self.draining = False
        self._after = AfterWork()
        self.services = Services(
            Connection(connection_string),
            hubs=hubs,
            credential=credential,
            upstream_keys=upstream_keys,
            tokens=None if insecure else tokens_of(entra, http_client, telemetry),
            application=application,
            seal_key=seal_key,
            protocols=protocols,
            enc_hook=enc_hook,
            router=router,
            http_client=http_client,
            insecure=insecure,
            parallel_invocations=parallel_invocations,
            check_room=self._after.check_room,
            telemetry=telemetry,
        )
        self._user_lifespan = lifespan or _no_lifespan
        self._routes = Routes(
            hubs,
            service_of=self.services.service_of,
            path=None if path_check == "off" else self._pattern,
            application=application,
            filters=filters,
        )
        self.dependency_overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._streams = StreamCalls(self._after, is_on=experimental_streams)
        limits = Limits(max_body_size, max_concurrent_calls, body_timeout, handler_timeout)
        self._calls = Calls(
            self,
            self._routes,
            limits=limits,
            code=code,
            debug=debug,
            overrides=self.dependency_overrides,
            after=self._after,
            streams=self._streams,
            enc_hook=enc_hook_with(enc_hook),
            observers=telemetry,
            slow_after=slow_after,
            duplicates=duplicates,
        )
        own = negotiate_routes(
            self,
            self._routes.find_hub,
            cors_origins=cors_origins,
            limited=functools.partial(self._calls.time_limits.within, handler_timeout),
            overrides=self.dependency_overrides,
            observers=telemetry,
        )
        super().__init__(routes=[*routes, *own], middleware=middleware, lifespan=self._run_lifespan)
        if health:
            self.add_health_routes()
        self.router.default = self._unmatched
        for hub in hubs:
            hub.attach(self)
            hub.warn_of_near_misses()
        UpstreamApp._instances.add(self)

    def __repr__(self) -> str:
        return f"<UpstreamApp with {', '.join(hub.name for hub in self.hubs)}>"

    # --- ASGI ---

    def build_middleware_stack(self) -> ASGIApp:
        """Let upstream calls pass Starlette's stack and router, or only the router if the user has middleware."""
        if not self.user_middleware:
            return self._entry(super().build_middleware_stack())
        router = self.router
        self.router = self._entry(router)  # type: ignore[assignment]  # only while the stack is put around it
        try:
            return super().build_middleware_stack()
        finally:
            self.router = router

    def _entry(self, otherwise: ASGIApp) -> ASGIApp:
        calls = self._calls

        # No coroutine of its own: it would be one more for every call.
        def entry(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            if scope["type"] == "http" and _is_upstream_call(scope["headers"]):
                return calls(scope, receive, send)
            return otherwise(scope, receive, send)

        return entry

    async def _unmatched(self, scope: Scope, receive: Receive, send: Send) -> None:
        """No route matches: if it could be an upstream URL, say what is missing."""
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or not self._pattern.fits(path):
            await self.router.not_found(scope, receive, send)
        elif scope["method"] != "POST":
            await send_reply(send, problem(405, "this is an upstream URL: only POST", (b"allow", b"POST")))
        else:
            await send_reply(
                send, problem(401, "this is an upstream URL, and the X-ASRS headers are missing")
            )

    @contextlib.asynccontextmanager
    async def _run_lifespan(self, _: Starlette) -> AsyncIterator[Any]:
        self.check_keys()
        await self.services.start()
        try:
            async with self._user_lifespan(self) as state:
                try:
                    yield state
                finally:  # with what it works with still there
                    await self.drain()
        finally:
            await self.aclose()

    # --- the service behind it ---

    def connected_to(
        self, connection_string: str | Sequence[str], transport: Transport | None = None
    ) -> Self:
        """Use another service for every hub: the seam of ``dev``, the local service and tests. Returns the app."""
        self.connection = Connection(connection_string, transport, overrides_all=True)
        return self

    @property
    def connection(self) -> Connection:
        """The service that this app uses; what is set here is used from the next call on."""
        return self.services.connection

    @connection.setter
    def connection(self, connection: Connection) -> None:
        self.services.connection = connection
        self._routes.forget()

    def check_keys(self) -> None:
        """Raise if some hub could not be served.

        Raises:
            NoKeysError: no usable access key is configured; the text says why.
            ConnectionStringError: a connection string that cannot be read.
            ConfigurationError: ``entra=`` names an endpoint that none of the hubs has, or ``seal_key=`` is missing.
        """
        if not self.insecure:
            for hub in self.hubs:
                self.services.check(hub)

    def hub(self, hub: Hub[C], *, name: str | None = None) -> HubClient[C]:
        """Send through this app's service, also outside of a call.

        Args:
            hub: one of this app's hubs.
            name: the whole name, for a family such as ``Hub("tenant_*")``.
        """
        return self.services.client_of(hub).hub(hub.whole_name(name), client=hub.client)

    async def client_access(
        self, hub: Hub[Any], identity: Identity, *, name: str | None = None
    ) -> ClientAccess:
        """URL and token for a client; see ``Hub.client_access``."""
        return await self.hub(hub, name=name).client_access(identity)

    async def aclose(self) -> None:
        """Close the connections to the service. The app can go on: they are opened again when needed."""
        await self.services.aclose()

    def add_health_routes(self) -> None:
        """Serve ``/healthz`` and ``/readyz``, also where one of the app's own routes takes every path."""
        for route in HEALTH_ROUTES:
            if route not in self.router.routes:
                self.router.routes.insert(0, route)

    async def drain(self, patience: float = PATIENCE) -> None:
        """End the streams of clients with an error, and wait for what handlers have left to ``ctx.after``; cancel it
        after ``patience`` seconds."""
        await self._streams.drain()
        await self._after.drain(patience)

    async def after_work_done(self) -> None:
        """Wait for what handlers have left to ``ctx.after``, however long it takes; for tests."""
        await self._after.done()

    @property
    def slow_after(self) -> float:
        """Seconds after which a call is logged as a warning."""
        return self._calls.slow_after

    @slow_after.setter
    def slow_after(self, seconds: float) -> None:
        self._calls.slow_after = seconds

    def expire_calls(self) -> None:
        """Answer what still runs like a time-out; the end of a shutdown's patience."""
        self._calls.time_limits.expire_all()

    @classmethod
    def instances(cls) -> "list[UpstreamApp]":
        """The living apps of this process: an app may sit inside another ASGI app."""
        return list(cls._instances)


@contextlib.asynccontextmanager
async def _no_lifespan(_: UpstreamApp) -> AsyncIterator[None]:
    yield


def _is_upstream_call(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    # A plain loop: this runs for every request, and the service's own headers are among the first.
    for name, _ in headers:  # noqa: SIM110
        if name.startswith(HEADER_PREFIX):
            return True
    return False


def _check_distinct(hubs: Sequence[Hub[Any]]) -> None:
    for hub in hubs:
        if not isinstance(hub, Hub):
            raise ConfigurationError(
                f"UpstreamApp takes hubs, as in UpstreamApp(Hub('chat')), and no {hub!r}"
            )
    names = [hub.name.lower() for hub in hubs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two hubs are called {name!r}")
