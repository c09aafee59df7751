"""The clients' endpoint: ``/client/negotiate`` answers how to connect, ``/client/`` opens a transport.

A transport is known by the token that negotiate gave out, or by one made when it opens: pysignalr and signalrcore do
not negotiate with the service.
"""

import asyncio
import secrets
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import HandshakeError
from ..protocol.handshake import encode_negotiation, encode_negotiation_error, parse_negotiate_version
from .admission import Admission, Query, Refused, read_claims
from .client_connection import ClientConnection
from .clock import Clock
from .connections import Hub
from .faults import Faults
from .journal import Client, Journal
from .session import Session
from .upstream import Caller, Upstream
from .websocket import WebSocketTransport

NEGOTIATED_LIFETIME = 15.0
"""Seconds in which a client must open a transport after negotiate; ASP.NET's number."""

LAST_CALLS = 2.0
"""Seconds that calls to the app get to end when the service ends."""

TRANSPORTS = ("WebSockets",)


class ClientEndpoint:
    """Every client of one service.

    Args:
        hubs: finds a hub's connections by its name in any case.
        clock: of the sessions, and of how long a negotiated token is good.
        streams: whether the app is told of streams that clients ask for.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        hubs: Callable[[str], Hub[ClientConnection]],
        upstream: Upstream,
        clock: Clock,
        journal: Journal,
        streams: bool,
        faults: Faults,
    ) -> None:
        self._admission = admission
        self._hubs = hubs
        self._upstream = upstream
        self._clock = clock
        self._journal = journal
        self._streams = streams
        self._faults = faults
        self._negotiated: dict[str, tuple[str, float]] = {}  # token -> connection id, until when
        self._clients: dict[str, ClientConnection] = {}  # every live transport by its token
        self._ending = False

    def __len__(self) -> int:
        return len(self._clients)

    async def aclose(self) -> None:
        """Send every client away, and tell the app. What comes back meanwhile is refused."""
        self._ending = True
        clients = list(self._clients.values())
        for client in clients:
            client.close()
        if clients:
            ends = [asyncio.create_task(client.finished()) for client in clients]
            await asyncio.wait(ends, timeout=LAST_CALLS)
            for client in clients:
                client.cancel()
            await asyncio.wait(ends)

    async def settled(self, connection_id: str | None = None) -> None:
        """Wait until the app has answered all that has been sent so far, by one client or by all of them."""
        for client in list(self._clients.values()):
            if connection_id in (None, client.connection_id):
                await client.finished()

    def negotiate(self, request: Request, query: Query) -> Response:
        """Answer ``POST /client/negotiate``."""
        if request.method != "POST":
            raise Refused(405, "negotiate is POST.", Allow="POST")
        self._check_open()
        self._admission.check_client(request.headers, query, from_query=False)
        try:
            version = parse_negotiate_version(query.last("negotiateversion"))
        except HandshakeError as error:
            return Response(encode_negotiation_error(str(error)), media_type="application/json")
        connection_id = _new_id()
        token = _new_id() if version else connection_id
        now = self._clock.time()
        self._negotiated = {key: entry for key, entry in self._negotiated.items() if now < entry[1]}
        self._negotiated[token] = (connection_id, now + NEGOTIATED_LIFETIME)
        body = encode_negotiation(
            connection_id=connection_id, connection_token=token, version=version, transports=TRANSPORTS
        )
        return Response(body, media_type="application/json")

    def http(self, request: Request, query: Query) -> Response:
        """Answer a request to ``/client/`` that is no WebSocket's."""
        self._admission.check_client(request.headers, query, from_query=False)
        raise Refused(404, "The local service speaks WebSockets only so far; this was no WebSocket request.")

    async def websocket(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Serve one WebSocket to its end."""
        if scope["path"].rstrip("/").lower() != "/client":
            raise Refused(404, "WebSockets are opened at /client/?hub=<name>.")
        query = Query(scope["query_string"])
        token, caller = self._identify(headers, query)
        await receive()  # websocket.connect
        transport = WebSocketTransport(send)
        await send({"type": "websocket.accept"})
        client = ClientConnection(
            caller=caller,
            session=Session(now=self._clock.time(), streams=self._streams),
            transport=transport,
            hub=self._hubs(caller.hub),
            upstream=self._upstream,
            clock=self._clock,
            journal=self._journal,
        )
        self._clients[token] = client
        self._journal.opened(
            Client(
                connection_id=caller.connection_id,
                hub=caller.hub,
                user_id=caller.user_id,
                transport="WebSockets",
                claims=caller.claims,
            )
        )
        try:
            with self._faults.reaching(caller.connection_id, transport):
                await transport.serve(receive, client)
            self._journal.closed(caller.connection_id)
            await client.finished()
        finally:
            del self._clients[token]

    def _identify(self, headers: Headers, query: Query) -> tuple[str, Caller]:
        """Who opens a transport, and by which token."""
        self._check_open()
        claims = self._admission.check_client(headers, query, from_query=True)
        hub = self._admission.hub_name(query)
        token = query.last("id")
        if token is None:  # pysignalr and signalrcore do not negotiate with the service
            token = connection_id = _new_id()
        elif token in self._clients:
            raise Refused(409, "There is a connection with this id already.")
        else:
            connection_id, ends = self._negotiated.pop(token, ("", 0.0))
            if self._clock.time() >= ends:
                raise Refused(404, "No Connection with that ID")
        user_id, items = read_claims(claims)
        return token, Caller(connection_id, hub, user_id, items, f"?{query.raw}")

    def _check_open(self) -> None:
        if self._ending:  # clients that were sent away reconnect at once
            raise Refused(503, "The local service is ending.")


def _new_id() -> str:
    return secrets.token_urlsafe(16)
