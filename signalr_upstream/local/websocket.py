"""The WebSocket transport: messages of any kind in, whole frames out.

Text and binary are taken alike, since clients mix them; what is sent is text for JSON and binary for MessagePack.
Writing never waits: a send is stepped once, and only what a slow client blocks is kept, up to a limit. A queue and
a task for every socket would halve the throughput of a broadcast.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any

import starlette.types as asgi

from .client_connection import ClientConnection

MAX_UNSENT = 4 * 1024 * 1024
"""Bytes kept for a client that does not read: seconds of a busy hub. Past it the client is cut off."""

NORMAL_CLOSURE = 1000
TRY_AGAIN_LATER = 1013


class WebSocketTransport:
    """Writes to one accepted WebSocket.

    Args:
        send: the ASGI callable of the connection.
        max_unsent: bytes kept while the client does not read.
    """

    def __init__(self, send: asgi.Send, *, max_unsent: int = MAX_UNSENT) -> None:
        self._send = send
        self._max_unsent = max_unsent
        self._unsent: deque[tuple[asgi.Message, int]] = deque()
        self._unsent_size = 0
        self._writer: asyncio.Task[None] | None = None
        self._closing = False

    def send(self, data: bytes, *, binary: bool) -> None:
        """Write ``data`` as one message."""
        if binary:
            self._write({"type": "websocket.send", "bytes": data}, len(data))
        else:
            # Values of users are passed on unread, so they may hold bytes that are no UTF-8.
            self._write({"type": "websocket.send", "text": data.decode("utf-8", "replace")}, len(data))

    def hang_up(self) -> None:
        """Close with code 1000 after what was written."""
        self._write({"type": "websocket.close", "code": NORMAL_CLOSURE}, 0)
        self._closing = True

    def _write(self, message: asgi.Message, size: int) -> None:
        if self._closing:
            return
        if self._writer is None:
            self._start(message)
            return
        self._unsent.append((message, size))
        self._unsent_size += size
        if self._unsent_size > self._max_unsent:
            self._unsent.clear()
            self._unsent.append(({"type": "websocket.close", "code": TRY_AGAIN_LATER}, 0))
            self._closing = True

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
        self._writer = asyncio.get_running_loop().create_task(self._write_on(_Rest(sending, awaited)))

    async def _write_on(self, rest: "_Rest") -> None:
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


class _Rest:
    """What is left of a coroutine that was stepped once, as something a task can await."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, None]:
        awaited = self._awaited
        try:
            while True:
                try:
                    answer = yield awaited
                except BaseException as error:  # a cancellation, say, belongs into the coroutine
                    awaited = self._coroutine.throw(error)
                else:
                    awaited = self._coroutine.send(answer)
        except StopIteration:
            return


async def serve(receive: asgi.Receive, connection: ClientConnection) -> None:
    """Read an accepted WebSocket to its end."""
    try:
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            text = message.get("text")
            connection.receive(message["bytes"] if text is None else text.encode())
            await connection.readable.wait()
    finally:
        connection.disconnect()
