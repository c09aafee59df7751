"""The long-polling transport: messages out as answers to the client's polls, in with POST requests.

A poll is answered as soon as there is something to say. The connection lives between the polls, and ends when none
comes any more. The client's POSTs and its DELETE are ``client_endpoint``'s business.

Spec: https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/TransportProtocols.md
"""

import asyncio
from typing import ClassVar

import starlette.types as asgi
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from ..admission import unauthorized
from ..clock import Clock, Timer
from .asgi_writer import MAX_UNSENT
from .client_connection import ClientConnection
from .reasons import NOT_READING
from .sse import until_gone

POLL_TIMEOUT = 90.0
"""Seconds after which a poll is answered though there is nothing to say; ASP.NET's number. Clients wait for 100."""

DISCONNECT_TIMEOUT = 15.0
"""Seconds without a poll after which the client is taken for gone; ASP.NET's number."""

NO_CACHE = {
    "Cache-Control": "no-cache, no-store",
    "Expires": "Thu, 01 Jan 1970 00:00:00 GMT",
    "Pragma": "no-cache",
}
"""Headers of every answer to a poll, errors included."""


class LongPollingTransport:
    """What waits for one client's next poll.

    Args:
        max_unsent: bytes kept for it; past them the client is cut off.
    """

    name: ClassVar[str] = "LongPolling"

    def __init__(self, *, clock: Clock, max_unsent: int = MAX_UNSENT) -> None:
        self._clock = clock
        self._max_unsent = max_unsent
        self._unsent = bytearray()
        self._closing = False
        self._cut_off = False
        self._ended = asyncio.Event()
        self._released = asyncio.Event()
        self._released.set()
        self._opened = False
        self._polls = 0  # that are being answered: more than one when a client has not waited for the last
        self._woken: asyncio.Future[None] | None = None  # what the newest of them waits for
        self._absence = self._until_gone()  # runs while there is no poll

    async def serve(self, connection: ClientConnection) -> None:
        """Wait until it is over: told to end and the client knows, or no poll comes, or too much is unsent."""
        try:
            await self._ended.wait()
        finally:
            self._absence.cancel()
            connection.disconnect(NOT_READING if self._cut_off else None)

    def send(self, data: bytes, *, binary: bool) -> None:
        """Keep ``data`` for the poll that waits, or for the next one."""
        if self._closing:
            return
        self._unsent += data
        if len(self._unsent) > self._max_unsent:
            self._cut_off = True
            self.end()
        self._wake()

    def hang_up(self) -> None:
        """End when the client has fetched what there is."""
        self._closing = True
        self._wake()

    def end(self) -> None:
        """End now, whatever is unsent: the client has said that it goes."""
        self._unsent.clear()
        self._ended.set()
        self.hang_up()

    def abort(self) -> None:
        """End as ``end``: there is no connection that could break."""
        self.end()

    def hold_back(self, released: asyncio.Event) -> None:
        """Answer no poll until ``released`` is set, as if the client sent none."""
        self._released = released

    async def poll(self, receive: asgi.Receive, *, until: float) -> Response:
        """The answer to one poll; a poll that still waits is told to go.

        Args:
            until: Unix seconds, when its token expires.

        Raises:
            Refused: its token has expired.
            ClientDisconnect: the client has gone without waiting; nothing is lost with it.
        """
        self._absence.cancel()
        self._polls += 1
        try:
            await self._released.wait()
            return await self._answer(receive, until)
        finally:
            self._polls -= 1
            if not (self._polls or self._ended.is_set()):
                self._absence = self._until_gone()

    async def _answer(self, receive: asgi.Receive, until: float) -> Response:
        self._wake()
        self._woken = None
        if not self._opened:  # the first one only shows that there is a way
            self._opened = True
            return _messages(b"")
        if not (self._unsent or self._closing):
            newest = await self._wait(receive, min(until, self._clock.time() + POLL_TIMEOUT))
            if not newest:
                return _nothing(204)
        if self._unsent:
            messages = bytes(self._unsent)
            self._unsent.clear()
            return _messages(messages)
        if self._closing:
            self._ended.set()
            return _nothing(204)
        if self._clock.time() >= until:
            raise unauthorized("The token expired while the poll was waiting.")
        return _nothing(200)

    async def _wait(self, receive: asgi.Receive, until: float) -> bool:
        """Wait until there is something to say, or the time is over. False: another poll has come."""
        woken = self._woken = asyncio.get_running_loop().create_future()
        timer = self._clock.call_at(until, self._wake)
        gone = asyncio.create_task(until_gone(receive))
        try:
            await asyncio.wait((woken, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ClientDisconnect
            return self._woken is woken
        finally:
            timer.cancel()
            gone.cancel()
            if self._woken is woken:
                self._woken = None

    def _until_gone(self) -> Timer:
        return self._clock.call_at(self._clock.time() + DISCONNECT_TIMEOUT, self.end)

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


def _messages(data: bytes) -> Response:
    return Response(data, 200, NO_CACHE, media_type="application/octet-stream")


def _nothing(status: int) -> Response:
    return Response(status_code=status, headers=NO_CACHE | {"Content-Type": "text/plain"})
