"""The WebSocket transport: messages of any kind in, whole frames out.

Text and binary are taken alike, since clients mix them; what is sent is text for JSON and binary for MessagePack.
"""

import asyncio
from typing import ClassVar

import starlette.types as asgi

from .asgi_writer import CLOSE_PATIENCE, MAX_UNSENT, AsgiWriter
from .client_connection import ClientConnection

NORMAL_CLOSURE = 1000


class WebSocketTransport:
    """One accepted WebSocket.

    Args:
        send: the ASGI callable of the connection.
        max_unsent: bytes kept while the client does not read.
        close_patience: seconds for them to be read before a close.
    """

    name: ClassVar[str] = "WebSockets"

    def __init__(
        self, send: asgi.Send, *, max_unsent: int = MAX_UNSENT, close_patience: float = CLOSE_PATIENCE
    ) -> None:
        self._writer = AsgiWriter(send, max_unsent=max_unsent, close_patience=close_patience)

    async def serve(self, receive: asgi.Receive, connection: ClientConnection) -> None:
        """Read to the end, which is also reached when the client does not read what is written to it."""
        await self._writer.serve(_read(receive, connection), connection)

    def send(self, data: bytes, *, binary: bool) -> None:
        """Write ``data`` as one message."""
        if binary:
            self._writer.write({"type": "websocket.send", "bytes": data}, len(data))
        else:
            self._writer.write(_texts.message(data), len(data))

    def hang_up(self) -> None:
        """Close with code 1000 after what was written."""
        self._writer.finish({"type": "websocket.close", "code": NORMAL_CLOSURE})

    def abort(self) -> None:
        """End without a close frame, as a network does that breaks."""
        self._writer.abort()

    def hold_back(self, released: asyncio.Event) -> None:
        """Write nothing until ``released`` is set, as if the client did not read."""
        self._writer.hold_back(released)


class _Texts:
    """Text messages as ASGI wants them. A broadcast writes the same bytes to everybody, and decodes them once."""

    def __init__(self) -> None:
        self._last: tuple[bytes, asgi.Message] = (b"", {})

    def message(self, data: bytes) -> asgi.Message:
        last = self._last
        if last[0] is not data:
            # Values of users are passed on unread, so they may hold bytes that are no UTF-8.
            last = (data, {"type": "websocket.send", "text": data.decode("utf-8", "replace")})
            self._last = last
        return last[1]


_texts = _Texts()


async def _read(receive: asgi.Receive, connection: ClientConnection) -> None:
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        text = message.get("text")
        connection.receive(message["bytes"] if text is None else text.encode())
        await connection.readable.wait()
