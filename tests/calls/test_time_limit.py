"""A time limit ends what takes too long, and costs nothing for what does not wait."""

import asyncio
import contextlib
import sys
from collections.abc import Generator

import pytest

from signalr_upstream.calls.time_limit import TimeLimitPassed, TimeLimits

pytestmark = pytest.mark.anyio


async def test_what_never_waits_gives_its_result_without_a_timer() -> None:
    limits = TimeLimits()

    async def work() -> int:
        assert not limits.running
        return 5

    assert await limits.within(0, work()) == 5


async def test_what_never_waits_may_raise() -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await TimeLimits().within(1, work())


async def test_what_waits_gets_its_values_and_its_exceptions() -> None:
    loop = asyncio.get_running_loop()
    good, bad = loop.create_future(), loop.create_future()
    loop.call_soon(good.set_result, 5)
    loop.call_soon(bad.set_exception, KeyError("x"))

    async def work() -> list[object]:
        seen: list[object] = [await good]
        try:
            await bad
        except KeyError as error:
            seen.append(error.args)
        await asyncio.sleep(0)
        return seen

    limits = TimeLimits()
    assert await limits.within(10, work()) == [5, ("x",)]
    assert not limits.running


async def test_what_was_caught_is_forgotten_as_without_a_limit() -> None:
    loop = asyncio.get_running_loop()
    bad = loop.create_future()
    loop.call_soon(bad.set_exception, KeyError("x"))

    async def work() -> None:
        with contextlib.suppress(KeyError):
            await bad
        assert sys.exc_info() == (None, None, None)
        raise ValueError("another one")

    with pytest.raises(ValueError, match="another one") as raised:
        await TimeLimits().within(10, work())
    assert raised.value.__context__ is None


async def test_any_awaitable_can_be_limited() -> None:
    class Later:
        def __await__(self) -> Generator[None, None, int]:
            yield
            return 5

    assert await TimeLimits().within(10, Later()) == 5
    with pytest.raises(TimeLimitPassed):
        await TimeLimits().within(0.01, asyncio.get_running_loop().create_future())


async def test_what_takes_too_long_is_cancelled_where_it_waits() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    limits = TimeLimits()
    with pytest.raises(TimeLimitPassed):
        await limits.within(0.01, work())

    assert seen == ["cancelled"]
    assert not limits.running
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_result_that_comes_in_spite_of_the_limit_counts() -> None:
    async def work() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return 5
        raise AssertionError("the wait ended by itself")

    assert await TimeLimits().within(0.01, work()) == 5


async def test_a_time_out_inside_is_not_the_limit() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise TimeoutError("another one")

    with pytest.raises(TimeoutError, match="another one"):
        await TimeLimits().within(10, work())


async def test_limits_inside_each_other_end_only_their_own() -> None:
    limits = TimeLimits()

    async def inner() -> None:
        await asyncio.Event().wait()

    async def outer() -> str:
        with pytest.raises(TimeLimitPassed):
            await limits.within(0.01, inner())
        return "went on"

    assert await limits.within(10, outer()) == "went on"


async def test_the_cancellation_of_the_task_goes_through() -> None:
    limits = TimeLimits()
    entered = asyncio.Event()

    async def work() -> None:
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(limits.within(10, work()))
    await entered.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not limits.running


async def test_expire_all_ends_every_limit_that_runs_and_no_later_one() -> None:
    limits = TimeLimits()
    entered = asyncio.Semaphore(0)

    async def work() -> None:
        entered.release()
        await asyncio.Event().wait()

    tasks = [asyncio.ensure_future(limits.within(1000, work())) for _ in range(3)]
    for _ in tasks:
        await entered.acquire()

    limits.expire_all()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [TimeLimitPassed] * 3
    limits.expire_all()
    assert await limits.within(10, asyncio.sleep(0, "later")) == "later"
