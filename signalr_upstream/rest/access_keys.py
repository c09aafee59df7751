"""The key that client tokens are signed with: the access key, or with Entra ID a temporary one of the service's."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from ..connection_string import Endpoint, counts_as_none
from ..entra import Lasting, Renewed
from ..errors import ServiceError
from ..protocol import rest
from ..protocol.rest_paths import Resource
from ..telemetry import Observer, tell
from .delivery import Delivery, Request

LIFETIME: Final = 90 * 60.0
"""Seconds a temporary key is taken for good. The service changes its own every hour and takes old ones longer."""

EARLY: Final = 35 * 60.0
"""Seconds before its end in which the next one is fetched beside: each lives for 55 minutes, as in Microsoft's SDK."""


class SigningKey(Struct, frozen=True):
    """A key and, for a temporary one, the id by which the service finds it."""

    key: str
    key_id: str | None = None

    def __repr__(self) -> str:
        return f"SigningKey(key=<redacted>, key_id={self.key_id!r})"


class _Answer(Struct):
    key: str = msgspec.field(name="AccessKey")
    key_id: str = msgspec.field(name="KeyId")


class AccessKeys:
    """Signing keys by endpoint; temporary ones are fetched with the first client token that needs one."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        api_version: str,
        clock: Callable[[], float] = time.time,
        telemetry: Sequence[Observer] = (),
    ) -> None:
        self._delivery = delivery
        self._resource = Resource.of_service(rest.ACCESS_KEY, api_version=api_version)
        self._clock = clock
        self._telemetry = telemetry
        self._temporary: dict[str, Renewed[SigningKey]] = {}  # by url
        self._endpoints: dict[str, Endpoint] = {}  # by url, as they were last: credentials may change

    async def of(self, endpoint: Endpoint) -> SigningKey:
        """The key for client tokens of ``endpoint``.

        Raises:
            ServiceError: no temporary key could be had.
        """
        if endpoint.keys:
            return SigningKey(endpoint.keys[0])
        url = endpoint.url
        self._endpoints[url] = endpoint
        renewed = self._temporary.get(url)
        if renewed is None:
            renewed = Renewed(lambda: self._fetch(url), early=EARLY, clock=self._clock)
            self._temporary[url] = renewed
        return await renewed.get()

    async def _fetch(self, url: str) -> Lasting[SigningKey]:
        request = Request(rest.ACCESS_KEY, self._resource, idempotent=True)
        answer = await self._delivery.make(self._endpoints[url], request)
        try:
            found = msgspec.json.decode(answer.body, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = _Answer("", "")
        if counts_as_none(found.key) or not found.key_id:
            raise ServiceError(
                "access_key: the answer has no usable AccessKey and KeyId (is this the SignalR service?)",
                operation="access_key",
                status=answer.status,
            )
        tell(self._telemetry, lambda observer: observer.fetched("temporary_key", url))
        return Lasting(SigningKey(found.key, found.key_id), self._clock() + LIFETIME)
