"""Which of several endpoints are well: what calls have met lately, and a look at those that nothing is known of.

Nothing runs by itself: calls that choose among endpoints start the looks that are due.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ..connection_string import Endpoint

FAILURES: Final = 2
"""Calls in a row that got no answer, after which an endpoint is left out."""

LOOK_EVERY: Final = 30.0
"""Seconds without any answer after which an endpoint is looked at."""

LOOK_AGAIN_EVERY: Final = 5.0
"""Seconds between looks at an endpoint that is left out."""


class Health:
    """What is known of endpoints, by their ``url``.

    Args:
        look: asks an endpoint whether it is well; never raises.
        clock: seconds of a steady clock.
    """

    def __init__(
        self, look: Callable[[Endpoint], Awaitable[bool]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._clock = clock
        self._answered: dict[str, float] = {}  # when last
        self._failures: Counter[str] = Counter()  # in a row
        self._next_look: dict[str, float] = {}
        self._looks: set[asyncio.Task[None]] = set()

    def answered(self, endpoint: Endpoint) -> None:
        """It has answered a call."""
        self._answered[endpoint.url] = self._clock()
        if self._failures:
            self._failures.pop(endpoint.url, None)

    def failed(self, endpoint: Endpoint) -> None:
        """A call got no answer, or one that says that the service is down."""
        self._failures[endpoint.url] += 1

    def well(self, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Those that are not known to be down; all of them if all are."""
        if len(endpoints) == 1:
            return endpoints
        now = self._clock()
        for endpoint in endpoints:
            if now >= self._due(endpoint.url):
                self._next_look[endpoint.url] = now + LOOK_AGAIN_EVERY
                task = asyncio.get_running_loop().create_task(self._look_at(endpoint))
                self._looks.add(task)
                task.add_done_callback(self._looks.discard)
        return [e for e in endpoints if self._failures[e.url] < FAILURES] or endpoints

    def _due(self, url: str) -> float:
        """When it is to be looked at."""
        if self._failures[url] >= FAILURES:
            return self._next_look.get(url, 0.0)
        return max(self._answered.get(url, -LOOK_EVERY) + LOOK_EVERY, self._next_look.get(url, 0.0))

    async def _look_at(self, endpoint: Endpoint) -> None:
        if await self._look(endpoint):
            self.answered(endpoint)
        else:
            self._failures[endpoint.url] = FAILURES
