import asyncio
import gc
import logging
import sys
import warnings

import pytest

from signalr_upstream import Hub, UpstreamApp
from signalr_upstream.testing import HandlerFailedError, HubTester

from .chat import chat_app

pytestmark = pytest.mark.anyio


async def test_a_send_that_is_not_awaited_fails_the_test() -> None:
    async with HubTester(chat_app()) as hub:
        with pytest.raises(AssertionError) as caught:
            await hub.invoke("forget")

    assert "Target.send() was called and never awaited, so it has done nothing. Put `await`" in str(
        caught.value
    )
    assert f"{chat_app.__code__.co_filename}:" in str(caught.value)
    assert " in forget\n    ctx.clients.all.send(" in str(caught.value)


async def test_so_it_does_in_a_thread() -> None:
    async with HubTester(chat_app()) as hub:
        with pytest.raises(AssertionError, match=r"in forget_in_thread\n    ctx\.clients\.all\.send\("):
            await hub.invoke("forgetInThread")


async def test_so_it_does_when_nobody_waits() -> None:
    with pytest.raises(AssertionError, match="in forget\n"):
        async with HubTester(chat_app()) as hub:
            await hub.send("forget")


async def test_a_failing_handler_is_told_first() -> None:
    async with HubTester(chat_app()) as hub:
        with pytest.raises(HandlerFailedError) as caught:
            await hub.send("forgetAndCrash")

    assert "in forget_and_crash" in caught.value.__notes__[0]


async def test_a_call_of_the_test_itself_that_is_not_awaited_fails_it() -> None:
    with pytest.raises(AssertionError, match=r"HubTester\.invoke\(\) was called and never awaited"):
        async with HubTester(chat_app()) as hub:
            hub.invoke("others")  # type: ignore[unused-coroutine]  # what is to be found


async def test_the_innermost_tester_is_told() -> None:
    async with HubTester(chat_app()):
        with pytest.raises(AssertionError, match="in forget\n"):
            async with HubTester(chat_app()) as inner:
                await inner.invoke("forget")


async def test_what_is_left_in_a_circle_belongs_to_the_test_that_made_it() -> None:
    hub = Hub("chat")

    @hub.on("forget")
    async def forget() -> None:
        circle: list[object] = [nothing()]
        circle.append(circle)

    gc.disable()  # Python might find it in time
    try:
        with pytest.raises(AssertionError, match=r"in forget\n    circle: list"):
            async with HubTester(UpstreamApp(hub)) as tester:
                await tester.invoke("forget")
    finally:
        gc.enable()


async def nothing() -> None:
    await asyncio.sleep(0)


async def test_what_was_made_before_is_left_to_python() -> None:
    old = nothing()
    async with HubTester(chat_app()):
        with pytest.warns(RuntimeWarning, match="coroutine 'nothing' was never awaited"):
            del old


async def test_everything_is_as_before_afterwards() -> None:
    depth = sys.get_coroutine_origin_tracking_depth()
    hook = vars(warnings)["_warn_unawaited_coroutine"]
    async with HubTester(chat_app()):
        assert vars(warnings)["_warn_unawaited_coroutine"] is not hook

    assert vars(warnings)["_warn_unawaited_coroutine"] is hook
    assert sys.get_coroutine_origin_tracking_depth() == depth
    with pytest.warns(RuntimeWarning, match="coroutine 'nothing' was never awaited"):
        nothing()  # type: ignore[unused-coroutine]  # what is to be found


async def test_failures_are_heard_where_logging_was_configured_without_us() -> None:
    log = logging.getLogger("signalr_upstream")
    log.disabled = True
    try:
        async with HubTester(chat_app()) as hub:
            with pytest.raises(HandlerFailedError):
                await hub.invoke("crash", "unheard")

        assert log.disabled
    finally:
        log.disabled = False


async def test_other_records_are_no_failures() -> None:
    async with HubTester(chat_app()) as hub:
        try:
            "/"[1]
        except IndexError:
            logging.getLogger("signalr_upstream").exception("of somebody else")
        logging.getLogger("signalr_upstream").error("without a traceback")

        await hub.settled()
