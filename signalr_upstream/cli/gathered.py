"""Answers leave together: what is written in one round of the event loop goes to the sockets at its end.

uvicorn writes head and body of an answer one by one, and each such write may wake a reader that sleeps, which
costs more than all the rest of a short call.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_GATHERED: Final = 64 * 1024


class Gathering:
    """Writes to many transports, gathered until the running round of the loop is over."""

    def __init__(self) -> None:
        self._waiting: list[GatheredTransport] = []

    def add(self, transport: "GatheredTransport") -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(transport)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            transport.flush()


class GatheredTransport:
    __slots__ = ("_gathering", "_parts", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport, gathering: Gathering) -> None:
        self._transport = transport
        self._gathering = gathering
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        parts = self._parts
        if not parts:
            self._gathering.add(self)
        parts.append(data)
        if len(data) > MAX_GATHERED:
            self.flush()

    def flush(self) -> None:
        parts = self._parts
        if parts:
            self._parts = []
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        self.flush()
        self._transport.close()


_gathering = Gathering()

class GatheringProtocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(GatheredTransport(transport, _gathering))
