"""How a REST call reaches the service: one small protocol.

A transport moves bytes. What a status means is the client's business.
"""

from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

from msgspec import Struct

MAX_ANSWER: Final = 1024 * 1024
"""Bytes read of one answer: far above what the service has to say, and too few to fill our memory."""


class Answer(Struct, frozen=True):
    """What the service answered.

    Attributes:
        raw_headers: names in lower case.
        body: at most ``MAX_ANSWER`` bytes; empty if it came compressed, which was not asked for.
    """

    status: int
    raw_headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Names in lower case. Made when asked for: most answers are looked at no further than their status."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.raw_headers}


class Transport(Protocol):
    """One request, one answer."""

    def request(
        self,
        method: str,
        base: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        timeout: float,
    ) -> Awaitable[Answer]:
        """Send one request and read the answer, whatever its status.

        Args:
            base: scheme, host, port and the path of a gateway, without a slash at the end.
            target: escaped path and query.
            timeout: seconds for all of it.

        Raises:
            ConnectError: nothing was sent.
            DeliveryUnknown: something was sent, and no answer came.
        """
        ...

    async def aclose(self) -> None:
        """Close what this transport has opened itself."""
        ...
