"""The local service: a SignalR service on loopback, for development and tests. Never one for production.

Its ASGI app serves negotiate, the clients' transports and the REST API; ``async with`` opens a port for it.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..connection_string import bare_host, counts_as_none, is_loopback, parse_connection_string
from ..errors import ConfigurationError, MissingExtraError, SignalRError
from ..transports.transport import Transport
from .admission import WILDCARDS, Admission, Query, Refused
from .answers import is_preflight, lifespan, preflight, send_refusal, with_cors
from .clients.client_connection import ClientConnection
from .clients.client_endpoint import ClientEndpoint, is_clients_path
from .clock import Clock, SystemClock
from .connections import Hub
from .faults import Faults, pause
from .inspector.routes import INSPECTOR_PATH, Inspector, is_inspector_path
from .issuer import LocalCredential, TokenIssuer
from .records.entries import RestCall, UpstreamCall
from .records.fixture import lines_of, write_lines
from .records.journal import Journal
from .records.recording import record
from .refusals import Refusals
from .rest.api import RestEndpoint
from .rest.signing_keys import SigningKeys
from .socketless.hosted_app import HostedApp, rules_for
from .socketless.in_process import InProcess, InProcessTransport
from .upstream.delivery import TIMEOUT, Upstream
from .upstream.rules import Upstreams
from .upstream.templates import UpstreamTemplate

if TYPE_CHECKING:
    from .server import Server


class LocalService:
    """A SignalR service on this machine.

    ``async with LocalService(app) as service:`` serves on a free port of loopback. Every ``UpstreamApp`` that the
    app is or has mounted sends here meanwhile, and to its own service again afterwards.

    Args:
        app: an ASGI app in this process that takes the upstream calls.
        lifespan: whether to run the lifespan of ``app``, as a server would; False where somebody else does.
        upstream: instead, where an app elsewhere takes them: a URL template, such as
            ``"http://localhost:8080/{hub}/{category}/{event}"``, a list of ``UpstreamTemplate`` of which the first
            that fits a call counts, or the ``Path`` of a settings file, Microsoft's ``settings.json`` or a JSON
            template of Azure's resource manager, which is read again whenever it changes; ``dev`` gives a function
            that is asked for each call. With an ``app`` they say which calls it gets, and at which path.
        keys: access keys; default: one that nobody knows.
        host: address to listen on. Other than loopback it needs ``keys`` of one's own.
        port: 0 means a free one, None that nothing listens: clients are those of ``connect``, and the app must be
            in this process. The extra ``local`` is needed for a port, for settings files, and for tokens of managed
            identities, and for nothing else.
        cors_origins: browser origins, besides those of loopback, that may connect.
        lenient: check what Microsoft's emulator checks and no more: any audience, expired tokens, any api-version.
        upstream_timeout: seconds the app has to answer.
        retry_upstream: try a call again after 1, 3 and 5 seconds where the app could not be reached or answered 408
            or 5xx, as the service does. The app may then get a message twice.
        experimental_streams: pass ``stream()`` of clients on to the app. Microsoft has proposed that and not
            documented it.
        connect_patience: seconds for which an app that refuses connections is taken to be restarting.
        clock: of everything that is timed; default: the system's.

    Attributes:
        connect, connect_via: connect a client without a socket; see ``InProcess``.
        settled: wait until the app has answered all that clients have sent.
        journal: what has happened.
        faults: what is made to go wrong on purpose; nothing at first.

    A template can ask for tokens of a managed identity: ``UpstreamTemplate(..., resource="api://my-app")``. Such calls
    bring ``Authorization: Bearer`` with a token that the service signs with a key of its own, as Microsoft Entra ID
    would (see ``local.issuer``). Point the app's check of tokens at ``entra_authority``, whose
    ``/.well-known/openid-configuration`` leads to the issuer and the public key.

    Raises:
        ConfigurationError: options that cannot work or are not safe.
    """

    def __init__(
        self,
        app: ASGIApp | None = None,
        *,
        lifespan: bool = True,
        upstream: Upstreams | None = None,
        keys: Sequence[str] | None = None,
        host: str = "127.0.0.1",
        port: int | None = 0,
        cors_origins: Sequence[str] = (),
        lenient: bool = False,
        upstream_timeout: float = TIMEOUT,
        retry_upstream: bool = False,
        experimental_streams: bool = False,
        connect_patience: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        if not is_loopback(host) and keys is None:
            raise ConfigurationError(
                f"{host} can be reached by others: give the local service keys of your own"
            )
        if keys is None:
            keys = (secrets.token_urlsafe(33),)  # 44 characters, as Azure's
        _check_keys(keys)
        self._app = None if app is None else HostedApp(app, lifespan=lifespan)
        self._host = host = bare_host(host)
        self._port = port
        self.clock = clock or SystemClock()
        self.journal = Journal(self.clock)
        self.faults = Faults()
        self._refusals = Refusals(self.journal)
        self._tokens = TokenIssuer(lambda: self.url, self.clock)
        self._upstream = Upstream(
            app=self._app,
            rules=rules_for(app, upstream),
            keys=keys,
            lenient=lenient,
            timeout=upstream_timeout,
            connect_patience=connect_patience,
            retry=retry_upstream,
            tokens=self._tokens,
            journal=self.journal,
            faults=self.faults,
        )
        self._keys = SigningKeys(keys, self.clock)
        self._admission = Admission(
            keys=self._keys,
            issuer=self._tokens,
            host=host,
            cors_origins=cors_origins,
            lenient=lenient,
            clock=self.clock,
            faults=self.faults,
        )
        self._hubs: dict[str, Hub[ClientConnection]] = {}
        self._rest = RestEndpoint(
            admission=self._admission,
            keys=self._keys,
            hubs=self.hub,
            is_known=lambda name: name in self._hubs or self._upstream.rules.has_hub(name),
            lenient=lenient,
            clock=self.clock,
        )
        self._clients = ClientEndpoint(
            admission=self._admission,
            hubs=self.hub,
            upstream=self._upstream,
            clock=self.clock,
            journal=self.journal,
            refusals=self._refusals,
            streams=experimental_streams,
            faults=self.faults,
            lenient=lenient,
        )
        self._in_process = InProcess(
            self.asgi,
            app=self._app,
            endpoint=lambda: parse_connection_string(self.connection_string),
            clients=self._clients,
            clock=self.clock,
            journal=self.journal,
        )
        self.connect = self._in_process.connect
        self.connect_via = self._in_process.connect_via
        self.settled = self._in_process.settled
        self._inspector = Inspector(
            hubs=self._hubs,
            journal=self.journal,
            faults=self.faults,
            upstream=self._upstream,
            connect=self.connect,
        )
        self._transport: InProcessTransport | None = None
        self._server: Server | None = None

    def __repr__(self) -> str:
        return f"<LocalService on {self._host}:{self._port} with {len(self._clients)} connections>"

    # --- where it is -----------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port it serves on; while it does not, the one it was given; 0 if there is none."""
        return self._server.port if self._server is not None else self._port or 0

    @property
    def url(self) -> str:
        """``http://host:port``."""
        return f"http://{self._name}:{self.port}"

    @property
    def inspector_url(self) -> str | None:
        """Where a browser on this machine sees what happens, and can act as any user.

        None where nothing listens on loopback.
        """
        if self._port is None or not (is_loopback(self._host) or self._host in WILDCARDS):
            return None
        return f"{self.url}{INSPECTOR_PATH}#token={self._inspector.token}"

    @property
    def connection_string(self) -> str:
        """For apps and SDKs, with the first key; without a port as long as none is known."""
        port = f"Port={self.port};" if self.port else ""
        return f"Endpoint=http://{self._name};{port}AccessKey={self._keys.first};Version=1.0;"

    @property
    def keys(self) -> tuple[str, ...]:
        """The access keys; the first signs. Set others to regenerate one while it runs: from then on the old one opens
        nothing, and upstream calls have a signature of each new one. Clients stay connected.

        Raises:
            ConfigurationError: one that anybody could guess, or none.
        """
        return self._keys.given

    @keys.setter
    def keys(self, keys: Sequence[str]) -> None:
        _check_keys(keys)
        self._keys.given = self._upstream.keys = tuple(keys)

    @property
    def credential(self) -> LocalCredential:
        """In place of one of azure-identity: what it gives opens the REST API without an access key."""
        return LocalCredential(self._tokens)

    @property
    def upstream_templates(self) -> tuple[UpstreamTemplate, ...]:
        """Where upstream calls go; the first that fits one counts. A settings file may change them."""
        return self._upstream.rules.templates

    @property
    def upstream_settings(self) -> Path | None:
        """The settings file that the templates stand in, if they stand in one."""
        return self._upstream.rules.path

    @property
    def entra_authority(self) -> str:
        """The issuer of the tokens for managed identities, of version 2.0, with its tenant: what an app calls the
        authority. Without ``/v2.0`` at its end it is that of version 1.0."""
        return self._tokens.issuer("2.0")

    @property
    def _name(self) -> str:
        # Browsers do not connect to wildcards. "localhost" leads to 127.0.0.1, and not everywhere to ::1.
        is_wildcard = self._host in WILDCARDS
        if ":" in self._host:
            return f"[{'::1' if is_wildcard else self._host}]"
        return "localhost" if is_wildcard or self._host == "127.0.0.1" else self._host

    def hub(self, name: str, *, new: bool = True) -> Hub[ClientConnection]:
        """The connections of a hub, by its name in any case; a ``new`` one is remembered from now on."""
        name = name.lower()
        return self._hubs.setdefault(name, Hub()) if new else self._hubs.get(name) or Hub()

    @property
    def transport(self) -> Transport | None:
        """For a ``ServiceClient`` of one's own, where nothing listens; None where something does."""
        return self._transport

    # --- what has happened -----------------------------------------------------------------------------------

    @property
    def upstream_calls(self) -> list[UpstreamCall]:
        """The latest calls to the app, in the order in which they began."""
        return self.journal.upstream_calls

    @property
    def rest_calls(self) -> list[RestCall]:
        """The latest calls to the REST API, in the order in which they ended."""
        return self.journal.rest_calls

    def export(self, path: str | Path) -> None:
        """Write what has happened so far to a file of JSON lines: to keep, to compare, and for ``replay``.

        Tokens, signatures and cookies are left out; what was said, user ids and claims are in it.
        """
        write_lines(path, lines_of(self.journal))

    # --- life ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._open_port()
            if self._app is not None:
                self._app.connect(self.connection_string, self._transport)
                await self._app.startup()
            self._upstream.rules.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def _open_port(self) -> None:
        if self._port is None:
            self._transport = InProcessTransport(self.asgi)
            return
        try:
            from .server import Server  # noqa: PLC0415 - needs the extra "local"
        except ModuleNotFoundError as error:
            raise MissingExtraError("LocalService() without port=None", error.name, extra="local") from error

        server = Server(self.asgi, host=self._host, port=self._port)
        await server.start()
        self._server = server

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Send every client away, tell the app, and close the port. What comes back meanwhile is refused."""
        try:
            await self._inspector.aclose()
            await self._clients.aclose()
            await self._in_process.end()
            if self._app is not None:
                await self._app.shutdown()
        finally:
            if self._server is not None:
                await self._server.stop()
                self._server = None
            if self._transport is not None:
                self._transport.end()
            await self._upstream.aclose()
            if self._app is not None:
                self._app.restore()

    # --- ASGI ------------------------------------------------------------------------------------------------

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The service as an ASGI app."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self.aclose)
            return
        if scope["type"] == "http" and is_inspector_path(scope["path"]):
            await self._inspector(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        try:
            self._admission.check_host(headers.get("host"))
            self._admission.check_origin(origin)
        except Refused as error:
            self._refusals.note(error, scope)
            await send_refusal(error, scope, receive, send)
            return
        if scope["type"] == "http" and origin is not None:
            send = with_cors(send, origin)

        async def serve(receive: Receive, send: Send) -> None:
            await self._serve(scope, receive, send)

        if scope["type"] == "http" and is_preflight(scope, headers):
            await preflight(headers)(scope, receive, send)
        elif scope["type"] == "websocket" or is_clients_path(scope["path"]):
            await pause(self.clock, self.faults.client_latency)
            await serve(receive, send)
        else:
            await pause(self.clock, self.faults.rest_latency)
            await record(self.journal, scope, receive, send, serve)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "websocket" or is_clients_path(scope["path"]):
                await self._clients(scope, receive, send)
            else:
                response = await self._http(Request(scope, receive))
                await response(scope, receive, send)
        except SignalRError as error:
            await send_refusal(error, scope, receive, send)
        except ClientDisconnect:
            pass  # nobody is left to answer

    async def _http(self, request: Request) -> Response:
        query = Query(request.scope["query_string"])
        document = self._tokens.document(request.scope["path"])
        if document is not None and request.method == "GET":
            return JSONResponse(document)
        if request.scope["path"].lower().startswith("/api/"):
            return await self._rest.http(request, query)
        raise Refused(404, "There is nothing at this path of the local SignalR service.")


def _check_keys(keys: Sequence[str]) -> None:
    if not keys or any(counts_as_none(key) for key in keys):
        raise ConfigurationError("an access key has 32 bytes or more and is no placeholder")
