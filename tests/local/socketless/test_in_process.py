"""A local service without a port: an app, its REST calls and its clients on one event loop, with no socket."""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from signalr_upstream import Context, Forbidden, Hub, HubError, Identity, ServiceClient, UpstreamApp, role
from signalr_upstream.errors import (
    ClientInvocationError,
    ConfigurationError,
    IdentityError,
    InvalidNameError,
    NoKeysError,
    ServiceError,
)
from signalr_upstream.local import (
    DisconnectedError,
    LocalService,
    ManualClock,
    NotAdmittedError,
    NothingCameError,
    Received,
)
from signalr_upstream.local.socketless.hosted_app import HostedApp

pytestmark = pytest.mark.anyio


class Chat:
    """A small app, and what it has seen."""

    def __init__(self, **options: Any) -> None:
        self.seen: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.hub = Hub("chat")
        self.hub.on("connected")(self.connected)
        self.hub.on("disconnected")(self.disconnected)
        self.hub.on("echo")(self.echo)
        self.hub.on("fail")(self.fail)
        self.hub.on("say")(self.say)
        self.hub.on("who")(self.who)
        self.hub.on("wait")(self.wait)
        self.hub.on("admin", require=role("admin"))(self.echo)
        self.hub.negotiate(self.negotiate)
        self.app = UpstreamApp(self.hub, **options)

    async def negotiate(self, request: Request) -> Identity:
        name = request.query_params.get("name")
        if name is None:
            raise Forbidden("Who are you?")
        return Identity(name, claims={"role": request.headers.get("x-role", "user")})

    async def connected(self, ctx: Context) -> None:
        await self.gate.wait()
        self.seen.append(("connected", ctx.user_id))
        await ctx.clients.others.send("joined", ctx.user_id)

    async def disconnected(self, ctx: Context) -> None:
        self.seen.append(("disconnected", ctx.user_id))

    async def echo(self, ctx: Context, *arguments: Any) -> Any:
        return arguments[0] if len(arguments) == 1 else list(arguments)

    async def fail(self, ctx: Context) -> None:
        raise HubError("There is nothing to do.")

    async def say(self, ctx: Context, text: str) -> None:
        self.seen.append(text)
        await ctx.clients.all.send("said", text)

    async def who(self, ctx: Context) -> Any:
        return [
            ctx.user_id,
            {name: list(values) for name, values in ctx.claims.items()},
            ctx.query.get("room"),
        ]

    async def wait(self, ctx: Context) -> None:
        await self.gate.wait()


@pytest.fixture
async def chat() -> Chat:
    return Chat()


@pytest.fixture
async def service(chat: Chat) -> AsyncIterator[LocalService]:
    async with LocalService(chat.app, port=None) as service:
        yield service


# --- calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_invoke_gives_the_result(service: LocalService, protocol: str) -> None:
    client = await service.connect("chat", protocol=protocol)

    assert await client.invoke("echo", {"text": "é", "numbers": [1, 2.5]}) == {
        "text": "é",
        "numbers": [1, 2.5],
    }
    assert await client.invoke("echo", None) is None
    assert await client.invoke("echo") == []


async def test_messagepack_values_arrive_as_they_are(service: LocalService) -> None:
    client = await service.connect("chat", protocol="messagepack")

    assert await client.invoke("echo", b"\x00\xff") == b"\x00\xff"


async def test_invoke_raises_what_the_app_answers_with(service: LocalService) -> None:
    client = await service.connect("chat")

    with pytest.raises(HubError, match="There is nothing to do"):
        await client.invoke("fail")
    with pytest.raises(HubError, match="status code 404"):
        await client.invoke("unheard")


async def test_what_was_sent_is_handled_once_the_service_has_settled(
    service: LocalService, chat: Chat
) -> None:
    client = await service.connect("chat", user_id="ann")

    await client.send("say", "one")
    await client.send("say", "two")
    await service.settled()

    assert chat.seen == [("connected", "ann"), "one", "two"]
    assert client.waiting == [("said", ["one"]), ("said", ["two"])]


async def test_settled_names_what_is_still_running(service: LocalService, chat: Chat) -> None:
    client = await service.connect("chat")
    chat.gate.clear()
    await client.send("wait")

    with pytest.raises(NothingCameError, match=r"not answered within 0\.01 s: 'wait'$"):
        await service.settled(timeout=0.01)

    chat.gate.set()
    await service.settled()


async def test_an_answer_that_does_not_come_is_named(service: LocalService, chat: Chat) -> None:
    client = await service.connect("chat")
    chat.gate.clear()

    with pytest.raises(NothingCameError, match=r"an answer to 'wait' has not come within 0\.01 s"):
        await client.invoke("wait", timeout=0.01)

    chat.gate.set()


async def test_an_invocation_waits_while_the_app_is_busy(service: LocalService, chat: Chat) -> None:
    client = await service.connect("chat")
    chat.gate.clear()
    await client.send("wait")
    long = "x" * 700_000

    sent = [asyncio.create_task(client.send("say", long, timeout=0.05)) for _ in range(10)]
    *_, last = await asyncio.gather(*sent, return_exceptions=True)

    assert isinstance(last, NothingCameError)
    assert str(last).startswith("the service reads nothing more from this client since 0.05 s")
    chat.gate.set()


# --- messages --------------------------------------------------------------------------------------------------


async def test_messages_are_received_in_order_or_by_target(service: LocalService) -> None:
    ann = await service.connect("chat", user_id="ann")
    bob = await service.connect("chat", user_id="bob", protocol="messagepack")
    await bob.invoke("say", "hello")
    await bob.invoke("say", "again")

    assert await ann.receive("said") == Received("said", ["hello"])
    assert await ann.receive() == ("joined", ["bob"])
    assert await ann.receive() == ("said", ["again"])
    assert await bob.receive() == ("said", ["hello"])


async def test_a_message_may_come_later(service: LocalService) -> None:
    ann = await service.connect("chat")
    waiting = asyncio.create_task(ann.receive("joined"))

    await service.connect("chat", user_id="bob")

    assert (await waiting).arguments == ["bob"]


async def test_a_message_that_does_not_come_is_named_with_those_that_did(service: LocalService) -> None:
    ann = await service.connect("chat")

    with pytest.raises(
        NothingCameError, match=r"a message has not come within 0\.01 s; nothing else is there"
    ):
        await ann.receive(timeout=0.01)
    for text in ("one", "two"):
        await ann.invoke("say", text)
    await service.connect("chat")
    with pytest.raises(
        TimeoutError, match=r"'newMessage' has not come .*; there is 'said' \(2 times\), 'joined'"
    ):
        await ann.receive("newMessage", timeout=0.01)


async def test_handlers_take_messages_plain_and_async(
    service: LocalService, caplog: pytest.LogCaptureFixture
) -> None:
    client = await service.connect("chat", user_id="ann")
    heard: list[str] = []
    came = asyncio.Event()

    async def joined(user: str) -> None:
        heard.append(f"joined {user}")
        came.set()

    client.on("said", lambda text: heard.append(text))
    client.on("joined", joined)
    await client.invoke("say", "hello")
    await service.connect("chat", user_id="bob")
    await came.wait()

    assert heard == ["hello", "joined bob"]
    assert client.waiting == []

    client.on("said", lambda text: heard.index("unheard"))
    with caplog.at_level(logging.ERROR):
        await client.invoke("say", "x")
        await service.settled()
        await asyncio.sleep(0)
    assert "a handler of <InProcessClient" in caplog.text


# --- who may come in -------------------------------------------------------------------------------------------


async def test_claims_of_a_connected_client_are_sealed(service: LocalService) -> None:
    admin = await service.connect("chat", user_id="ann", claims={"role": ["admin"]}, query={"room": "a&b"})
    user = await service.connect("Chat", claims={"role": "user, su: admin"})

    assert await admin.invoke("who") == ["ann", {"role": ["admin"]}, "a&b"]
    assert await admin.invoke("admin", 1) == 1
    assert await user.invoke("who") == [None, {"role": ["user, su: admin"]}, None]
    with pytest.raises(HubError, match="not allowed"):
        await user.invoke("admin", 1)


async def test_a_client_connects_by_the_negotiate_of_the_app(service: LocalService) -> None:
    ann = await service.connect_via("/chat?name=ann", headers={"X-Role": "admin"})
    bob = await service.connect_via("https://app.example/chat/?name=bob", protocol="messagepack")

    assert await ann.invoke("who") == ["ann", {"role": ["admin"]}, None]
    assert await bob.invoke("who") == ["bob", {"role": ["user"]}, None]


async def test_a_refusal_of_the_app_is_raised_with_its_reason(service: LocalService) -> None:
    with pytest.raises(NotAdmittedError, match=r"403: Who are you\?") as caught:
        await service.connect_via("/chat")
    with pytest.raises(NotAdmittedError, match="404: there is no such hub") as other:
        await service.connect_via("/other")

    assert (caught.value.status, other.value.status) == (403, 404)


async def test_an_app_of_another_service_is_told_from_this_one(chat: Chat) -> None:
    key = "AnotherAccessKeyForTests_0123456789ABCDEFGHI"
    async with LocalService(chat.app, port=None) as service:
        chat.app.connected_to(f"Endpoint=https://x.service.signalr.net;AccessKey={key};")
        with pytest.raises(
            ConfigurationError, match=r"sends its clients to x\.service\.signalr\.net, and this service"
        ):
            await service.connect_via("/chat?name=ann")


async def test_an_app_that_answers_negotiate_with_something_else_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async with LocalService(app, port=None) as service:
        with pytest.raises(ConfigurationError, match="no url and accessToken"):
            await service.connect_via("/chat")


async def test_the_service_refuses_as_it_refuses_everybody(service: LocalService) -> None:
    with pytest.raises(InvalidNameError):
        await service.connect("1chat")
    with pytest.raises(IdentityError, match="the user id is empty"):
        await service.connect("chat", user_id="")
    with pytest.raises(ConfigurationError, match="no hub protocol 'xml': it is json or messagepack"):
        await service.connect("chat", protocol="xml")

    await service.aclose()

    with pytest.raises(NotAdmittedError, match="503: The local service is ending"):
        await service.connect("chat")


async def test_an_app_that_does_not_answer_connected_is_named(service: LocalService, chat: Chat) -> None:
    chat.gate.clear()
    with pytest.raises(NothingCameError, match="'connected'"):
        await service.connect("chat", timeout=0.05)
    chat.gate.set()


# --- the end ---------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_is_told_to_the_app(service: LocalService, chat: Chat) -> None:
    async with await service.connect("chat", user_id="ann") as client:
        assert repr(client) == f"<InProcessClient {client.connection_id} open>"
    await client.close()

    assert chat.seen == [("connected", "ann"), ("disconnected", "ann")]
    assert repr(client) == f"<InProcessClient {client.connection_id} closed>"
    for call in (client.invoke("echo", 1), client.send("echo", 1), client.send_raw(b""), client.receive()):
        with pytest.raises(DisconnectedError, match=r"the connection is closed$"):
            await call


async def test_a_client_that_is_sent_away_learns_why(service: LocalService, chat: Chat) -> None:
    client = await service.connect("chat", user_id="ann")
    await client.invoke("say", "hello")
    pending = asyncio.create_task(client.receive("never"))

    await chat.app.hub(chat.hub).connections.close(client.connection_id, reason="Go home.")

    assert await client.closed() == "Go home."
    with pytest.raises(DisconnectedError, match="closed: Go home") as caught:
        await pending
    assert caught.value.reason == "Go home."
    assert await client.receive() == ("said", ["hello"])  # what came before is still there


async def test_an_end_that_does_not_come_is_named(service: LocalService) -> None:
    client = await service.connect("chat")

    with pytest.raises(NothingCameError, match=r"an end of the connection has not come within 0\.01 s"):
        await client.closed(timeout=0.01)


async def test_malformed_input_ends_the_connection(service: LocalService, chat: Chat) -> None:
    client = await service.connect("chat")

    await client.send_raw(b"{\x1e")

    assert await client.closed() == "Connection closed with an error."


async def test_the_service_ends_its_clients(chat: Chat) -> None:
    async with LocalService(chat.app, port=None) as service:
        client = await service.connect("chat", user_id="ann")

    assert not client.is_open
    assert chat.seen[-1] == ("disconnected", "ann")


# --- without a port --------------------------------------------------------------------------------------------


async def test_nothing_listens_without_a_port(service: LocalService) -> None:
    assert service.port == 0
    assert "Port=" not in service.connection_string


async def test_the_extra_is_needed_for_a_port_only(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "signalr_upstream.local.server", None)

    async with LocalService(chat.app, port=None) as service:
        client = await service.connect("chat")
        assert await client.invoke("echo", 1) == 1
    with pytest.raises(
        ConfigurationError, match=r"without port=None needs .*pip install 'signalr-upstream\[local\]'"
    ):
        await LocalService(chat.app).__aenter__()


async def test_code_that_is_no_handler_sends_through_the_transport(service: LocalService) -> None:
    client = await service.connect("chat")

    async with ServiceClient(service.connection_string, transport=service.transport) as sender:
        await sender.hub("chat").clients.all.send("announcement", "Tea.")

    assert await client.receive() == ("announcement", ["Tea."])


async def test_a_client_of_this_process_meets_those_of_a_port(chat: Chat) -> None:
    async with LocalService(chat.app) as service:
        client = await service.connect("chat")
        assert service.transport is None
        async with ServiceClient(service.connection_string) as sender:
            await sender.hub("chat").clients.all.send("announcement", "Tea.")
        assert await client.receive() == ("announcement", ["Tea."])


async def test_a_service_that_has_ended_is_an_error_at_once(chat: Chat) -> None:
    async with LocalService(chat.app, port=None) as service:
        hub = chat.app.hub(chat.hub)

    with pytest.raises(ServiceError, match="the local service has ended"):
        await hub.clients.all.send("x")
    assert service.transport is not None


async def test_another_event_loop_is_an_error_at_once(service: LocalService, chat: Chat) -> None:
    def elsewhere() -> None:
        asyncio.run(chat.app.hub(chat.hub).clients.all.send("x"))

    with pytest.raises(ServiceError, match="lives in another event loop"):
        await asyncio.to_thread(elsewhere)


async def test_the_app_has_its_own_service_again_afterwards(chat: Chat) -> None:
    own = chat.app.connection
    async with LocalService(chat.app, port=None) as outer:
        async with LocalService(chat.app, port=None) as inner:
            client = await inner.connect("chat")
            assert await client.invoke("echo", 1) == 1
        client = await outer.connect("chat")
        assert await client.invoke("echo", 2) == 2

    assert chat.app.connection is own
    with pytest.raises(NoKeysError):
        chat.app.check_keys()


async def test_a_service_that_is_left_late_takes_nothing_back(chat: Chat) -> None:
    first, second = LocalService(chat.app, port=None), LocalService(chat.app, port=None)
    await first.__aenter__()
    await second.__aenter__()
    await first.aclose()

    client = await second.connect("chat", user_id="ann")
    await client.invoke("say", "hello")
    assert await client.receive() == ("said", ["hello"])
    await second.aclose()


async def test_services_and_apps_side_by_side_do_not_meet() -> None:
    one, two = Chat(), Chat()
    async with LocalService(one.app, port=None) as first, LocalService(two.app, port=None) as second:
        ann, bob = await first.connect("chat"), await second.connect("chat")
        await asyncio.gather(ann.invoke("say", "one"), bob.invoke("say", "two"))

        assert (ann.waiting, bob.waiting) == ([("said", ["one"])], [("said", ["two"])])


async def test_a_mounted_app_sends_here_too(chat: Chat) -> None:
    async with LocalService(Starlette(routes=[Mount("/signalr", chat.app)]), port=None) as service:
        client = await service.connect_via("/signalr/chat?name=ann")
        async with ServiceClient(service.connection_string, transport=service.transport) as sender:
            assert await sender.hub("chat").users.exists("ann")
        assert client.is_open
        with pytest.raises(NotAdmittedError, match="404: Not Found"):
            await service.connect_via("/elsewhere")


# --- lifespan --------------------------------------------------------------------------------------------------


async def test_the_lifespan_of_the_app_is_run_around_its_clients() -> None:
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
        order.append("start")
        yield {"database": "db"}
        order.append("end")

    hub = Hub("chat")

    @hub.on("database")
    async def database(ctx: Context) -> str:
        return str(ctx.state.database)

    @hub.on("disconnected")
    async def disconnected(ctx: Context) -> None:
        order.append("disconnected")

    async with LocalService(UpstreamApp(hub, lifespan=lifespan), port=None) as service:
        client = await service.connect("chat")
        assert await client.invoke("database") == "db"

    assert order == ["start", "disconnected", "end"]


async def test_a_lifespan_that_fails_raises_its_own_error() -> None:
    @asynccontextmanager
    async def bad_start(app: Any) -> AsyncIterator[None]:
        if app is not None:
            raise LookupError("no database")
        yield

    @asynccontextmanager
    async def bad_end(app: Any) -> AsyncIterator[None]:
        yield
        raise LookupError("no farewell")

    with pytest.raises(LookupError, match="no database"):
        async with LocalService(UpstreamApp(Hub("chat"), lifespan=bad_start), port=None):
            pytest.fail("it must not start")
    with pytest.raises(LookupError, match="no farewell"):
        async with LocalService(UpstreamApp(Hub("chat"), lifespan=bad_end), port=None):
            pass


async def test_a_lifespan_that_says_it_failed_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})

    with pytest.raises(ConfigurationError, match="says that its startup has failed"):
        await LocalService(app, port=None).__aenter__()


async def test_an_app_without_a_lifespan_is_served() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with LocalService(app, port=None) as service:
        client = await service.connect("chat")
        assert await client.invoke("anything") is None


async def test_an_app_that_ends_early_and_one_that_goes_on_are_both_left() -> None:
    async def ends(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.startup.complete"})

    async def goes_on(scope: Any, receive: Any, send: Any) -> None:
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})

    for app in (ends, goes_on):
        async with LocalService(app, port=None):
            pass


async def test_a_lifespan_that_hangs_is_an_error() -> None:
    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def fails_and_hangs(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed"})
        await asyncio.Event().wait()

    with pytest.raises(
        ConfigurationError, match=r"not answered 'startup' within 0\.01 seconds: .* lifespan=False"
    ):
        await HostedApp(hangs, patience=0.01).startup()
    with pytest.raises(ConfigurationError, match="its startup has failed"):
        await HostedApp(fails_and_hangs, patience=0.01).startup()


async def test_a_lifespan_can_be_left_alone(chat: Chat) -> None:
    async with LocalService(chat.app, port=None, lifespan=False) as service:
        client = await service.connect("chat")
        assert await client.invoke("echo", 1) == 1


# --- time ------------------------------------------------------------------------------------------------------


async def test_hours_pass_at_once_with_a_clock_moved_by_hand(chat: Chat) -> None:
    clock = ManualClock(time.time() + 60)  # the app's negotiate goes by the system's
    async with LocalService(chat.app, port=None, clock=clock) as service:
        client = await service.connect_via("/chat?name=ann")
        hub = chat.app.hub(chat.hub)
        await hub.users.add_to_group("bob", group="lobby", ttl=600)
        assert await hub.users.in_group("bob", group="lobby")

        clock.advance(600)

        assert not await hub.users.in_group("bob", group="lobby")
        assert await client.invoke("echo", 1) == 1


async def test_faults_reach_clients_of_this_process(service: LocalService, chat: Chat) -> None:
    ann = await service.connect("chat", user_id="ann")
    bob = await service.connect("chat", user_id="bob")

    service.faults.hold(ann.connection_id)
    await bob.invoke("say", "hello")
    assert ann.waiting == [("joined", ["bob"])]
    service.faults.release(ann.connection_id)
    assert await ann.receive("said") == ("said", ["hello"])

    service.faults.drop(ann.connection_id)
    assert await ann.closed() is None
    assert ("disconnected", "ann") in chat.seen

    service.faults.upstream_status = 503
    with pytest.raises(HubError, match="status code 503"):
        await bob.invoke("echo", 1)


# --- what the REST API asks of clients -------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_the_app_asks_a_client_and_gets_its_answer(
    service: LocalService, chat: Chat, protocol: str
) -> None:
    client = await service.connect("chat", protocol=protocol)
    client.on("add", lambda *numbers: sum(numbers))
    target = chat.app.hub(chat.hub).clients.connection(client.connection_id)

    assert await target.invoke("add", 40, 2, result_type=int) == 42
    with pytest.raises(ClientInvocationError, match="Client didn't provide a result"):
        await target.invoke("unheard")


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_a_client_reads_a_stream_that_the_app_feeds(protocol: str) -> None:
    asked = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if (b"x-asrs-event", b"count") in scope.get("headers", ()):
            asked.set()
        await Response(status_code=204)(scope, receive, send)

    async with (
        LocalService(app, port=None, experimental_streams=True) as service,
        ServiceClient(service.connection_string, transport=service.transport) as sender,
    ):
        client = await service.connect("chat", protocol=protocol)
        target = sender.hub("chat").clients.connection(client.connection_id)
        stream = client.stream("count", 3)
        first = asyncio.ensure_future(anext(stream))
        await asked.wait()
        await service.settled()

        assert await target.send_item("1", {"n": 1})
        assert await first == {"n": 1}
        assert await target.send_item("1", [2], completed=True)
        assert [item async for item in stream] == [[2]]
        assert not await target.send_item("1", 3)
        assert not await target.complete_stream("1")


async def test_a_stream_that_nobody_serves_says_so(service: LocalService) -> None:
    client = await service.connect("chat")

    with pytest.raises(HubError, match="stream"):
        await anext(client.stream("count"))
