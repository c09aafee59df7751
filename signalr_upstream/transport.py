"""How a REST call reaches the service: one small protocol.

A transport moves bytes. What a status means is the client's business.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

MAX_ANSWER: Final = 1024 * 1024
"""Bytes read of one answer: far above what the service has to say, and too few to fill our memory."""


class Answer(Struct, frozen=True):
    """What the service answered.

    Attributes:
        headers: names in lower case.
        body: at most ``MAX_ANSWER`` bytes; empty if it came compressed, which was not asked for.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """One request, one answer."""

    async def request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        timeout: float,  # noqa: ASYNC109 - a transport without anyio can keep it too
    ) -> Answer:
        """Send one request to an escaped, absolute URL and read the answer, whatever its status.

        Args:
            timeout: seconds for all of it.

        Raises:
            ConnectError: nothing was sent.
            DeliveryUnknown: something was sent, and no answer came.
        """
        ...

    async def aclose(self) -> None:
        """Close what this transport has opened itself."""
        ...
