"""The clients' endpoint: ``/client/negotiate`` answers how to connect, ``/client/`` carries the transports.

A connection is known by the token that negotiate gave out, or by one made when its WebSocket opens: pysignalr and
signalrcore do not negotiate with the service. Who the client is, is fixed then; what comes later for the connection
needs a good token again.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...errors import HandshakeError, SignalRError
from ...protocol.handshake import (
    TRANSFER_FORMATS,
    encode_negotiation,
    encode_negotiation_error,
    parse_negotiate_version,
)
from ..admission import Admission, Query, Refused, closing_time, read_claims
from ..answers import plain_refusal
from ..clock import Clock
from ..connections import Hub
from ..faults import Faults
from ..records.entries import Client
from ..records.journal import Journal
from ..refusals import Refusals
from ..request_body import read_body
from ..upstream.delivery import Caller, Upstream
from .client_connection import ClientConnection
from .long_polling import NO_CACHE, LongPollingTransport
from .negotiated import MAX_EARLY, UNKNOWN_ID, Negotiated, NegotiatedTokens, new_id
from .session import KEEP_ALIVE_INTERVAL, Session
from .sse import EventStreamTransport
from .websocket import SOCKET, WebSocketTransport

LAST_CALLS = 2.0
"""Seconds that calls to the app get to end when the service ends."""

MAX_POST = 30_000_000
"""Largest body of a POST in bytes: Kestrel's number. It may hold many messages."""

_Transport = WebSocketTransport | EventStreamTransport | LongPollingTransport


_PATHS = ("/client", "/client/negotiate")


def is_clients_path(path: str) -> bool:
    """Whether a request is for the clients' endpoint; as in ASP.NET, case and a slash at the end do not matter."""
    return path.rstrip("/").lower() in _PATHS


class ClientEndpoint:
    """Every client of one service.

    Args:
        hubs: finds a hub's connections by its name in any case.
        clock: of the sessions, and of how long a negotiated token is good.
        streams: whether the app is told of streams that clients ask for.
        lenient: give clients the time that Microsoft's emulator gives them, and do not look at when tokens expire.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        hubs: Callable[[str], Hub[ClientConnection]],
        upstream: Upstream,
        clock: Clock,
        journal: Journal,
        refusals: Refusals,
        streams: bool,
        faults: Faults,
        lenient: bool,
    ) -> None:
        self._admission = admission
        self._hubs = hubs
        self._upstream = upstream
        self._clock = clock
        self._journal = journal
        self._refusals = refusals
        self._streams = streams
        self._faults = faults
        self._lenient = lenient
        self._negotiated = NegotiatedTokens(clock, lenient=lenient)
        self._clients: dict[str, _Client] = {}  # every live connection by its token
        self._leaving: set[ClientConnection] = set()  # gone; the app is being told
        self._kept: set[asyncio.Task[None]] = set()  # one for each connection that outlives its requests
        self._ending = False

    def __len__(self) -> int:
        return len(self._clients)

    async def aclose(self) -> None:
        """Send every client away, and tell the app. What comes back meanwhile is refused."""
        self._ending = True
        connections = [client.connection for client in self._clients.values()]
        for connection in connections:
            connection.close()
        connections += self._leaving
        if connections:
            ends = [asyncio.create_task(connection.finished()) for connection in connections]
            await asyncio.wait(ends, timeout=LAST_CALLS)
            for connection in connections:
                connection.cancel()
            await asyncio.wait(ends)
        for task in self._kept:
            task.cancel()
        await asyncio.gather(*self._kept, return_exceptions=True)

    async def settled(self, connection_id: str | None = None) -> None:
        """Wait until the app has answered all that has been sent so far, by one client or by all of them."""
        for connection in [*(client.connection for client in self._clients.values()), *self._leaving]:
            if connection_id in (None, connection.connection_id):
                await connection.finished()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or serve a transport to its end. Errors are plain text."""
        request = HTTPConnection(scope)
        path = scope["path"].rstrip("/").lower()
        try:
            if scope["type"] == "websocket":
                if path != "/client":
                    raise Refused(404, "WebSockets are opened at /client/?hub=<name>.")
                await self._websocket(scope, self._admit(request, from_query=True), receive, send)
                return
            events = "text/event-stream" in request.headers.get("accept", "")
            guest = self._admit(request, from_query=events)
            if path == "/client/negotiate":
                response = self._negotiate(scope["method"], guest.query)
            elif events and scope["method"] == "GET":
                await self._events(guest, receive, send)
                return
            else:
                response = await self._message(Request(scope, receive), guest)
        except SignalRError as error:
            response = self._refuse(scope, error)
        await response(scope, receive, send)

    def _refuse(
        self, scope: Scope, error: SignalRError, headers: Mapping[str, str] | None = None
    ) -> Response:
        self._refusals.note(error, scope)
        return plain_refusal(error, headers)

    def _admit(self, request: HTTPConnection, *, from_query: bool) -> "_Guest":
        if self._ending:  # clients that were sent away reconnect at once
            raise Refused(503, "The local service is ending.")
        query = Query(request.scope["query_string"])
        claims = self._admission.check_client(request.headers, query, from_query=from_query)
        return _Guest(query, claims, math.inf if self._lenient else claims["exp"])

    # --- negotiate -------------------------------------------------------------------------------------------

    def _negotiate(self, method: str, query: Query) -> Response:
        if method != "POST":
            raise Refused(405, "negotiate is POST.", Allow="POST")
        try:
            version = parse_negotiate_version(query.last("negotiateversion"))
        except HandshakeError as error:
            return Response(encode_negotiation_error(str(error)), media_type="application/json")
        stateful = (query.last("usestatefulreconnect") or "").lower() == "true"
        token, connection_id = self._negotiated.give_out(version=version, stateful=stateful)
        body = encode_negotiation(
            connection_id=connection_id,
            connection_token=token,
            version=version,
            transports=tuple(TRANSFER_FORMATS),
            stateful_reconnect=stateful,
        )
        return Response(body, media_type="application/json")

    # --- transports ------------------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, guest: "_Guest", receive: Receive, send: Send) -> None:
        token = guest.query.last("id")
        client = self._clients.get(token or "")
        if client is not None and client.connection.session.resumable:
            transport = await _accept(scope, receive, send)
            if client.connection.resume(transport):
                await self._carry(client.connection, transport, receive)
            return
        ticket = self._ticket(guest, token, WebSocketTransport.name)
        token = token or ticket.caller.connection_id
        transport = await _accept(scope, receive, send)
        client = self._open(token, ticket, transport, stateful=ticket.stateful)
        if ticket.stateful:  # the connection outlives this request
            self._keep(token, client, client.connection.gone.wait)
            await self._carry(client.connection, transport, receive)
        else:
            await self._serve(token, client, partial(transport.serve, receive, client.connection))

    async def _carry(
        self, connection: ClientConnection, transport: WebSocketTransport, receive: Receive
    ) -> None:
        with self._faults.reaching(connection.connection_id, transport):
            await transport.serve(receive, connection)

    async def _events(self, guest: "_Guest", receive: Receive, send: Send) -> None:
        token = _required_id(guest.query)
        ticket = self._ticket(guest, token, EventStreamTransport.name)
        transport = EventStreamTransport(send)
        client = self._open(token, ticket, transport, text_only=True)
        end = self._clock.call_at(guest.expires, transport.hang_up)
        await self._serve(token, client, partial(transport.serve, receive, client.connection))
        end.cancel()

    async def _message(self, request: Request, guest: "_Guest") -> Response:
        match request.method:
            case "GET":
                try:
                    return await self._poll(guest, request.receive)
                except SignalRError as error:
                    return self._refuse(request.scope, error, NO_CACHE)
            case "POST":
                return await self._post(request, _required_id(guest.query))
            case "DELETE":
                return self._delete(_required_id(guest.query))
            case _:
                raise Refused(405, "The method is not allowed here.", Allow="GET, POST, DELETE")

    async def _poll(self, guest: "_Guest", receive: Receive) -> Response:
        token = _required_id(guest.query)
        client = self._clients.get(token)
        transport = client and client.transport
        if not isinstance(transport, LongPollingTransport):
            ticket = self._ticket(guest, token, LongPollingTransport.name)
            transport = LongPollingTransport(clock=self._clock)
            # Polls show by themselves that the service is there: no pings, as ASP.NET
            client = self._open(token, ticket, transport, keep_alive=math.inf)
            self._keep(token, client, partial(transport.serve, client.connection))
        return await transport.poll(receive, until=guest.expires)

    async def _post(self, request: Request, token: str) -> Response:
        body: bytes | None = None
        if token in self._negotiated:
            body = await read_body(request, MAX_EARLY)
            if token in self._negotiated:  # the transport may have been opened meanwhile
                self._negotiated.post(token, body)
                return _plain(200)
        client = self._find(token)
        if isinstance(client.transport, WebSocketTransport):
            raise Refused(405, "POST requests are not allowed for WebSocket connections.", Allow="GET")
        async with client.posting:
            if body is None:
                body = await read_body(request, MAX_POST)
            client = self._find(token)  # it may have gone meanwhile
            client.connection.receive(body)
            await client.connection.readable.wait()
        return _plain(200)

    def _delete(self, token: str) -> Response:
        client = self._find(token)
        if not isinstance(client.transport, LongPollingTransport):
            raise Refused(400, "Cannot terminate this connection using the DELETE endpoint.")
        client.transport.end()
        return _plain(202)

    # --- connections -----------------------------------------------------------------------------------------

    def _ticket(self, guest: "_Guest", token: str | None, transport: str) -> "_Ticket":
        """Who opens a transport; its token is used up."""
        hub = self._admission.hub_name(guest.query)
        negotiated = self._use_up(token, transport)
        user_id, items = read_claims(guest.claims)
        caller = Caller(negotiated.connection_id, hub, user_id, items, f"?{guest.query.raw}")
        return _Ticket(caller, negotiated.stateful, closing_time(guest.claims), bytes(negotiated.posted))

    def _use_up(self, token: str | None, transport: str) -> Negotiated:
        if token is None:  # pysignalr and signalrcore do not negotiate with the service
            return Negotiated(new_id(), stateful=False, posted=bytearray())
        if (client := self._clients.get(token)) is not None:
            if client.transport.name != transport:
                raise Refused(400, "Cannot change transports mid-connection")
            raise Refused(409, "There is a connection with this id already.")
        return self._negotiated.use_up(token)

    def _open(
        self,
        token: str,
        ticket: "_Ticket",
        transport: _Transport,
        *,
        stateful: bool = False,
        text_only: bool = False,
        keep_alive: float = KEEP_ALIVE_INTERVAL,
    ) -> "_Client":
        caller = ticket.caller
        session = Session(
            now=self._clock.time(),
            streams=self._streams,
            stateful=stateful,
            text_only=text_only,
            keep_alive=keep_alive,
            expires=ticket.closes,
        )
        connection = ClientConnection(
            caller=caller,
            session=session,
            transport=transport,
            hub=self._hubs(caller.hub),
            upstream=self._upstream,
            clock=self._clock,
            journal=self._journal,
        )
        self._journal.opened(
            Client(
                connection_id=caller.connection_id,
                hub=caller.hub,
                user_id=caller.user_id,
                transport=transport.name,
                claims=caller.claims,
            )
        )
        client = self._clients[token] = _Client(connection, transport, asyncio.Lock())
        if ticket.posted:  # in a moment, when the transport has begun to answer
            asyncio.get_running_loop().call_soon(connection.receive, ticket.posted)
        return client

    def _keep(self, token: str, client: "_Client", serve: Callable[[], Awaitable[object]]) -> None:
        task = asyncio.create_task(self._serve(token, client, serve))
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    async def _serve(self, token: str, client: "_Client", serve: Callable[[], Awaitable[object]]) -> None:
        """Serve a connection until it is gone and the app knows."""
        connection = client.connection
        try:
            with self._faults.reaching(connection.connection_id, client.transport):
                await serve()
        finally:
            farewell = connection.session.farewell
            self._journal.closed(connection.connection_id, None if farewell is None else farewell.error)
            del self._clients[token]
        self._leaving.add(connection)
        try:
            await connection.finished()
        finally:
            self._leaving.remove(connection)

    def _find(self, token: str) -> "_Client":
        client = self._clients.get(token)
        if client is None:
            raise Refused(404, UNKNOWN_ID)
        return client


class _Guest(NamedTuple):
    """A request with a good token."""

    query: Query
    claims: dict[str, Any]
    expires: float  # Unix seconds


class _Ticket(NamedTuple):
    """Who may open a transport, and how the connection is to be."""

    caller: Caller
    stateful: bool
    closes: float | None  # Unix seconds
    posted: bytes  # before there was a transport


class _Client(NamedTuple):
    """A live connection."""

    connection: ClientConnection
    transport: _Transport
    posting: asyncio.Lock  # its POSTs are taken one by one


async def _accept(scope: Scope, receive: Receive, send: Send) -> WebSocketTransport:
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    return WebSocketTransport(send, socket=scope.get("extensions", {}).get(SOCKET))


def _required_id(query: Query) -> str:
    token = query.last("id")
    if not token:
        raise Refused(400, "Connection ID required")
    return token


def _plain(status: int) -> Response:
    return Response(status_code=status, headers={"Content-Type": "text/plain"})
