import asyncio
from collections.abc import AsyncIterator

import pydantic
import pytest

from signalr_upstream import Context, Hub, HubError, UpstreamApp
from signalr_upstream.testing import HandlerFailedError, HubTester, NothingCameError

from .chat import Message, chat_app

pytestmark = pytest.mark.anyio


async def test_clients_receive_what_is_sent() -> None:
    async with HubTester(chat_app()) as hub:
        bob = await hub.connect("bob", protocol="messagepack")
        await hub.invoke("say", "lobby", Message("hi"), user="ann")

        assert bob.waiting == [("said", ["ann", {"text": "hi"}])]
        assert await bob.receive("said") == ("said", ["ann", {"text": "hi"}])
        with pytest.raises(NothingCameError, match=r"within 0\.01 s"):
            await bob.receive(timeout=0.01)


async def test_clients_answer_the_app() -> None:
    async with HubTester(chat_app()) as hub:
        bob = await hub.connect("bob")
        bob.on("age", lambda: 42)

        assert await hub.invoke("ask", bob.connection_id, user="ann") == 42
        hub.sent.asked(bob, "age")


async def test_a_client_leaves_with_its_block() -> None:
    async with HubTester(chat_app()) as hub:
        async with await hub.connect("ann") as ann:
            assert repr(ann) == f"<ConnectedClient 'ann' {ann.connection_id}>"
            assert hub.groups == {"lobby": {"ann"}}

        assert hub.groups == {}
        hub.sent.to_all("left", "ann")


async def test_a_call_that_takes_too_long_says_so() -> None:
    chat = Hub("chat")
    go_on = asyncio.Event()

    @chat.on("wait")
    async def wait() -> None:
        await go_on.wait()

    async with HubTester(UpstreamApp(chat)) as hub:
        ann = await hub.connect("ann")
        with pytest.raises(NothingCameError, match=r"an answer to 'wait' has not come within 0.01 s"):
            await ann.invoke("wait", timeout=0.01)
        go_on.set()


def streaming_app() -> UpstreamApp:
    chat = Hub("chat")

    @chat.on("count")
    async def count(end: int) -> AsyncIterator[int]:
        for number in range(end):
            yield number
        if end == 2:
            raise LookupError("no more numbers")
        if end == 3:
            raise HubError("That is enough.")

    return UpstreamApp(chat, experimental_streams=True)


async def test_streams_give_their_items() -> None:
    async with HubTester(streaming_app()) as hub:
        ann = await hub.connect("ann")

        assert [item async for item in ann.stream("count", 4)] == [0, 1, 2, 3]


async def test_streams_end_with_the_handlers_error() -> None:
    async with HubTester(streaming_app()) as hub:
        ann = await hub.connect("ann")

        with pytest.raises(HandlerFailedError, match="LookupError: no more numbers"):
            [item async for item in ann.stream("count", 2)]
        with hub.refused("That is enough."):
            [item async for item in ann.stream("count", 3)]


class Order(pydantic.BaseModel):
    item_name: str = pydantic.Field(alias="itemName")


async def test_models_are_arguments_and_results() -> None:
    shop = Hub("shop")

    @shop.on("order")
    async def order(ctx: Context, order: Order) -> Order:
        await ctx.clients.all.send("ordered", order)
        return order

    tea = Order(itemName="tea")
    async with HubTester(UpstreamApp(shop)) as hub:
        ann = await hub.connect("ann")

        assert await ann.invoke("order", tea, result_type=Order) == tea
        hub.sent.to_all("ordered", tea)
        assert await ann.receive() == ("ordered", [{"itemName": "tea"}])
