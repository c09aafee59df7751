"""The service's clock: steady, and moved by hand in tests."""

import asyncio
import time

import pytest

from signalr_upstream.local.clock import Clock, ManualClock, SystemClock

pytestmark = pytest.mark.anyio


async def test_the_systems_clock_gives_unix_seconds_and_does_not_jump(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SystemClock()
    assert abs(clock.time() - time.time()) < 5

    first = clock.time()
    monkeypatch.setattr(time, "time", lambda: 0.0)  # somebody sets the machine's clock

    assert first <= clock.time() < first + 60


async def test_the_systems_clock_calls_on_the_event_loop_and_what_is_over_soon() -> None:
    clock = SystemClock()
    called: asyncio.Queue[str] = asyncio.Queue()

    clock.call_at(clock.time() + 0.01, lambda: called.put_nowait("later"))
    clock.call_at(clock.time() - 5, lambda: called.put_nowait("soon"))
    clock.call_at(clock.time(), lambda: called.put_nowait("cancelled")).cancel()

    assert [await called.get(), await called.get()] == ["soon", "later"]


def test_a_manual_clock_stands_until_it_is_moved() -> None:
    clock: Clock = ManualClock(1000.0)

    assert clock.time() == clock.time() == 1000.0


def test_a_manual_clock_calls_what_comes_due_in_order_and_at_its_time() -> None:
    clock = ManualClock(1000.0)
    calls: list[tuple[str, float]] = []

    def again() -> None:
        calls.append(("first", clock.time()))
        clock.call_at(1004.0, lambda: calls.append(("asked for by the first", clock.time())))

    clock.call_at(1005.0, lambda: calls.append(("second", clock.time())))
    clock.call_at(1003.0, again)
    clock.call_at(1005.0, lambda: calls.append(("third", clock.time())))
    clock.call_at(1006.0, lambda: calls.append(("fourth", clock.time())))
    clock.call_at(1004.5, lambda: calls.append(("cancelled", clock.time()))).cancel()
    clock.call_at(990.0, lambda: calls.append(("over", clock.time())))
    clock.advance(5.5)

    assert calls == [
        ("over", 1000.0),
        ("first", 1003.0),
        ("asked for by the first", 1004.0),
        ("second", 1005.0),
        ("third", 1005.0),
    ]
    assert clock.time() == 1005.5
    clock.advance(0.5)
    assert calls[-1] == ("fourth", 1006.0)
