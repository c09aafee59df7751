"""Close sockets that never finish a request head; for every uvicorn server of this package."""

from collections.abc import Iterable
from typing import Any

HEAD_TIMEOUT = 10.0
"""Seconds for a complete request head. The service needs milliseconds; a socket that only waits costs a
file descriptor, and a few thousand of them all of the process's."""


class SlowHeads:
    """Finds the connections that have waited for a complete request head too long, and closes them.

    It looks at all connections once a second and adds nothing to a request.
    """

    def __init__(self) -> None:
        # The request before the missing one (None at first), and when we first saw the connection so.
        self._waiting: dict[Any, tuple[object, float]] = {}

    def close_slow(self, connections: Iterable[Any], *, now: float) -> None:
        """Close what waits for ``HEAD_TIMEOUT`` or more at ``now``."""
        waiting: dict[Any, tuple[object, float]] = {}
        for connection in connections:
            if not _is_without_head(connection):
                continue
            last, since = self._waiting.get(connection, (None, now))
            if last is not connection.cycle:
                since = now
            if now - since >= HEAD_TIMEOUT:
                connection.transport.close()
            else:
                waiting[connection] = (connection.cycle, since)
        self._waiting = waiting


def _is_without_head(connection: Any) -> bool:
    # uvicorn has no such setting. Its HTTP protocols, over httptools and h11 alike, hold the request
    # in `cycle` from its complete head on, and run the keep-alive timer until the next one's first byte.
    if not hasattr(connection, "timeout_keep_alive_task"):
        return False  # a WebSocket
    between_requests = connection.cycle is None or connection.cycle.response_complete
    return between_requests and connection.timeout_keep_alive_task is None
