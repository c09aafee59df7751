"""The REST calls of one hub: to which endpoints each goes, and what their answers mean together."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from ..connection_string import Endpoint
from ..endpoints import Endpoints
from ..errors import NotFoundError, PartialDelivery, ServiceError, TooLargeError
from ..protocol import rest
from ..protocol.rest import Operation
from ..protocol.rest_bodies import BodyEncoder
from ..protocol.rest_paths import HubPaths
from ..router import Router
from ..transports.transport import Answer
from .delivery import Delivery, Request

Query = Sequence[tuple[str, str]]


class HubCalls:
    """What ``client``, ``targets`` and ``memberships`` make their calls with.

    Args:
        origin: ``url`` of the endpoint that the connections talked about belong to; "" to ask all.
    """

    def __init__(
        self,
        name: str,
        paths: HubPaths,
        *,
        endpoints: Endpoints,
        delivery: Delivery,
        bodies: BodyEncoder,
        origin: str,
        router: Router,
    ) -> None:
        self.name = name
        self.bodies = bodies
        self._paths = paths
        self._endpoints = endpoints
        self._delivery = delivery
        self._origin = origin
        self._router = router

    def prepare(
        self,
        operation: Operation,
        names: tuple[str, ...] = (),
        query: Query = (),
        body: bytes = b"",
        *,
        idempotent: bool = False,
    ) -> Request:
        """Build a request, or raise before anything is sent.

        Raises:
            InvalidNameError: a name that the service does not take.
            TooLargeError: a body over 1 MB, or a URL over 12 KB.
        """
        resource = self._paths.resource(operation, names, query)
        if len(body) > rest.MAX_BODY:
            raise TooLargeError(
                f"{operation.name}: the message has {len(body)} bytes, and the service takes {rest.MAX_BODY}",
                operation=operation.name,
            )
        if len(resource.target) > rest.MAX_TARGET:
            raise TooLargeError(
                f"{operation.name}: the URL has over {rest.MAX_TARGET} bytes. Exclude fewer connections.",
                operation=operation.name,
            )
        content_type = "" if not body else self.bodies.content_type
        if operation.body is rest.Body.COMMANDS:
            content_type = rest.JSON_TYPE
        return Request(operation, resource, body, content_type, idempotent or operation.idempotent, names)

    def send(self, request: Request) -> Awaitable[object]:
        """Make one send, at every endpoint concerned.

        Raises:
            PartialDelivery: several endpoints, and not all took it.
            ServiceError: the one there was failed.
        """
        endpoints = self.concerned(request)
        if len(endpoints) == 1:
            return self._delivery.make(endpoints[0], request)
        return self._send_each({"": request}, {"": endpoints})

    async def send_all(self, requests: Mapping[str, Request]) -> None:
        """Make several sends at a time; all are waited for.

        Args:
            requests: by what they are called in ``PartialDelivery``.

        Raises:
            PartialDelivery: several targets, or several endpoints for one, and not all took it.
        """
        if requests:
            concerned = {name: self.concerned(request) for name, request in requests.items()}
            await self._send_each(requests, concerned)

    async def _send_each(
        self, requests: Mapping[str, Request], concerned: Mapping[str, Sequence[Endpoint]]
    ) -> None:
        operation = next(iter(requests.values())).operation
        outcomes = iter(
            await self._delivery.make_all(
                [
                    (endpoint, requests[name])
                    for name, endpoints in concerned.items()
                    for endpoint in endpoints
                ]
            )
        )
        failures: dict[str, ServiceError] = {}
        for name, endpoints in concerned.items():
            errors = {
                endpoint.url: outcome
                for endpoint in endpoints
                if isinstance(outcome := next(outcomes), ServiceError)
            }
            if len(errors) < len(endpoints):
                # A connection lives at one endpoint: the others may well not know it.
                errors = {url: e for url, e in errors.items() if not is_absence(operation, e)}
            failures |= {(name if len(requests) > 1 else url): error for url, error in errors.items()}
        total = len(requests) if len(requests) > 1 else len(next(iter(concerned.values())))
        _raise_failures(operation, failures, total=total)

    async def ask(self, operation: Operation, *names: str, query: Query = (), body: bytes = b"") -> bool:
        """Make a call at each endpoint concerned.

        Returns:
            False if the service says that there is no such connection, user or group.
        """
        request = self.prepare(operation, names, query=query, body=body)
        endpoints = self.concerned(request)
        if len(endpoints) == 1:
            return await self._ask_one(endpoints[0], request)
        outcomes = await self._delivery.make_all([(endpoint, request) for endpoint in endpoints])
        found = sum(isinstance(outcome, Answer) for outcome in outcomes)
        if found and operation.method == "HEAD":
            return True
        failures = {
            endpoint.url: outcome
            for endpoint, outcome in zip(endpoints, outcomes, strict=True)
            if isinstance(outcome, ServiceError) and not is_absence(operation, outcome)
        }
        _raise_failures(operation, failures, total=len(endpoints))
        return found > 0

    async def fetch(self, request: Request, *, timeout: float | None = None) -> Answer:
        """Make a call at one endpoint after the other, until one knows what is talked about.

        Raises:
            ServiceError: none does, or one failed.
        """
        *others, last = self.concerned(request)
        for endpoint in others:
            try:
                return await self._delivery.make(endpoint, request, timeout=timeout)
            except NotFoundError as error:
                if not is_absence(request.operation, error):
                    raise
        return await self._delivery.make(last, request, timeout=timeout)

    async def invoke(self, request: Request, *, timeout: float) -> Answer:
        """As ``fetch``, for what waits for a client: only so many at a time.

        Raises:
            ConnectError: as many clients are asked as may be, and none has answered.
        """
        async with self._delivery.turns.take(timeout) as left:
            return await self.fetch(request, timeout=left)

    async def make(self, endpoint: Endpoint, request: Request) -> Answer:
        """Make a call at one endpoint."""
        return await self._delivery.make(endpoint, request)

    async def _ask_one(self, endpoint: Endpoint, request: Request) -> bool:
        try:
            await self._delivery.make(endpoint, request)
        except NotFoundError as error:
            if not is_absence(request.operation, error):
                raise
            return False
        return True

    def concerned(self, request: Request) -> Sequence[Endpoint]:
        """The endpoints that a call goes to.

        Raises:
            NoKeysError: one has no usable key, or there is none at all.
            ConfigurationError: the endpoint of the connection is gone from the configuration.
        """
        endpoints = self._endpoints.for_sending
        if len(endpoints) == 1:
            return endpoints
        operation = request.operation
        if self._origin and "{connection}" in operation.path:
            return (self._endpoints.at(self._origin),)
        return self._router.send(
            self._delivery.health.well(endpoints),
            hub=self.name,
            operation=operation.name,
            names=request.names,
        )


def is_absence(operation: Operation, error: Any) -> bool:
    """Whether the service says, by its error code, that what was asked about is not there."""
    if not isinstance(error, NotFoundError):
        return False
    return (error.error_code or "").lower() in (known.lower() for known in operation.absent)


def _raise_failures(operation: Operation, failures: Mapping[str, ServiceError], *, total: int) -> None:
    if failures:
        raise PartialDelivery(operation.name, failures, total - len(failures))
