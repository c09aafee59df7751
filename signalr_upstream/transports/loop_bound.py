"""One value for each running event loop, closed with its loop.

Connections belong to the loop that made them. A program may run many loops one after the other (``asyncio.run`` for
each call, ``async_to_sync`` in Django), and none of them may leave a connection behind.
"""

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol, TypeVar

from msgspec import Struct


class Closable(Protocol):
    """What has something to close."""

    async def aclose(self) -> None: ...


C = TypeVar("C", bound=Closable)


class LoopBound(Generic[C]):
    """Makes a value for a loop when it is first asked for there.

    Args:
        make: makes one; the loop runs.
    """

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._values: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Guarded[C]] = (
            weakref.WeakKeyDictionary()
        )
        # The last one that was asked for, nearly always the only one: looking into the others takes longer.
        self._last: tuple[weakref.ref[asyncio.AbstractEventLoop], C] | None = None

    def present(self) -> C | None:
        """The value of the running loop, if there is one already."""
        loop, last = asyncio.get_running_loop(), self._last
        if last is not None and last[0]() is loop:
            return last[1]
        guarded = self._values.get(loop)
        if guarded is None:
            return None
        self._last = (weakref.ref(loop), guarded.value)
        return guarded.value

    async def get(self) -> C:
        """The value of the running loop."""
        loop = asyncio.get_running_loop()
        guarded = self._values.get(loop)
        if guarded is None:
            self._forget_closed()
            value = self._make()
            guarded = self._values[loop] = _Guarded(value, _close_with_loop(value))
            await anext(guarded.guard)
        return guarded.value

    def all(self) -> list[C]:
        """The values of all loops."""
        return [guarded.value for guarded in list(self._values.values())]

    def _forget_closed(self) -> None:
        """A value may well refer to its loop, and then lives until it is forgotten."""
        for reference in self._values.keyrefs():  # a list: other threads may add theirs meanwhile
            loop = reference()
            if loop is not None and loop.is_closed():
                self._values.pop(loop, None)

    async def aclose(self) -> None:
        """Close the value of the running loop. Those of other loops close when their loops shut down."""
        self._last = None
        guarded = self._values.pop(asyncio.get_running_loop(), None)
        if guarded is not None:
            await guarded.guard.aclose()


class _Guarded(Struct, Generic[C], frozen=True):
    value: C
    guard: AsyncGenerator[None, None]


async def _close_with_loop(value: Closable) -> AsyncGenerator[None, None]:
    """Wait for the end of the loop: ``asyncio.run`` shuts its async generators down, and so this value."""
    try:
        yield
    finally:
        await value.aclose()
