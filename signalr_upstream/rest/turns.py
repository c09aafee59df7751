"""How many clients are asked at a time: each holds a connection until it answers, and sends need some, too."""

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ..errors import ConnectError

MAX_ASKED: Final = 50
"""Clients in each event loop: half of the connections to the service, so that those that never answer stop no send."""


class Turns:
    """Lets ``MAX_ASKED`` go ahead in each loop, and the others wait."""

    def __init__(self) -> None:
        self._free: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )

    @asynccontextmanager
    async def take(self, timeout: float) -> AsyncIterator[float]:
        """Wait for a turn; gives the seconds that are left.

        Raises:
            ConnectError: none came free within ``timeout`` seconds; nothing was sent.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        free = self._free.get(loop)
        if free is None:
            free = self._free[loop] = asyncio.Semaphore(MAX_ASKED)
        try:
            await asyncio.wait_for(free.acquire(), timeout)
        except TimeoutError:
            raise ConnectError(
                f"{MAX_ASKED} clients were being asked, and none answered in time: this one was not asked",
                operation="invoke_connection",
            ) from None
        try:
            yield deadline - loop.time()
        finally:
            free.release()
