"""Clients of a local service without sockets: a transport that keeps what is written."""

import asyncio

from signalr_upstream.local import LocalService
from signalr_upstream.local.clients.client_connection import ClientConnection
from signalr_upstream.local.clients.session import Session
from signalr_upstream.local.records.journal import Journal
from signalr_upstream.local.upstream.delivery import Caller, Upstream
from signalr_upstream.protocol.handshake import encode_handshake_request


class Client:
    """A client's end: what it received, and whether it was sent away."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.gone = False
        self.connection: ClientConnection
        self._written = asyncio.Event()

    def send(self, data: bytes, *, binary: bool) -> None:
        self.received.append(data)
        self._written.set()

    def hang_up(self) -> None:
        self.gone = True

    def take(self) -> list[bytes]:
        received, self.received = self.received, []
        self._written.clear()
        return received

    async def next(self) -> list[bytes]:
        """What it receives; waits for something."""
        await self._written.wait()
        return self.take()


async def connect(
    service: LocalService,
    *,
    hub: str = "chat",
    user_id: str | None = None,
    protocol: str | None = "json",
    connection_id: str = "c1",
    upstream: Upstream | None = None,
    journal: Journal | None = None,
    streams: bool = False,
    stateful: bool = False,
) -> Client:
    """A client that has been through its handshake and its ``connected``; without a ``protocol`` through neither."""
    client = Client()
    client.connection = ClientConnection(
        caller=Caller(connection_id, hub, user_id, (), f"?hub={hub}"),
        session=Session(now=service.clock.time(), streams=streams, stateful=stateful),
        transport=client,
        hub=service.hub(hub),
        upstream=upstream or Upstream(keys=["k" * 44]),
        clock=service.clock,
        journal=journal,
    )
    if protocol is not None:
        client.connection.receive(encode_handshake_request(protocol, 2 if stateful else 1))
        if stateful:
            client.connection.receive(b'{"type":6}\x1e')  # as the JavaScript client does
        await client.connection.finished()
        client.take()
    return client
