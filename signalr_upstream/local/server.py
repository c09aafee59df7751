"""The port of the local service: uvicorn, set up for many WebSockets and for logs without secrets."""

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

import starlette.types as asgi
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from ..slow_heads import SlowHeads
from .clients.session import MAX_MESSAGE
from .clients.websocket import SOCKET

GRACE = 3
"""Seconds for requests that are being answered when the port is closed."""

LAST_WORDS = 1.0
"""Seconds for clients to read the end of what they were sent, when the port is closed."""

LINGER = 5.0
"""Seconds for a closed connection's peer to read what was written before; then it is gone for good. The system
would wait for ever for a peer that is there and does not read."""

MAX_BUFFERED = 4 * MAX_MESSAGE
"""Bytes written to a peer that does not read, past which it is dropped. Clients have a lower limit; this one is for
what is answered below them, such as pings of WebSocket."""

KEEP_ALIVE = 130
"""Seconds an idle HTTP connection is kept: the SDKs reuse theirs for up to 120 and do not repeat every request that
meets one as it is closed."""


class HideQueries(logging.Filter):
    """Cut queries off what uvicorn logs: they hold tokens. Wire dumps (DEBUG) hold headers, and are dropped."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record may pass; its arguments are changed."""
        if record.levelno < logging.INFO:
            return False
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.split("?", 1)[0] if isinstance(arg, str) and "?" in arg else arg for arg in record.args
            )
        return True


class Server:
    """Serves ``app`` on one port. With ``localhost`` also on IPv6's loopback, where there is one."""

    def __init__(self, app: asgi.ASGIApp, *, host: str, port: int) -> None:
        self._host = host
        self.port = port
        self._filter = HideQueries()
        self._task: asyncio.Task[None]
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws=_WebSocketProtocol,
                ws_per_message_deflate=False,  # 61 against 28 KiB a connection
                ws_max_size=MAX_MESSAGE + 1024,  # a bit more, so that the session says what is wrong
                ws_ping_interval=None,  # the hub protocol has its own
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=GRACE,
            )
        )

    async def start(self) -> None:
        """Open the port and serve.

        Raises:
            OSError: the port cannot be opened.
        """
        self._uvicorn.config.load()  # what can go wrong here is raised here, not in the task
        sockets = self._open()
        for logger in _loggers():
            logger.addFilter(self._filter)
        self._task = asyncio.create_task(self._uvicorn.serve(sockets))
        await self._uvicorn.serving.wait()

    async def stop(self) -> None:
        """Close the port and every connection."""
        self._uvicorn.should_exit = True
        await self._task
        for logger in _loggers():
            logger.removeFilter(self._filter)

    def _open(self) -> list[socket.socket]:
        first = "127.0.0.1" if self._host == "localhost" else self._host
        family = socket.AF_INET6 if ":" in first else socket.AF_INET
        sockets = [socket.create_server((first, self.port), family=family, backlog=2048)]
        self.port = sockets[0].getsockname()[1]
        if self._host == "localhost":
            with contextlib.suppress(OSError):
                sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6, backlog=2048))
        return sockets


class _WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets, with the extension ``SOCKET``."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            # uvicorn's type knows the extensions of the standard only, whose values are dicts.
            self.scope["extensions"][SOCKET] = self.transport  # type: ignore[assignment]

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            # uvicorn does not note it, and would log as an error that the app had not answered.
            self.handshake_complete = True


class StuckPeers:
    """Finds the connections whose peer does not read what is written to it, and drops them."""

    def __init__(self) -> None:
        self._closing: dict[Any, float] = {}  # connections that are being closed, and since when

    def drop(self, connections: Iterable[Any], *, patience: float, now: float) -> None:
        """Drop what has been closing for ``patience`` seconds at ``now``, and what has too much to read."""
        closing: dict[Any, float] = {}
        for connection in connections:
            if connection.transport.is_closing():
                closing[connection] = self._closing.get(connection, now)
            elif connection.transport.get_write_buffer_size() > MAX_BUFFERED:
                _reset(connection.transport)
        self._closing = closing
        for connection, since in closing.items():
            if now - since >= patience:
                _reset(connection.transport)


def _reset(transport: asyncio.Transport) -> None:
    """End a connection at once: after a plain close the system offers what is unread for minutes."""
    end = transport.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Uvicorn(uvicorn.Server):
    """uvicorn inside another program: it says when it serves, and leaves signals to that program."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()
        self._heads = SlowHeads()
        self._stuck = StuckPeers()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            self._heads.close_slow(self.server_state.connections, now=time.monotonic())
            self._drop_stuck(LINGER)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        end = asyncio.get_running_loop().call_later(LAST_WORDS, self._drop_stuck, 0.0)
        await super().shutdown(sockets)
        end.cancel()

    def _drop_stuck(self, patience: float) -> None:
        self._stuck.drop(self.server_state.connections, patience=patience, now=time.monotonic())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _loggers() -> list[logging.Logger]:
    return [logging.getLogger("uvicorn.error"), logging.getLogger("uvicorn.access")]
