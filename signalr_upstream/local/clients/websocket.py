"""The WebSocket transport: messages of any kind in, whole frames out.

Text and binary are taken alike, since clients mix them; what is sent is text for JSON and binary for MessagePack.
"""

import asyncio
from typing import ClassVar

import starlette.types as asgi

from .asgi_writer import CLOSE_PATIENCE, MAX_UNSENT, AsgiWriter
from .client_connection import ClientConnection

NORMAL_CLOSURE = 1000

SOCKET = "signalr_upstream.socket"
"""ASGI extension of our own server: the asyncio transport below the WebSocket, for whole frames without compression
that are written while it waits for nothing. uvicorn's ``send`` costs as much as the system call: a broadcast over it
had 0.4 of the throughput of the bare `websockets` library, and with nothing else done for a client 0.6."""


class WebSocketTransport:
    """One accepted WebSocket.

    Args:
        send: the ASGI callable of the connection.
        socket: what ``SOCKET`` of the scope's extensions offers.
        max_unsent: bytes kept while the client does not read.
        close_patience: seconds for them to be read before a close.
    """

    name: ClassVar[str] = "WebSockets"

    def __init__(
        self,
        send: asgi.Send,
        *,
        socket: asyncio.Transport | None = None,
        max_unsent: int = MAX_UNSENT,
        close_patience: float = CLOSE_PATIENCE,
    ) -> None:
        self._socket = socket
        self._writer = AsgiWriter(send, max_unsent=max_unsent, close_patience=close_patience)

    async def serve(self, receive: asgi.Receive, connection: ClientConnection) -> None:
        """Read to the end, which is also reached when the client does not read what is written to it."""
        await self._writer.serve(self._read(receive, connection), connection, self)

    def send(self, data: bytes, *, binary: bool) -> None:
        """Write ``data`` as one message."""
        socket = self._socket
        if (
            socket is not None
            and self._writer.free
            and not socket.is_closing()
            and not socket.get_write_buffer_size()
        ):
            socket.write((_binary_frames if binary else _text_frames).frame(data))
        elif binary:
            self._writer.write({"type": "websocket.send", "bytes": data}, len(data))
        else:
            self._writer.write({"type": "websocket.send", "text": _as_text(data)}, len(data))

    def hang_up(self) -> None:
        """Close with code 1000 after what was written."""
        self._writer.finish({"type": "websocket.close", "code": NORMAL_CLOSURE})

    def abort(self) -> None:
        """End without a close frame, as a network does that breaks."""
        self._writer.abort()

    def hold_back(self, released: asyncio.Event) -> None:
        """Write nothing until ``released`` is set, as if the client did not read."""
        self._socket = None
        self._writer.hold_back(released)

    async def _read(self, receive: asgi.Receive, connection: ClientConnection) -> bool:
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                # A close frame has a reason, if only an empty one. Without a frame the network is to blame.
                return message.get("reason") is None
            if connection.transport is not self:
                return False  # the client has another one meanwhile
            text = message.get("text")
            connection.receive(message["bytes"] if text is None else text.encode())
            await connection.readable.wait()


class _Frames:
    """Messages as frames of a server. A broadcast writes the same bytes to everybody, and frames them once."""

    def __init__(self, *, binary: bool) -> None:
        self._binary = binary
        self._last = (b"", b"")  # a message, and its frame

    def frame(self, data: bytes) -> bytes:
        last = self._last
        if last[0] is not data:
            from websockets.frames import Frame, Opcode  # noqa: PLC0415 - needs the extra "local", as a port does

            opcode, payload = (
                (Opcode.BINARY, data) if self._binary else (Opcode.TEXT, _as_text(data).encode())
            )
            last = self._last = (data, Frame(opcode, payload).serialize(mask=False))
        return last[1]


_text_frames = _Frames(binary=False)
_binary_frames = _Frames(binary=True)


def _as_text(data: bytes) -> str:
    # Values of users are passed on unread, so they may hold bytes that are no UTF-8.
    return data.decode("utf-8", "replace")
