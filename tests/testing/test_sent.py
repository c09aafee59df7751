import time
from unittest.mock import ANY

import msgspec
import pytest

from signalr_upstream.auth import encode_token
from signalr_upstream.commands import JoinGroup
from signalr_upstream.errors import ThrottledError
from signalr_upstream.testing import HubTester

from .chat import Message, chat_app

pytestmark = pytest.mark.anyio


async def test_sends_are_found_by_whom_they_went_to() -> None:
    async with HubTester(chat_app()) as hub:
        ann = await hub.connect("ann")
        bob = await hub.connect("bob")
        await ann.invoke("say", "lobby", Message("hi"))
        await ann.invoke("others")
        await ann.invoke("each", "bob")

        hub.sent.to_group("lobby", "said", "ann", Message("hi"))
        hub.sent.to_all("news", 1, excluding=ann)
        hub.sent.to_connection(ann, "you", "bob")
        hub.sent.to_user("bob", "they", "bob")
        hub.sent.nothing()
        assert await bob.receive("news") == ("news", [1])
        assert [(send.kind, send.name) for send in hub.sent] == [
            ("group", "lobby"),
            ("all", ""),
            ("connection", ann.connection_id),
            ("user", "bob"),
        ]


async def test_expected_arguments_are_any_that_equal_what_is_received() -> None:
    async with HubTester(chat_app()) as hub:
        for _ in range(3):
            await hub.invoke("say", "lobby", Message("hi"), user="ann")

        hub.sent.to_group("lobby", "said", "ann", {"text": "hi"})
        hub.sent.to_group("lobby", "said", ANY, {"text": ANY})
        hub.sent.to_group("lobby", "said", "ann", ANY)


async def test_a_send_is_found_once() -> None:
    async with HubTester(chat_app()) as hub:
        ann = await hub.connect("ann")
        await ann.invoke("others")
        hub.sent.to_all("news", 1, excluding=[ann.connection_id])

        with pytest.raises(AssertionError, match=r"to all excluding .*: news\(1\)   \(asserted already\)"):
            hub.sent.to_all("news", 1, excluding=ann.connection_id)


async def test_a_failure_shows_what_was_sent_instead() -> None:
    async with HubTester(chat_app()) as hub:
        ann = await hub.connect("ann")
        nobody = await hub.connect()
        await ann.invoke("others")
        await ann.invoke("say", "lobby", Message("hi"))
        await nobody.invoke("each", "x")
        nobody.on("age", lambda: 1)
        await ann.invoke("ask", nobody.connection_id)

        with pytest.raises(AssertionError) as caught:
            hub.sent.to_group("lobby", "said", "ann", Message("hello"), 3)

    assert str(caught.value) == (
        "the app has not sent to group 'lobby': said('ann', {'text': 'hello'}, 3)\n"
        "\n"
        "It has sent, in this order:\n"
        f"  1. to all excluding '{ann.connection_id}' (ann): news(1)\n"
        "  2. to group 'lobby': said('ann', {'text': 'hi'})\n"
        f"  3. to connection '{nobody.connection_id}' (no user): you('x')\n"
        "  4. to user 'x': they('x')\n"
        f"  5. (and waited for an answer) to connection '{nobody.connection_id}' (no user): age()\n"
        "\n"
        "What differs from 2. (- expected, + sent):\n"
        "  to group 'lobby'\n"
        "  'said'\n"
        "  'ann'\n"
        "- {'text': 'hello'}\n"
        "?            ^^^^\n"
        "+ {'text': 'hi'}\n"
        "?            ^\n"
        "- 3"
    )


async def test_where_nothing_is_alike_nothing_is_compared() -> None:
    async with HubTester(chat_app()) as hub:
        with pytest.raises(
            AssertionError, match=r"to connection 'gone' \(unknown\): you\(\)\n\nIt has sent nothing"
        ):
            hub.sent.to_connection("gone", "you")
        await hub.invoke("others")
        with pytest.raises(AssertionError, match=r"It has sent, in this order:\n  1\. [^\n]*$"):
            hub.sent.to_user("bob", "they")


async def test_nothing_was_to_be_sent() -> None:
    async with HubTester(chat_app()) as hub:
        hub.sent.nothing()
        await hub.invoke("say", "lobby", Message("x" * 200), user="ann")
        with pytest.raises(AssertionError, match=r"(?s)sent:\n  1\. to group 'lobby': said\('ann', .*x…$"):
            hub.sent.nothing()
        hub.sent.forget()
        hub.sent.nothing()
        assert repr(hub.sent) == "<Sent 1>"


async def test_what_the_service_refuses_is_not_sent() -> None:
    app = chat_app()
    async with HubTester(app) as hub:
        hub.service.faults.rest_status = 429
        with pytest.raises(ThrottledError):
            await app.hub(app.hubs[0]).clients.all.send("news")
        hub.service.faults.clear()

        hub.sent.nothing()
        with pytest.raises(AssertionError, match=r"to all: a message .*   \(not taken by the service: 429\)"):
            hub.sent.to_all("news")


async def test_a_message_too_long_to_be_kept_says_so() -> None:
    async with HubTester(chat_app()) as hub:
        bob = await hub.connect("bob")
        await hub.invoke("say", "lobby", Message("x" * 70_000), user="ann")

        with pytest.raises(AssertionError, match="not kept as a whole: look at what a client has received"):
            hub.sent.to_group("lobby", "said", "ann", ANY)
        assert (await bob.receive("said")).arguments[1] == {"text": "x" * 70_000}


async def test_a_forgotten_await_is_named_with_what_was_not_sent() -> None:
    async with HubTester(chat_app()) as hub:
        app_hub = hub.service.hub("chat")  # the call itself would fail: it is made by a client of the service
        client = await hub.service.connect("chat")
        await client.invoke("forget")

        with pytest.raises(
            AssertionError, match=r"not sent to all: never\(\)\n\nTarget\.send\(\) was called and"
        ):
            hub.sent.to_all("never")
        assert app_hub.groups == ["lobby"]


async def test_commands_are_in_the_list() -> None:
    app = chat_app()
    async with HubTester(app) as hub:
        await app.hub(app.hubs[0]).execute([JoinGroup("vip")])

        with pytest.raises(AssertionError, match=r"1\. by commands: execute\(\{'type': 'JoinGroup'"):
            hub.sent.nothing()


async def test_calls_that_are_no_sends_are_none() -> None:
    app = chat_app()
    async with HubTester(app) as hub:
        await hub.connect("ann")  # joins a group
        await app.hub(app.hubs[0]).groups.exists("lobby")
        await hub.service.transport.request(  # type: ignore[union-attr]  # it has no port
            "GET", hub.service.url, "/elsewhere", [], b"", timeout=1.0
        )

        hub.sent.nothing()


@pytest.mark.parametrize("protocols", [("json", "messagepack"), ("messagepack",)])
async def test_bodies_for_several_protocols_are_read(protocols: tuple[str, ...]) -> None:
    async with HubTester(chat_app(protocols=protocols)) as hub:
        await hub.invoke("say", "lobby", Message("hi"), user="ann")

        hub.sent.to_group("lobby", "said", "ann", Message("hi"))


async def test_an_application_has_hubs_of_its_own() -> None:
    async with HubTester(chat_app(application="shop")) as hub:
        await hub.invoke("say", "lobby", Message("hi"), user="ann")

        assert hub.name == "shop_chat"
        hub.sent.to_group("lobby", "said", "ann", Message("hi"))


async def test_what_has_been_forgotten_is_said() -> None:
    app = chat_app()
    async with HubTester(app) as hub:
        news = app.hub(app.hubs[0]).clients.all
        for number in range(1001):
            await news.send("news", number)

        with pytest.raises(
            AssertionError, match=r"\(and earlier ones, which are not remembered\)\n  1\. .*news\(1\)"
        ):
            hub.sent.to_all("news", 0)


async def test_sends_of_other_clients_of_the_service_are_read() -> None:
    async with HubTester(chat_app()) as hub:
        claims = {"aud": f"{hub.service.url}/api/hubs/chat/:send", "exp": int(time.time()) + 60}
        token = encode_token(claims, hub.service.keys[0])
        await hub.service.transport.request(  # type: ignore[union-attr]  # it has no port
            "POST",
            hub.service.url,
            "/api/hubs/chat/:send?api-version=2022-06-01",
            [("Authorization", f"Bearer {token}"), ("Content-Type", "application/x-msgpack")],
            msgspec.msgpack.encode({"Target": "news", "Arguments": [b"1"]}),
            timeout=1.0,
        )

        hub.sent.to_all("news", ANY)
