"""Which failed REST calls are made once more, and when.

A send that the service may have got is not sent again unless the caller says that twice does no harm. Whatever else
fails for a reason that passes is.

Nothing is logged: metrics count attempts, and what the last one fails with is raised. In an outage a line for each
would bury all else.
"""

import asyncio
import random
from asyncio import sleep
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ..errors import ConnectError, DeliveryUnknown, ServiceError, ThrottledError, UnavailableError

ATTEMPTS: Final = 4
"""In all. The first retries after a failure help; more of them only add to the load of a service in trouble."""

FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 5.0
"""Seconds between attempts, doubled each time, where the service does not say how long (``Retry-After``)."""

JITTER: Final = 0.2
"""Seconds that chance adds at most, so that clients spread."""

_REFUSED: Final = (429, 503)
"""Statuses that say the service has not taken a request."""

T = TypeVar("T")


def may_repeat(error: ServiceError, *, idempotent: bool) -> bool:
    """Whether a call that failed so can be made again.

    Args:
        idempotent: made twice it does no more than once.
    """
    if isinstance(error, ConnectError) or error.status in _REFUSED:
        return True
    return idempotent and isinstance(error, DeliveryUnknown | UnavailableError | ThrottledError)


async def repeat(
    first: ServiceError, attempt: Callable[[float], Awaitable[T]], *, idempotent: bool, deadline: float
) -> T:
    """Make a call again that failed with ``first``, until it succeeds or there is no more hope.

    Args:
        attempt: makes the call once, in at most so many seconds.
        deadline: loop time for all of it.

    Raises:
        ServiceError: what the last attempt failed with.
    """
    loop = asyncio.get_running_loop()
    error = first
    for made in range(1, ATTEMPTS):
        usual = min(FIRST_WAIT * 2 ** (made - 1), LONGEST_WAIT)
        pause = usual if error.retry_after is None else error.retry_after
        pause += random.uniform(0, JITTER)  # noqa: S311 - spread, not secret
        if not may_repeat(error, idempotent=idempotent) or pause >= deadline - loop.time():
            break
        await sleep(pause)
        try:
            return await attempt(deadline - loop.time())
        except ServiceError as failed:
            error = failed
    raise error
