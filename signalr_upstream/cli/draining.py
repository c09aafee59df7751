"""The end of a served process: first the load balancer leaves, then the calls, then the process."""

import asyncio
import logging
import math
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import FrameType
from typing import cast

import uvicorn

from ..slow_heads import SlowHeads

_logger = logging.getLogger(__name__)

LINGER = 1.0
"""Seconds during which the port is closed and calls on open connections are answered with
``Connection: close``, so that busy callers leave without losing a call to a closed socket."""

LAST_ANSWERS = 2
"""Seconds to write the answers of calls that ran out of time, before their tasks are cancelled."""


class DrainingServer(uvicorn.Server):
    """uvicorn's server with an orderly end.

    Args:
        config: uvicorn's own options.
        drain_delay: seconds that calls are still taken after SIGTERM, for the load balancer to notice
            that ``/readyz`` says 503; 0 where there is none. After Ctrl-C they are left out.
        drain_timeout: seconds that running calls have once the port is closed.
        on_drain: called when the end begins.
        on_expire: called when ``drain_timeout`` is over, to answer what still runs.
        finish: waits, for so many seconds, for what the calls have left to do; called when all are answered.
        parent: end when this process is no longer our parent.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain_delay: float,
        drain_timeout: float,
        on_drain: Callable[[], None],
        on_expire: Callable[[], None],
        finish: Callable[[float], Awaitable[object]],
        parent: int | None = None,
    ) -> None:
        super().__init__(config)
        config.timeout_graceful_shutdown = math.ceil(drain_timeout) + LAST_ANSWERS
        self._drain_delay = drain_delay
        self._drain_timeout = drain_timeout
        self._on_drain = on_drain
        self._on_expire = on_expire
        self._finish = finish
        self._parent = parent
        self._first_signal: int | None = None
        self._heads = SlowHeads()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._first_signal is None:
            self._first_signal = sig
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            self._heads.close_slow(self.server_state.connections, now=time.monotonic())
            if self._parent is not None and os.getppid() != self._parent and not self.should_exit:
                _logger.error("the process that has started this worker is gone: ending")
                self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_drain()
        if self._first_signal != signal.SIGINT and self._drain_delay > 0:
            await self._drain()
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(self._drain_timeout, self._on_expire)
        # Among uvicorn's own tasks, for which it waits before it ends the lifespan.
        finishing = loop.create_task(self._finish_work(loop.time() + self._drain_timeout))
        self.server_state.tasks.add(finishing)
        finishing.add_done_callback(self.server_state.tasks.discard)
        await super().shutdown(sockets)
        expiry.cancel()

    async def _finish_work(self, end: float) -> None:
        while self.server_state.connections or len(self.server_state.tasks) > 1:  # noqa: ASYNC110 - uvicorn's own way
            await asyncio.sleep(0.1)
        await self._finish(max(0.0, end - asyncio.get_running_loop().time()))

    async def _drain(self) -> None:
        _logger.info("draining: calls are taken for %g more seconds", self._drain_delay)
        async for counter in self._ticks(self._drain_delay):
            await self.on_tick(counter)
        self.config.encoded_headers.append((b"connection", b"close"))
        # In place: answers that are being written hold this very list.
        self.server_state.default_headers.append((b"connection", b"close"))
        await self._close_port()
        async for _ in self._ticks(LINGER):
            if not self.server_state.connections:
                break

    async def _close_port(self) -> None:
        # Who has connected and is not accepted yet would be reset, with the call that is already on its way.
        listeners = [_again(listener) for server in self.servers for listener in server.sockets]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in [waiting for listener in listeners for waiting in _accept_all(listener)]:
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        kind = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _ticks(self, seconds: float) -> AsyncIterator[int]:
        for counter in range(round(seconds * 10)):
            if self.force_exit:
                return
            yield counter
            await asyncio.sleep(0.1)


def _again(listener: socket.socket) -> socket.socket:
    """The same port, which stays open while this is."""
    return socket.socket(fileno=os.dup(listener.fileno()))


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    """Everybody who has connected; the port is closed at once."""
    found = []
    with listener, suppress(OSError):  # nobody is left, or no file descriptor
        listener.setblocking(False)
        while True:
            found.append(listener.accept()[0])
    return found
