"""A coroutine that was stepped once goes on as if it had been awaited."""

import asyncio

import pytest

from signalr_upstream.local.clients.stepped import Stepped

pytestmark = pytest.mark.anyio


async def test_what_is_awaited_and_raised_reaches_the_coroutine() -> None:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future(), loop.create_future()]
    seen: list[object] = []

    async def work() -> str:
        seen.append(await futures[0])
        try:
            await futures[1]
        except ValueError as error:
            seen.append(str(error))
        return "done"

    coroutine = work()
    rest = Stepped(coroutine, coroutine.send(None))
    loop.call_soon(futures[0].set_result, 1)
    loop.call_soon(futures[1].set_exception, ValueError("2"))

    assert await rest == "done"
    assert seen == [1, "2"]
