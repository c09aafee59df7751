"""Make REST calls: each built, signed and sent to the endpoints concerned, its answer judged.

Names and sizes are checked before anything is sent. No call is repeated.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final

import anyio
from msgspec import Struct

from .auth import TokenCache
from .connection_string import Endpoint, unusable_keys_reason
from .endpoints import Endpoints
from .errors import ConnectError, DeliveryUnknown, NoKeysError, ServiceError, TooLargeError
from .protocol import rest
from .protocol.rest import Operation
from .protocol.rest_errors import refusal
from .transport import Answer, Transport

MAX_IN_FLIGHT: Final = 16
"""Requests that one call with many targets has under way: a long list must not take every connection."""


class Request(Struct, frozen=True):
    """One request to one endpoint, built and checked."""

    endpoint: Endpoint
    operation: Operation
    path: str
    query: str
    body: bytes


class Delivery:
    """Makes the REST calls of one client.

    Args:
        application: prefix of all hubs; "" for none.
        timeout: seconds for each request.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        transport: Transport,
        *,
        application: str,
        timeout: float,
        api_version: str,
    ) -> None:
        self.endpoints = endpoints
        self.transport = transport
        self._application = application
        self._timeout = timeout
        self._api_version = api_version
        self._tokens = TokenCache()

    def prepare(
        self,
        operation: Operation,
        names: Mapping[str, str],
        *,
        origin: Endpoint | None = None,
        query: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> list[Request]:
        """One request for each endpoint concerned, or an error before the first is sent."""
        path, parameters = rest.build(
            operation, names, application=self._application, query=query, api_version=self._api_version
        )
        if len(body) > rest.MAX_BODY:
            raise TooLargeError(
                f"{operation.name}: the message has {len(body)} bytes, and the service takes {rest.MAX_BODY}",
                operation=operation.name,
            )
        if len(path) + len(parameters) > rest.MAX_TARGET:
            raise TooLargeError(
                f"{operation.name}: the URL has over {rest.MAX_TARGET} bytes. Exclude fewer connections.",
                operation=operation.name,
            )
        endpoints = self.endpoints.all if origin is None else (origin,)
        keyless = [endpoint for endpoint in endpoints if not endpoint.keys]
        if keyless or not endpoints:
            raise NoKeysError(unusable_keys_reason(keyless))
        return [Request(endpoint, operation, path, parameters, body) for endpoint in endpoints]

    async def _send(self, request: Request) -> Answer:
        """Make one request; every way to fail is a ServiceError that names the operation."""
        operation = request.operation
        token = self._tokens.rest_token(request.endpoint, request.path, now=time.time())
        headers = [("Authorization", f"Bearer {token}")]
        if request.body:
            headers.append(("Content-Type", rest.JSON_TYPE))
        url = request.endpoint.server_url + request.path + request.query
        try:
            answer = await self.transport.request(operation.method, url, headers, request.body, self._timeout)
        except (ConnectError, DeliveryUnknown) as exc:
            exc.operation = operation.name
            raise
        if not 200 <= answer.status < 300:
            raise refusal(operation.name, answer.status, answer.headers, answer.body)
        return answer

    async def send_all(self, requests: Sequence[Request]) -> list[ServiceError | None]:
        """Make several requests and wait for all; each one's error, or None."""
        outcomes: list[ServiceError | None] = [None] * len(requests)
        todo = iter(range(len(requests)))

        async def work() -> None:
            for index in todo:
                try:
                    await self._send(requests[index])
                except ServiceError as exc:
                    outcomes[index] = exc

        if len(requests) == 1:
            await work()
            return outcomes
        async with anyio.create_task_group() as group:
            for _ in range(min(MAX_IN_FLIGHT, len(requests))):
                group.start_soon(work)
        return outcomes
