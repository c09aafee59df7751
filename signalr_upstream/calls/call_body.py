"""What arrives of an upstream call: headers that came twice, and its body, within a size and a time."""

from collections.abc import Awaitable, Mapping

from starlette.types import Receive

from ..errors import BodyTimeoutError, BodyTooLargeError, InvalidMessageError
from ..protocol.messages import Invocation, StreamInvocation
from ..protocol.upstream import (
    CONTENT_LENGTH,
    HEADER_PREFIX,
    SIGNATURE,
    decode_json_invocation,
    decode_msgpack_invocation,
)
from .routing import Route
from .time_limit import TimeLimits


class BodyReader:
    """Reads the bodies of calls.

    Args:
        max_size: bytes of one body.
        timeout: seconds for one to arrive.
    """

    def __init__(self, time_limits: TimeLimits, *, max_size: int, timeout: float) -> None:
        self._time_limits = time_limits
        self._max_size = max_size
        self._digits = len(str(max_size))
        self._timeout = timeout

    def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> Awaitable[bytes | None]:
        """The body; None if the caller hung up.

        Raises:
            BodyTooLargeError: it is larger, or says so.
            TimeLimitPassed: it does not come; ``late`` says so to the caller.
        """
        limit = self._max_size
        length = headers.get(CONTENT_LENGTH, b"0")
        # The server has checked its form; a number of fewer digits than the limit's is below it.
        if len(length) >= self._digits and (not length.isdigit() or int(length[:20]) > limit):
            raise BodyTooLargeError(f"the body is larger than {limit} bytes")
        return self._time_limits.within(self._timeout, _read_pieces(receive, limit))

    def late(self) -> BodyTimeoutError:
        """What its caller is told of a body that does not come."""
        return BodyTimeoutError(f"the body did not arrive within {self._timeout:g} seconds")


def decode_invocation(body: bytes, route: Route) -> Invocation | StreamInvocation:
    """The message of a call of a hub method.

    Raises:
        InvalidMessageError: it is none, or not the one that the headers name.
    """
    message = decode_msgpack_invocation(body) if route.binary else decode_json_invocation(body)
    if message.target != route.event and message.target.lower() != route.event.lower():
        raise InvalidMessageError("the invocation's target is not the event in X-ASRS-Event")
    return message


def join_repeated(lines: list[tuple[bytes, bytes]], headers: dict[bytes, bytes]) -> bytes | None:
    """Join repeated signature lines in ``headers``; the name of another repeated header that matters, or None."""
    seen: set[bytes] = set()
    repeated = None
    for name, _ in lines:
        if name in seen and name != SIGNATURE and name.startswith((HEADER_PREFIX, b"content-")):
            repeated = name
        seen.add(name)
    headers[SIGNATURE] = b",".join(value for name, value in lines if name == SIGNATURE)
    return repeated


async def _read_pieces(receive: Receive, limit: int) -> bytes | None:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise BodyTooLargeError(f"the body is larger than {limit} bytes")
        pieces.append(piece)
        if not message.get("more_body", False):
            return piece if len(pieces) == 1 else b"".join(pieces)
