"""Writing to a client that may not read: what the transports that stay open have in common.

Writing never waits: an ASGI send is stepped once, and only what a slow client blocks is kept, up to a limit. A queue
and a task for every client would halve the throughput of a broadcast.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import Any

import starlette.types as asgi

from .client_connection import ClientConnection, Transport
from .reasons import NOT_READING
from .stepped import Stepped

MAX_UNSENT = 4 * 1024 * 1024
"""Bytes kept for a client that does not read: seconds of a busy hub. Past it the client is cut off."""

CLOSE_PATIENCE = 5.0
"""Seconds for a client to read what was written before its close; ASP.NET's number."""


class AsgiWriter:
    """The sending side of one WebSocket or event stream.

    Args:
        send: the ASGI callable of the connection.
        max_unsent: bytes kept while the client does not read.
        close_patience: seconds for them to be read before a close.
    """

    def __init__(self, send: asgi.Send, *, max_unsent: int, close_patience: float) -> None:
        self._send = send
        self._max_unsent = max_unsent
        self._close_patience = close_patience
        self._unsent: deque[tuple[asgi.Message, int]] = deque()
        self._unsent_size = 0
        self._writer: asyncio.Task[None] | None = None
        self._closing = False
        self._aborted = False
        self._reading: asyncio.Timeout | None = None  # ends the reading of a client that is cut off

    async def serve(
        self, reading: Awaitable[bool | None], connection: ClientConnection, transport: Transport
    ) -> None:
        """Await ``reading``, or the end of a client that does not read what is written to it.

        Args:
            reading: gives whether the transport broke without a word.
            transport: whose writer this is; where another one has taken its place, the connection goes on.
        """
        broken: bool | None = False
        error: str | None = None
        try:
            async with asyncio.timeout(None) as self._reading:
                broken = await reading
        except TimeoutError:
            broken, error = self._aborted, NOT_READING
        finally:
            self._closing = True
            if self._writer is not None:
                self._writer.cancel()
            if connection.transport is transport:
                if broken:
                    connection.lose()
                else:
                    connection.disconnect(error)

    @property
    def free(self) -> bool:
        """Whether nothing waits in front of the next message, and it is not over."""
        return self._writer is None and not self._closing

    def write(self, message: asgi.Message, size: int) -> None:
        """Send ``message``, which holds ``size`` bytes of data."""
        if self._closing:
            return
        if self._writer is None:
            self._start(message)
            return
        self._unsent.append((message, size))
        self._unsent_size += size
        if self._unsent_size > self._max_unsent:
            self._unsent.clear()
            self._closing = True
            self._cut_off(0)

    def finish(self, message: asgi.Message) -> None:
        """Send ``message`` as the last one, behind what was written."""
        self.write(message, 0)
        self._closing = True
        if self._writer is not None:
            self._cut_off(self._close_patience)

    def abort(self) -> None:
        """End the transport without a word, as a network does that breaks."""
        self._aborted = self._closing = True
        self._unsent.clear()
        self._cut_off(0)

    def hold_back(self, released: asyncio.Event) -> None:
        """Write nothing until ``released`` is set, as if the client did not read."""
        send = self._send

        async def held_send(message: asgi.Message) -> None:
            await released.wait()
            await send(message)

        self._send = held_send

    def _cut_off(self, delay: float) -> None:
        """End the reading in ``delay`` seconds, if it has not ended until then."""
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time() + delay)

    def _start(self, message: asgi.Message) -> None:
        """Step the send once: nearly always that is all of it."""
        sending: Coroutine[Any, Any, None] = self._send(message)  # type: ignore[assignment]  # ASGI's are coroutines
        try:
            awaited = sending.send(None)
        except StopIteration:
            return
        except (OSError, RuntimeError):
            self._closing = True  # gone; whoever reads learns of it
            return
        self._writer = asyncio.get_running_loop().create_task(self._write_on(Stepped(sending, awaited)))

    async def _write_on(self, rest: Stepped[None]) -> None:
        try:
            await rest
            while self._unsent:
                message, size = self._unsent.popleft()
                self._unsent_size -= size
                await self._send(message)
        except (OSError, RuntimeError):
            self._closing = True
            self._unsent.clear()
        finally:
            self._writer = None
