"""One request to the app, within a time limit and as often as it takes; each attempt is in the journal.

Where it is switched on, what failed is tried again as the service does, so that an app gets the same message twice
when its first answer was lost: that is how an app is tested for it.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import httpx
from msgspec import Struct

from ...errors import DeliveryUnknown
from ...protocol.upstream import MAX_ANSWER
from ..clock import time_limit
from ..faults import FAULT_HEADER, Faults, pause
from ..records.entries import UpstreamCall
from ..records.journal import Journal
from .templates import origin

RETRY_PAUSES = (1.0, 3.0, 5.0)
"""Seconds before each further attempt. They, and what is tried again, are those of Azure Web PubSub's runtime, the
service's sibling; for the service itself they are not documented."""

CONNECT_INTERVAL = 0.1
"""Seconds between attempts to reach an app that is being restarted."""

MAX_REDIRECTS = 50
"""Redirects that are followed one after the other; .NET's number."""

_POST_AGAIN = frozenset((HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT))
_GET_INSTEAD = frozenset((HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER))
_OF_THE_BODY = frozenset((b"content-type", b"content-length"))

_log = logging.getLogger("signalr_upstream.local")

Headers = Sequence[tuple[bytes, bytes]]


class Post(Struct, frozen=True):
    """What is sent, for whom, and about what."""

    connection_id: str
    hub: str
    category: str
    event: str
    url: str
    headers: Headers
    body: bytes
    method: str = "POST"

    def request(self) -> httpx.Request:
        """It as a request; ``Host`` and ``Content-Length`` are added where they are missing.

        Raises:
            httpx.InvalidURL: the URL is too long, or is none.
        """
        return httpx.Request(self.method, self.url, headers=list(self.headers), content=self.body)

    def __repr__(self) -> str:
        return f"<Post of {self.event[:100]!r} to {origin(self.url)}>"


class Answer(NamedTuple):
    """What the app answered; of a body over ``MAX_ANSWER`` its start."""

    status: int
    headers: Headers
    body: bytes


class UnreachableError(Exception):
    """No answer; the text says why."""


class Attempts:
    """The way to the app.

    Args:
        transport: how a request travels. It follows no redirect: the signature would go along.
        timeout: seconds for all attempts together.
        patience: seconds for which a refused connection is tried again, since the app may be restarting.
        retry: whether connection errors, 408 and 5xx are tried again after ``RETRY_PAUSES``.
        follow_redirects: to the same scheme, host and port, as Microsoft's emulator; it would go anywhere.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        journal: Journal,
        faults: Faults,
        timeout: float,
        patience: float,
        retry: bool,
        follow_redirects: bool,
    ) -> None:
        self._transport = transport
        self._clock = journal.clock
        self._journal = journal
        self._faults = faults
        self._timeout = timeout
        self._patience = patience
        self._pauses = RETRY_PAUSES if retry else ()
        self._follow_redirects = follow_redirects

    async def send(self, post: Post) -> Answer:
        """Send until there is an answer to go by.

        Raises:
            UnreachableError: there is none.
        """
        if self._faults.upstream_duplicate:
            await self._send(post)
        return await self._send(post)

    async def repeat(self, post: Post) -> UpstreamCall:
        """Send once; the answer is in the journal alone."""
        request = post.request()
        call = self._note(post, request)
        with contextlib.suppress(UnreachableError, TimeoutError):
            async with time_limit(self._clock, self._timeout):
                await self._exchange(call, request)
        return call

    async def _send(self, post: Post) -> Answer:
        try:
            async with time_limit(self._clock, self._timeout):
                for pause_before_next in self._pauses:
                    answer = await self._try(post)
                    if isinstance(answer, Answer) and not _is_retried(answer.status):
                        return answer
                    reason = f"status {answer.status}" if isinstance(answer, Answer) else str(answer)
                    _log.info(
                        "%r of hub %r: %s; again in %g s",
                        post.event[:100],
                        post.hub,
                        reason,
                        pause_before_next,
                    )
                    await pause(self._clock, pause_before_next)
                answer = await self._try(post)
        except TimeoutError:
            raise UnreachableError(
                f"the app at {origin(post.url)} did not answer within {self._timeout:g} seconds"
            ) from None
        if isinstance(answer, UnreachableError):
            raise answer
        return answer

    async def _try(self, post: Post) -> Answer | UnreachableError:
        """One attempt, and where they are followed its redirects."""
        try:
            request = post.request()
            answer = await self._exchange(self._note(post, request), request)
            for _ in range(MAX_REDIRECTS if self._follow_redirects else 0):
                following = _redirected(request, answer)
                if following is None:
                    break
                request = following
                answer = await self._exchange(self._note(post, request), request)
        except httpx.InvalidURL as error:
            return _failure(post.url, error)
        except UnreachableError as error:
            return error
        return answer

    def _note(self, post: Post, request: httpx.Request) -> UpstreamCall:
        """The entry of the journal for one request that is about to be sent."""
        call = UpstreamCall(
            connection_id=post.connection_id,
            hub=post.hub,
            category=post.category,
            event=post.event,
            request=self._journal.request(
                request.method, str(request.url), request.headers.raw, request.content
            ),
            start=self._journal.clock.time(),
        )
        self._journal.upstream_called(call)
        return call

    async def _exchange(self, call: UpstreamCall, request: httpx.Request) -> Answer:
        try:
            await pause(self._clock, self._faults.upstream_latency)
            if self._faults.upstream_status is not None:
                headers = [(FAULT_HEADER.encode(), b"upstream_status")]
                answer = Answer(self._faults.upstream_status, headers, b"")
            else:
                answer = await self._read(await self._connect(request))
        except httpx.HTTPError as error:
            failure = _failure(str(request.url), error)
            self._journal.upstream_answered(call, str(failure))
            raise failure from None
        except asyncio.CancelledError:
            self._journal.upstream_answered(call, "the service gave it up")
            raise
        self._journal.upstream_answered(call, self._journal.answer(*answer))
        return answer

    async def _connect(self, request: httpx.Request) -> httpx.Response:
        """Send; where nothing listens, wait for an app that is being restarted."""
        until = self._clock.time() + self._patience
        while True:
            try:
                return await self._transport.handle_async_request(request)
            except httpx.ConnectError:
                if self._clock.time() >= until:
                    raise
            await pause(self._clock, CONNECT_INTERVAL)

    async def _read(self, response: httpx.Response) -> Answer:
        try:
            body = bytearray()
            async for chunk in response.stream:  # type: ignore[union-attr]  # always async here
                body += chunk
                if len(body) > MAX_ANSWER:
                    break  # one byte over is enough to be told so
            return Answer(response.status_code, response.headers.raw, bytes(body))
        finally:
            await response.aclose()


def _is_retried(status: int) -> bool:
    return status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _redirected(request: httpx.Request, answer: Answer) -> httpx.Request | None:
    """The request that a redirect asks for, if it leads to where the answer came from."""
    location = httpx.Headers(list(answer.headers)).get("location")
    if location is None or answer.status not in _POST_AGAIN | _GET_INSTEAD:
        return None
    url = request.url.join(location)
    if (url.scheme, url.host, url.port) != (request.url.scheme, request.url.host, request.url.port):
        return None
    if answer.status in _POST_AGAIN:
        return httpx.Request("POST", url, headers=request.headers.raw, content=request.content)
    headers = [item for item in request.headers.raw if item[0].lower() not in _OF_THE_BODY]
    return httpx.Request("GET", url, headers=headers)


def _failure(url: str, error: Exception) -> UnreachableError:
    return UnreachableError(f"the app at {origin(url)} failed: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Why, for people. The text of an error of httpx may quote the URL."""
    if isinstance(error.__cause__, DeliveryUnknown):
        return str(error.__cause__)
    if not isinstance(error, httpx.ConnectError):
        return type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror | UnicodeError):
            return "there is no such host"
        if isinstance(cause, OSError) and cause.errno == errno.EMFILE:
            return "this process may open no more files: allow it more (ulimit -n)"
        if isinstance(cause, ssl.SSLError):
            return "no TLS with it, or its certificate is not one of a public authority: use http on this machine"
        cause = cause.__cause__ or cause.__context__
    return "nothing listens there"
