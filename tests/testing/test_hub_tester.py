import asyncio
import contextlib
import time
import traceback
from collections.abc import AsyncIterator
from typing import Annotated, Any, assert_type

import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from signalr_upstream import Context, Depends, Hub, HubError, Identity, UpstreamApp
from signalr_upstream.errors import ConfigurationError
from signalr_upstream.testing import (
    HandlerFailedError,
    HubTester,
    ManualClock,
    NotAdmittedError,
    NothingCameError,
)

from .chat import Message, Receipt, Store, chat_app, store

pytestmark = pytest.mark.anyio


# --- calls ---------------------------------------------------------------------------------------------------


async def test_a_call_gives_its_result_in_the_type_that_is_asked_for() -> None:
    async with HubTester(chat_app()) as hub:
        receipt = await hub.invoke("say", "lobby", Message("hi"), result_type=Receipt, user="ann")
        plain = await hub.invoke("say", "lobby", Message("hi"), user="ann")

    assert_type(receipt, Receipt)
    assert_type(plain, Any)
    assert receipt == Receipt(2)
    assert plain == {"length": 2}


async def test_a_result_of_another_type_fails_the_test() -> None:
    async with HubTester(chat_app()) as hub:
        with pytest.raises(AssertionError, match=r"'say' has answered \{'length': 2\}.*Expected `int`"):
            await hub.invoke("say", "lobby", Message("hi"), result_type=int)


async def test_a_user_stays_connected_from_call_to_call() -> None:
    async with HubTester(chat_app()) as hub:
        await hub.invoke("others", user="ann")
        await hub.send("others", user="ann")
        await hub.invoke("others", user="bob")
        await hub.invoke("others", user="ann", claims={"role": "admin"})
        await hub.invoke("others", user="ann", query={"room": "1"})

        called = [(call.event, call.user_id) for call in hub.service.upstream_calls]

    assert called == [
        ("connected", "ann"),
        ("others", "ann"),
        ("others", "ann"),
        ("connected", "bob"),
        ("others", "bob"),
        ("connected", "ann"),
        ("others", "ann"),
        ("connected", "ann"),
        ("others", "ann"),
    ]


async def test_who_has_left_connects_again() -> None:
    async with HubTester(chat_app()) as hub:
        ann = await hub.connect("ann")
        await ann.close()
        hub.sent.to_all("left", "ann")
        await hub.invoke("others", user="ann")

        assert not ann.is_open
        assert [call.event for call in hub.service.upstream_calls].count("connected") == 2


async def test_the_end_tells_the_app_that_clients_have_left() -> None:
    app = chat_app()
    async with HubTester(app) as hub:
        await hub.connect("ann")

    assert hub.service.upstream_calls[-1].event == "disconnected"


async def test_claims_are_sealed_whatever_seals_them() -> None:
    for options in ({}, {"seal_key": "k" * 44}, {"application": "shop"}):
        async with HubTester(chat_app(**options)) as hub:
            bob = await hub.connect("bob")
            with hub.refused("not allowed"):
                await bob.invoke("close", "lobby")

            await hub.send("close", "lobby", user="ann", claims={"role": ["admin"]})

            assert await bob.closed() == "Closed."


async def test_dependencies_are_replaced_for_the_test() -> None:
    app = chat_app()
    app.dependency_overrides[Store] = Store  # nobody's
    kept = Store()

    async with HubTester(app, overrides={store: lambda: kept}) as hub:
        await hub.invoke("keep", "this")

    assert kept.kept == ["this"]
    assert app.dependency_overrides == {Store: Store}


async def test_an_override_that_replaces_nothing_is_refused() -> None:
    app = chat_app()
    with pytest.raises(
        ConfigurationError, match=r"nothing depends on Store, .*; dependencies are store, chat_app\."
    ):
        async with HubTester(app, overrides={Store: Store}):
            raise AssertionError
    with pytest.raises(ConfigurationError, match=r"depends on Store, .* dependencies are none"):
        async with HubTester(UpstreamApp(Hub("chat")), overrides={Store: Store}):
            raise AssertionError
    assert app.dependency_overrides == {}


async def test_an_override_is_a_function() -> None:
    wrong: Any = {store: "memory"}
    with pytest.raises(ConfigurationError, match=r"store is replaced by a function .* lambda: 'memory'"):
        async with HubTester(chat_app(), overrides=wrong):
            raise AssertionError


async def test_dependencies_of_dependencies_are_replaced() -> None:
    async def whole(kept: Annotated[Store, Depends(store)]) -> str:
        return kept.kept[0]

    chat = Hub("chat")
    ask = Annotated[str, Depends(whole)]

    @chat.on("ask")
    async def first(answer: ask) -> str:
        return answer

    full = Store()
    full.kept.append("this")
    async with HubTester(UpstreamApp(chat), overrides={store: lambda: full}) as hub:
        assert await hub.invoke("ask") == "this"


async def test_it_is_used_inside_of_its_block() -> None:
    hub = HubTester(chat_app())
    with pytest.raises(RuntimeError, match=r"inside of `async with HubTester\(app\) as hub:`"):
        await hub.invoke("others")
    async with hub:
        pass
    with pytest.raises(RuntimeError, match="and only there"):
        await hub.connect_via()


async def test_clients_negotiate_with_the_app() -> None:
    async with HubTester(chat_app()) as hub:
        ann = await hub.connect_via()
        await ann.invoke("say", "lobby", Message("hi"))

        hub.sent.to_group("lobby", "said", "ann", Message("hi"))


async def test_memberships_are_those_of_the_service() -> None:
    async with HubTester(chat_app()) as hub:
        ann = await hub.connect("ann")
        nobody = await hub.connect()

        assert hub.groups == {"lobby": {"ann", nobody.connection_id}}
        assert ann.groups == {"lobby"}


async def test_time_is_the_tests() -> None:
    clock = ManualClock()
    app = chat_app()
    async with HubTester(app, clock=clock) as hub:
        users = app.hub(app.hubs[0]).users
        await users.add_to_group("ann", group="vip", ttl=10)
        clock.advance(10)
        ann = await hub.connect("ann")

    assert ann.groups == set()


async def test_what_is_waited_for_has_a_limit() -> None:
    async with HubTester(chat_app(), timeout=0.02) as hub:
        await hub.invoke("later", 0.1)
        with pytest.raises(NothingCameError, match=r"ctx\.after still runs after 0.02 s"):
            await hub.settled()
        hub.timeout = 5.0
        await hub.settled()
        hub.sent.to_all("worked")


# --- refusals and failures -----------------------------------------------------------------------------------


async def test_a_refusal_is_what_the_caller_sees() -> None:
    async with HubTester(chat_app()) as hub:
        with hub.refused("nothing to say") as refusal:
            await hub.invoke("say", "lobby", Message(""))
        with hub.refused("argument 2 `message`"):
            await hub.invoke("say", "lobby", 7)
        with hub.refused("Go away."):
            await hub.connect("mallory")
        with pytest.raises(HubError, match=r"^There is nothing to say\.$"):
            await hub.invoke("say", "lobby", Message(""))

    assert str(refusal.error) == "There is nothing to say."


async def test_no_refusal_fails_the_test_and_says_what_was_answered() -> None:
    async with HubTester(chat_app()) as hub:
        nothing = pytest.raises(AssertionError, match=r"^nothing was refused, and 'no' was expected$")
        with nothing, hub.refused("no"):
            pass
        answered = pytest.raises(AssertionError, match=r"expected; 'say' has answered \{'length': 2\}$")
        with answered, hub.refused("no"):
            await hub.invoke("say", "lobby", Message("hi"))


async def test_another_refusal_fails_the_test_and_shows_both() -> None:
    async with HubTester(chat_app()) as hub:
        with pytest.raises(AssertionError) as caught, hub.refused("no such room"):
            await hub.invoke("said", "lobby")

    assert "expected: 'no such room'" in str(caught.value)
    assert "told:     'Invocation failed, status code 404'" in str(caught.value)
    assert "hub 'chat' has no handler for 'said'; it has 'say', 'keep', " in str(caught.value)


async def test_a_failure_of_the_handler_is_no_refusal_and_brings_its_own_error() -> None:
    async with HubTester(chat_app()) as hub:
        with pytest.raises(HandlerFailedError) as caught, hub.refused("The call failed"):
            await hub.invoke("crash", "it is broken")

    assert str(caught.value) == (
        "the handler of 'crash' raised LookupError: it is broken "
        "(the caller sees only: The call failed on the server.)"
    )
    assert caught.value.text == "The call failed on the server."
    assert isinstance(caught.value.__cause__, LookupError)
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert [frame.name for frame in frames] == ["crash"]  # none of ours


async def test_a_failing_connected_handler_is_seen_by_connect() -> None:
    async with HubTester(chat_app()) as hub:
        with pytest.raises(HandlerFailedError, match="the handler of 'connected' raised KeyError: 'door'"):
            await hub.connect("broken")


def door_app(raised: Exception) -> UpstreamApp:
    door = Hub("door")

    @door.negotiate
    async def who() -> Identity:
        raise raised

    return UpstreamApp(door)


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (HubError("not you"), 403),
        *((HTTPException(status, "not you"), status) for status in (400, 401, 403, 429)),
    ],
)
async def test_what_negotiate_says_to_clients_is_a_refusal(raised: Exception, status: int) -> None:
    async with HubTester(door_app(raised)) as hub:
        with hub.refused("not you") as refusal:
            await hub.connect_via()

    assert isinstance(refusal.error, NotAdmittedError)
    assert refusal.error.status == status


@pytest.mark.parametrize(
    ("raised", "status", "url"),
    [
        (HTTPException(500, "broken"), 500, "/door"),
        (HTTPException(503, "later"), 503, "/door"),
        (HTTPException(405, "not so"), 405, "/door"),
        (HTTPException(404, "not here"), 404, "/door"),
        (HubError("not you"), 404, "/daor"),
    ],
)
async def test_a_negotiate_that_cannot_be_asked_has_not_refused(
    raised: Exception, status: int, url: str
) -> None:
    async with HubTester(door_app(raised)) as hub:
        with pytest.raises(NotAdmittedError) as caught, hub.refused():
            await hub.connect_via(url)

    assert caught.value.status == status


async def test_what_the_service_refuses_is_no_refusal_of_the_app() -> None:
    async with HubTester(chat_app(), clock=ManualClock(time.time() + 10 * 24 * 3600)) as hub:
        with pytest.raises(NotAdmittedError, match=r"^401: "), hub.refused():
            await hub.connect_via()


async def test_a_failure_of_negotiate_is_no_refusal_and_brings_its_own_error() -> None:
    async with HubTester(door_app(KeyError("bad"))) as hub:
        with pytest.raises(HandlerFailedError) as caught, hub.refused():
            await hub.connect_via()

    assert str(caught.value) == (
        "the handler of 'door/negotiate' raised KeyError: 'bad' "
        "(the caller sees only: 500: the negotiate function failed; its log says why)"
    )
    assert isinstance(caught.value.__cause__, KeyError)
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert [frame.name for frame in frames] == ["who"]  # none of ours


async def test_a_missing_dependency_says_so() -> None:
    async with HubTester(chat_app()) as hub:
        with pytest.raises(HandlerFailedError, match="RuntimeError: tests have no database"):
            await hub.invoke("keep", "this")


async def test_a_failure_that_no_caller_waits_for_fails_the_send() -> None:
    async with HubTester(chat_app()) as hub:
        with pytest.raises(HandlerFailedError, match=r"^the handler of 'crash' raised LookupError: quietly$"):
            await hub.send("crash", "quietly")


async def test_a_failure_behind_the_answer_fails_the_test() -> None:
    with pytest.raises(HandlerFailedError, match="LookupError: late"):
        async with HubTester(chat_app()) as hub:
            await hub.invoke("later", -1)


async def test_a_failure_at_the_end_fails_the_test() -> None:
    with pytest.raises(HandlerFailedError, match="the handler of 'disconnected' raised KeyError: 'hat'"):
        async with HubTester(chat_app()) as hub:
            await hub.connect("clumsy")


async def test_a_failure_at_the_end_does_not_hide_that_of_the_test() -> None:
    async def test() -> None:
        async with HubTester(chat_app()) as hub:
            await hub.connect("clumsy")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await test()

    assert caught.value.__notes__ == ["Besides: the handler of 'disconnected' raised KeyError: 'hat'"]


async def test_several_failures_are_told_as_one() -> None:
    async def test() -> None:
        async with HubTester(chat_app()) as hub:
            await hub.connect("clumsy")
            await hub.connect("clumsy")

    with pytest.raises(HandlerFailedError) as caught:
        await test()

    assert caught.value.__notes__ == ["and the handler of 'disconnected' raised KeyError: 'hat'"]


async def test_a_hub_without_handlers_says_so() -> None:
    async with HubTester(UpstreamApp(Hub("empty"))) as hub:
        with pytest.raises(HubError) as caught:
            await hub.invoke("say")

    assert caught.value.__notes__ == ["hub 'empty' has no handler for 'say'; it has none"]


# --- which app and which hub ---------------------------------------------------------------------------------


def two_hubs() -> UpstreamApp:
    news, rooms = Hub("news"), Hub("room_*")

    @news.on("tell")
    async def tell(ctx: Context, text: str) -> None:
        await news.clients.all.send("told", text)
        await rooms_of(ctx).clients.all.send("told", text)

    @rooms.on("where")
    async def where(ctx: Context) -> str:
        await ctx.clients.all.send("here")
        return ctx.hub

    app = UpstreamApp(news, rooms)

    def rooms_of(ctx: Context) -> Any:
        return app.hub(rooms, name="room_1")

    return app


async def test_one_of_several_hubs_is_named() -> None:
    app = two_hubs()
    async with HubTester(app, hub="news") as hub:
        room = hub.other("room_1")
        bob = await room.connect("bob")
        await hub.invoke("tell", "hello")

        assert await room.invoke("where", user="bob") == "room_1"
        assert await bob.receive() == ("told", ["hello"])
        hub.sent.to_all("told", "hello")
        hub.sent.nothing()
        room.sent.to_all("told", "hello")
        room.sent.to_all("here")
        room.sent.nothing()
        assert repr(room) == "<HubTester of hub 'room_1'>"


async def test_a_hub_object_names_itself() -> None:
    app = two_hubs()
    async with HubTester(app, hub=app.hubs[0]) as hub:
        assert hub.name == "news"


@pytest.mark.parametrize(
    ("hub", "text"),
    [
        (None, r"say which hub is tested: HubTester\(app, hub=...\); there are news, room_\*"),
        ("nwes", r"the app has no hub 'nwes'; there are news, room_\*"),
    ],
)
async def test_hubs_that_cannot_be_meant_are_named(hub: str | None, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        HubTester(two_hubs(), hub=hub)


async def test_a_family_alone_wants_a_name() -> None:
    with pytest.raises(ConfigurationError, match="say which hub is tested"):
        HubTester(UpstreamApp(Hub("room_*")))


async def test_a_mounted_app_is_found() -> None:
    api = FastAPI()
    api.mount("/signalr", chat_app())

    async with HubTester(api) as hub:
        await hub.invoke("later", 0.01)
        ann = await hub.connect_via("/signalr/chat")

        assert (await ann.invoke("say", "lobby", Message("hi")))["length"] == 2


async def test_an_app_without_a_hub_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs an UpstreamApp"):
        HubTester(FastAPI())


def test_another_event_loop_than_asyncios_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="def anyio_backend"):
        HubTester(chat_app()).__aenter__().send(None)


async def test_what_code_beside_handlers_sends_comes_to_the_service() -> None:
    chat = Hub("chat")
    UpstreamApp(chat), UpstreamApp(chat)  # of other tests

    async with HubTester(UpstreamApp(chat)) as hub:
        await chat.clients.all.send("news")
        hub.sent.to_all("news")


async def test_it_may_end_in_another_context_than_it_began_in() -> None:
    hub = HubTester(chat_app())
    await asyncio.create_task(hub.__aenter__())

    await hub.__aexit__(None, None, None)


async def database() -> str:
    raise KeyError("database")


async def test_an_app_that_does_not_start_leaves_nothing_behind() -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: UpstreamApp) -> AsyncIterator[dict[str, str]]:
        yield {"database": await database()}

    app = chat_app(lifespan=lifespan)
    with pytest.raises(KeyError):
        async with HubTester(app, overrides={store: Store}):
            raise AssertionError

    assert app.dependency_overrides == {}


async def test_calls_find_every_app_that_is_mounted() -> None:
    rooms = Hub("room_*")

    @rooms.on("where")
    async def where(ctx: Context) -> str:
        return ctx.hub

    api = FastAPI()
    api.mount("/one", chat_app(path="/upstream/{hub}/{category}/{event}"))
    api.mount("/two", UpstreamApp(rooms, code="secret code"))
    api.mount("/three", UpstreamApp(Hub("orders"), application="shop"))

    async with HubTester(api, hub="chat") as chat:
        room = chat.other("room_1")

        assert await chat.invoke("say", "lobby", Message("hi")) == {"length": 2}
        assert await room.invoke("where") == "room_1"
        urls = [template.url for template in chat.service.upstream_templates]

    assert urls == [
        "http://app.localhost/one/upstream/{hub}/{category}/{event}",
        "http://app.localhost/three/{hub}/{category}/{event}",
        "http://app.localhost/two/{hub}/{category}/{event}?code=secret+code",
    ]
    assert [template.hub for template in chat.service.upstream_templates] == ["chat", "shop_orders", "*"]
