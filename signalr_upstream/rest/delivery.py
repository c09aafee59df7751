"""Make REST calls: signed, sent, judged, and repeated where that is safe."""

import asyncio
import functools
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from ..auth import MAX_CACHED_PATH, TokenCache
from ..connection_string import Endpoint
from ..endpoints import Endpoints
from ..entra import EntraToken
from ..errors import ConnectError, DeliveryUnknown, ServiceError, UnauthorizedError
from ..protocol import rest
from ..protocol.rest import Operation
from ..protocol.rest_errors import refusal
from ..protocol.rest_paths import Resource
from ..telemetry import Observed, Observer, RestRequest
from ..transports.transport import Answer, Transport
from .health import Health
from .repeating import may_repeat, repeat
from .turns import Turns

MAX_IN_FLIGHT: Final = 16
"""Requests that one call with many targets has under way: a long list must not take every connection."""

TIMEOUT: Final = 10.0
"""Seconds for one attempt."""

TOTAL_TIMEOUT: Final = 30.0
"""Seconds for a call with all its attempts and the waits between them."""

MAX_HEADERS: Final = 1024
"""Tokens whose headers are remembered, if they are kept themselves."""

LOOK_TIMEOUT: Final = 2.0
"""Seconds for an endpoint to say that it is well."""


class Request(Struct, frozen=True):
    """What is asked of an endpoint, built and checked.

    Attributes:
        idempotent: made twice it does no more than once. True of all that is no send.
        names: of the group, user or connection, raw, in the order of the path.
    """

    operation: Operation
    resource: Resource
    body: bytes = b""
    content_type: str = ""
    idempotent: bool = False
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Request {self.operation.name}>"


class Delivery:
    """Makes the REST calls of one client.

    Args:
        timeout: seconds for each attempt.
        total_timeout: seconds for each call.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        transport: Transport,
        *,
        timeout: float = TIMEOUT,
        total_timeout: float = TOTAL_TIMEOUT,
        telemetry: Sequence[Observer] = (),
    ) -> None:
        self.health = Health(self._is_well)
        self.turns = Turns()
        self._endpoints = endpoints
        self._transport = transport
        self._timeout = timeout
        self._total_timeout = total_timeout
        self._observe = [observer.request for observer in telemetry]
        self._attempt = self._observed if telemetry else self._exchange
        self._tokens = TokenCache()
        self._entra: dict[str, EntraToken] = {}  # by url

    async def make(self, endpoint: Endpoint, request: Request, *, timeout: float | None = None) -> Answer:
        """Make one call; every way to fail is a ServiceError that names the operation.

        Args:
            timeout: seconds for one attempt, and then for all; None for those of this client.
        """
        started = time.monotonic()
        total = self._total_timeout if timeout is None else timeout
        each = min(self._timeout if timeout is None else timeout, total)
        try:
            return await self._attempt(endpoint, request, each)
        except ServiceError as error:
            # Raised from here: an error that a variable holds is left to the garbage collector, with all its frames.
            if not isinstance(error, UnauthorizedError) and not may_repeat(
                error, idempotent=request.idempotent
            ):
                raise
            first = error
        return await self._make_again(endpoint, request, first, each, deadline=started + total)

    async def _make_again(
        self, endpoint: Endpoint, request: Request, first: ServiceError, each: float, *, deadline: float
    ) -> Answer:
        """Make a call again that failed with ``first``, if that is safe."""
        resends = itertools.count(1)
        if isinstance(first, UnauthorizedError):
            try:
                return await self._attempt_anew(endpoint, request, each, first, resends)
            except ServiceError as error:
                first = error
        if not may_repeat(first, idempotent=request.idempotent):
            raise first
        left = deadline - time.monotonic()
        return await repeat(
            first,
            lambda left: self._attempt_again(endpoint, request, min(each, left), resends),
            idempotent=request.idempotent,
            deadline=asyncio.get_running_loop().time() + left,
        )

    async def _attempt_again(
        self, endpoint: Endpoint, request: Request, timeout: float, resends: Iterator[int]
    ) -> Answer:
        """One more attempt; keys may have changed since the first one."""
        try:
            return await self._attempt(endpoint, request, timeout, next(resends))
        except UnauthorizedError as error:
            return await self._attempt_anew(endpoint, request, timeout, error, resends)

    async def _attempt_anew(
        self,
        endpoint: Endpoint,
        request: Request,
        timeout: float,
        refused: UnauthorizedError,
        resends: Iterator[int],
    ) -> Answer:
        """An attempt with another token, if there is one by now."""
        fresh = await self._after_refusal(endpoint, refused, timeout)
        if fresh is None:
            raise refused
        return await self._attempt(fresh, request, timeout, next(resends))

    async def make_all(self, calls: Sequence[tuple[Endpoint, Request]]) -> list[Answer | ServiceError]:
        """Make several calls, wait for all, and give what became of each."""
        outcomes: list[Answer | ServiceError] = [_NOT_MADE] * len(calls)
        todo = iter(range(len(calls)))

        async def work() -> None:
            for index in todo:
                try:
                    outcomes[index] = await self.make(*calls[index])
                except ServiceError as error:
                    outcomes[index] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(MAX_IN_FLIGHT, len(calls))):
                group.create_task(work())
        return outcomes

    async def _observed(
        self, endpoint: Endpoint, request: Request, timeout: float, resend: int = 0
    ) -> Answer:
        operation = request.operation
        seen = RestRequest(
            operation.name, operation.method, operation.path, endpoint.server_url, resend, headers=[]
        )
        with Observed(self._observe, seen):
            try:
                answer = await self._exchange(endpoint, request, timeout, resend, seen.headers)
            except ServiceError as error:
                seen.status, seen.error_type = error.status, type(error).__name__
                raise
            seen.status, seen.error_type = answer.status, ""
            return answer

    async def _exchange(
        self,
        endpoint: Endpoint,
        request: Request,
        timeout: float,
        resend: int = 0,
        further: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        operation = request.operation
        token = (
            self._tokens.rest_token(endpoint, request.resource.path, now=time.time())
            if endpoint.keys
            else await self._entra_token(endpoint).get(timeout=timeout)
        )
        is_kept = len(request.resource.path) <= MAX_CACHED_PATH
        headers = (_remembered if is_kept else _headers)(token, request.content_type)
        try:
            answer = await self._transport.request(
                operation.method,
                endpoint.server_url,
                request.resource.target,
                (*headers, *further) if further else headers,
                request.body,
                timeout=timeout,
            )
        except (ConnectError, DeliveryUnknown) as error:
            # A client that does not answer in time says nothing of the endpoint.
            if operation is not rest.INVOKE_CONNECTION or isinstance(error, ConnectError):
                self.health.failed(endpoint)
            error.operation = operation.name
            raise
        if answer.status in _DOWN:
            self.health.failed(endpoint)
        else:
            self.health.answered(endpoint)
        if not 200 <= answer.status < 300:
            raise refusal(operation, answer.status, answer.headers, answer.body)
        return answer

    def _entra_token(self, endpoint: Endpoint) -> EntraToken:
        token = self._entra.get(endpoint.url)
        if token is None or token.credential != endpoint.credential:  # the secret of one may change
            token = self._entra[endpoint.url] = EntraToken(endpoint.credential)
        return token

    async def _after_refusal(
        self, endpoint: Endpoint, error: UnauthorizedError, timeout: float
    ) -> Endpoint | None:
        """Our token was refused, so nothing was done. Where there is another one by now, the endpoint to try it at."""
        if endpoint.keys:
            return await self._endpoints.after_refusal(endpoint, timeout=timeout)
        # The service had not heard of the key of a token that was good: it may have by the next one.
        if _UNKNOWN_KEY in str(error):
            self._entra_token(endpoint).forget()
            return endpoint
        return None

    async def _is_well(self, endpoint: Endpoint) -> bool:
        """Ask an endpoint for its health, which needs no token."""
        try:
            answer = await self._transport.request(
                rest.HEALTH.method,
                endpoint.server_url,
                Resource.of_service(rest.HEALTH).target,
                (),
                b"",
                timeout=LOOK_TIMEOUT,
            )
        except (ConnectError, DeliveryUnknown):
            return False
        return 200 <= answer.status < 300


def _headers(token: str, content_type: str) -> tuple[tuple[str, str], ...]:
    """The headers of a request; remembered they are the same object again, so that a transport may know it again."""
    kind = (("Content-Type", content_type),) if content_type else ()
    return (("Authorization", f"Bearer {token}"), *kind)


_remembered = functools.lru_cache(MAX_HEADERS)(_headers)


_DOWN: Final = (502, 503, 504)
_UNKNOWN_KEY: Final = "signature key was not found"
_NOT_MADE = ServiceError("not made")
