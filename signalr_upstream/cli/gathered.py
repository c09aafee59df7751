"""Answers are written whole, and those of one round of the event loop one right after the other; see ``rounds``.

uvicorn writes head and body of an answer one by one, each of them at once.
"""

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..transports.rounds import Round

MAX_GATHERED: Final = 64 * 1024
"""Bytes that wait for the end of a round on one connection; more are written at once."""


class GatheredTransport:
    """A transport whose writes wait for the end of the running round.

    Args:
        transport: the socket's.
        round_: all connections of one server share it.
    """

    def __init__(self, transport: asyncio.Transport, round_: Round) -> None:
        self.transport = transport
        self._round = round_
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``asyncio.WriteTransport``."""
        data = bytes(data)  # what else it may be could change until it is flushed, or fail there
        if not self._parts:
            self._round.add(self)
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_GATHERED:
            self.flush()

    def flush(self) -> None:
        """Write what waits, unless the peer has gone."""
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self.transport.is_closing():
            self.transport.write(b"".join(parts))

    def close(self) -> None:
        """See ``asyncio.BaseTransport``."""
        self.flush()
        self.transport.close()


def gathering_protocol() -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol for one server, over gathered transports. WebSockets, once upgraded, are left alone."""
    round_ = Round()

    class GatheringProtocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
            super().connection_made(cast(asyncio.Transport, GatheredTransport(transport, round_)))

        def eof_received(self) -> None:
            # Behind it the loop closes the socket's transport, which writes only what it has been given.
            cast(GatheredTransport, self.transport).flush()
            super().eof_received()

        def handle_websocket_upgrade(self) -> None:
            gathered = cast(GatheredTransport, self.transport)
            gathered.flush()
            self.transport = gathered.transport
            super().handle_websocket_upgrade()

    return GatheringProtocol
