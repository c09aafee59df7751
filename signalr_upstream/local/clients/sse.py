"""The Server-Sent Events transport: messages out as events of one endless answer, in with POST requests.

The client's POSTs are ``client_endpoint``'s business; here is what it hears. It carries text only.

Spec: https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/TransportProtocols.md
"""

import asyncio
from typing import ClassVar

import starlette.types as asgi

from .asgi_writer import CLOSE_PATIENCE, MAX_UNSENT, AsgiWriter
from .client_connection import ClientConnection

HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache,no-store"),
    (b"content-encoding", b"identity"),
    (b"pragma", b"no-cache"),
)

OPENING = b":\r\n"
"""A comment. It is sent at once, since a browser's ``EventSource`` is open with the first byte."""


class EventStreamTransport:
    """One answer of type ``text/event-stream``.

    Args:
        send: the ASGI callable of the request.
        max_unsent: bytes kept while the client does not read.
        close_patience: seconds for them to be read before the end.
    """

    name: ClassVar[str] = "ServerSentEvents"

    def __init__(
        self, send: asgi.Send, *, max_unsent: int = MAX_UNSENT, close_patience: float = CLOSE_PATIENCE
    ) -> None:
        self._writer = AsgiWriter(send, max_unsent=max_unsent, close_patience=close_patience)

    async def serve(self, receive: asgi.Receive, connection: ClientConnection) -> None:
        """Answer until the client goes, or does not read what is written to it."""
        self._writer.write({"type": "http.response.start", "status": 200, "headers": list(HEADERS)}, 0)
        self._write(OPENING)
        await self._writer.serve(until_gone(receive), connection, self)

    def send(self, data: bytes, *, binary: bool) -> None:
        """Write ``data`` as one event; a line of it is a line of the event."""
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\ndata: ")
        self._write(b"data: " + lines + b"\r\n\r\n")

    def hang_up(self) -> None:
        """End the answer after what was written."""
        self._writer.finish({"type": "http.response.body"})

    def abort(self) -> None:
        """End without the end of the answer, as a network does that breaks."""
        self._writer.abort()

    def hold_back(self, released: asyncio.Event) -> None:
        """Write nothing until ``released`` is set, as if the client did not read."""
        self._writer.hold_back(released)

    def _write(self, data: bytes) -> None:
        self._writer.write({"type": "http.response.body", "body": data, "more_body": True}, len(data))


async def until_gone(receive: asgi.Receive) -> None:
    """Wait until a request is over: its client has gone, or its answer is complete."""
    while (await receive())["type"] != "http.disconnect":
        pass
