"""Streams to clients: a numbered one over plain messages, and the items of a client's own ``stream()`` call."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any

from .errors import HubError, NotFoundError, ServiceError, TooLargeError
from .protocol import rest
from .rest.hub_calls import is_absence
from .rest.targets import ConnectionTarget

MASKED = "The call failed on the server."
"""What a client is told of an exception that is no HubError."""

ITEM, END, ERROR = "item", "end", "error"
"""What a message of a stream over plain messages is."""


def text_for_client(error: Exception) -> str:
    """What a client is told of an error: the text of a HubError, and of others nothing."""
    text = str(error) if isinstance(error, HubError) else ""
    return encodable(text) or MASKED


def encodable(text: str) -> str:
    """``text`` with a question mark for what UTF-8 cannot carry: half a surrogate pair, as in a broken file name."""
    return text.encode("utf-8", "replace").decode()


async def stream_to(
    connection: ConnectionTarget, target: str, items: AsyncIterable[Any], *, stream_id: str | None
) -> bool:
    """Call ``target`` of one client with ``(stream_id, number, what, value)`` for each item and for the end.

    Numbers count from 0; the number of the end is how many items there were.

    Returns:
        False if the connection is gone.
    """
    stream_id = stream_id or uuid.uuid4().hex
    number = 0
    async with contextlib.aclosing(_messages(items)) as messages:
        async for what, value in messages:
            try:
                await connection.send(target, stream_id, number, what, value)
            except NotFoundError as error:
                if not is_absence(rest.SEND_TO_CONNECTION, error):
                    raise
                return False
            except Exception as error:
                if not isinstance(error, ServiceError) or isinstance(error, TooLargeError):
                    # Only this item could not go out, and its client waits for an end.
                    await connection.send(target, stream_id, number, ERROR, text_for_client(error))
                raise
            number += 1
            await asyncio.sleep(0)  # a source that never waits must not stop everybody else, in tests for one
    return True


async def _messages(items: AsyncIterable[Any]) -> AsyncGenerator[tuple[str, Any], None]:
    try:
        async with _closing(items) as iterator:
            async for item in iterator:
                yield ITEM, item
    except Exception as error:
        yield ERROR, text_for_client(error)
        raise
    yield END, None


class ClientStream:
    """A client's ``stream()`` call, which is fed through the REST API.

    Attributes:
        is_gone: the client wants no more of it, or has gone.
    """

    def __init__(self, connection: ConnectionTarget, stream_id: str) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self.is_gone = False

    async def feed(self, items: AsyncIterable[Any]) -> None:
        """Send all items, one send at a time; end with them, or when the stream is gone."""
        async with _closing(items) as iterator:
            async for item in iterator:
                if not await self._connection.send_item(self._stream_id, item):
                    self.is_gone = True
                    return
                await asyncio.sleep(0)  # as above

    async def complete(self, error: str | None) -> None:
        """Say that it has ended, if anybody is there to hear it."""
        if not self.is_gone:
            await self._connection.complete_stream(self._stream_id, error=error)


@contextlib.asynccontextmanager
async def _closing(items: AsyncIterable[Any]) -> AsyncIterator[AsyncIterator[Any]]:
    """The iterator of ``items``, closed in the end if it can be."""
    iterator = aiter(items)
    try:
        yield iterator
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
