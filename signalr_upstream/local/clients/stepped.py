"""A coroutine that was run up to its first suspension, and goes on from there.

Most sends never suspend. Stepped once they are done, with no task made for them; only what did suspend is wrapped here,
to be awaited.
"""

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Stepped(Awaitable[T]):
    """The rest of ``coroutine``.

    Args:
        awaited: what its first ``send(None)`` gave: what it waits for.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, T]:
        awaited = self._awaited
        while True:
            thrown: BaseException | None = None
            value: Any = None
            try:
                value = yield awaited
            except BaseException as error:  # a cancellation, say, belongs into the coroutine
                thrown = error
            try:
                awaited = self._coroutine.send(value) if thrown is None else self._coroutine.throw(thrown)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]  # a coroutine's StopIteration holds its result
