"""The local service on a port, with an app in this process and raw WebSocket clients."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from signalr_upstream import Context, Hub, ServiceClient, UpstreamApp
from signalr_upstream.auth import encode_token
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.errors import ConfigurationError
from signalr_upstream.local import LocalService, server
from signalr_upstream.local.clients import client_endpoint as module
from signalr_upstream.local.server import HideQueries
from signalr_upstream.local.upstream import app_transport

pytestmark = pytest.mark.anyio

TCP_CLOSE = 7  # of Linux: the peer has reset the connection
HANDSHAKE = '{"protocol":"json","version":1}\x1e'


class Chat:
    """An app that remembers what it was told, and can be made to wait."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.ended = asyncio.Event()
        self.waits = asyncio.Event()
        hub = Hub("chat")
        hub.on("connected")(self.connected)
        hub.on("disconnected")(self.disconnected)
        hub.on("double")(self.double)
        hub.on("wait")(self.wait)
        self.app = UpstreamApp(hub)

    async def connected(self, ctx: Context) -> None:
        self.events.append(("connected", ctx.user_id))

    async def disconnected(self, ctx: Context) -> None:
        self.events.append(("disconnected", ctx.error))
        self.ended.set()

    async def double(self, ctx: Context, number: int) -> int:
        await ctx.clients.all.send("doubled", number)
        return 2 * number

    async def wait(self, ctx: Context) -> None:
        self.waits.set()
        await self.gate.wait()


@asynccontextmanager
async def running(chat: Chat, **options: Any) -> AsyncIterator[LocalService]:
    async with LocalService(chat.app, **options) as service:
        yield service


@pytest.fixture
async def chat() -> Chat:
    return Chat()


@pytest.fixture
async def service(chat: Chat) -> AsyncIterator[LocalService]:
    async with running(chat) as service:
        yield service


def token(service: LocalService, hub: str = "chat") -> str:
    endpoint = parse_connection_string(service.connection_string)
    claims = {"asrs.s.uid": "ann", "exp": 4102444800, "aud": f"{endpoint.audience}/client/?hub={hub}"}
    return encode_token(claims, endpoint.keys[0])


def connect(
    service: LocalService, path: str = "/client/?hub=chat", *, hub: str = "chat", **headers: str
) -> Any:
    authorization = {"Authorization": f"Bearer {token(service, hub)}"}
    return websockets.connect(
        f"ws://127.0.0.1:{service.port}{path}", additional_headers=authorization | headers, proxy=None
    )


async def open_session(client: ClientConnection) -> None:
    await client.send(HANDSHAKE)
    assert await client.recv() == "{}\x1e"


async def test_an_invocation_goes_to_the_app_and_its_answer_comes_back(
    service: LocalService, chat: Chat
) -> None:
    async with connect(service) as client:
        await open_session(client)
        await client.send('{"type":1,"invocationId":"7","target":"double","arguments":[21]}\x1e')

        assert await client.recv() == '{"type":1,"target":"doubled","arguments":[21]}\x1e'
        assert await client.recv() == '{"type":3,"invocationId":"7","result":42}\x1e'
    await chat.ended.wait()

    assert chat.events == [("connected", "ann"), ("disconnected", None)]


async def test_messagepack_is_answered_in_binary(service: LocalService) -> None:
    async with connect(service) as client:
        await client.send('{"protocol":"messagepack","version":1}\x1e')  # as text, like the JS client
        assert await client.recv() == b"{}\x1e"
        await client.send(bytes.fromhex("0e950180a137a6646f75626c659115"))

        assert await client.recv() == bytes.fromhex("0f960180c0a7646f75626c6564911590")
        assert await client.recv() == bytes.fromhex("07950380a137032a")


@pytest.mark.parametrize("version", [0, 1])
async def test_a_negotiated_id_opens_one_connection(service: LocalService, version: int) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token(service)}"}) as http:
        url = f"{service.url}/client/negotiate?hub=chat&negotiateVersion={version}"
        negotiation = (await http.post(url)).json()
    wanted = negotiation["connectionToken" if version else "connectionId"]

    async with connect(service, f"/client/?hub=chat&id={wanted}") as client:
        await open_session(client)
        assert service.hub("chat").connection(negotiation["connectionId"]) is not None
        with pytest.raises(InvalidStatus) as refused:
            await connect(service, f"/client/?hub=chat&id={wanted}")
    assert refused.value.response.status_code == 409
    with pytest.raises(InvalidStatus) as unknown:
        await connect(service, f"/client/?hub=chat&id={wanted}x")
    assert unknown.value.response.status_code == 404


async def test_a_browser_brings_its_token_in_the_query(
    service: LocalService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "websockets.client")  # the test's own end
    caplog.set_level(logging.DEBUG)
    value = token(service)
    url = f"ws://127.0.0.1:{service.port}/client?hub=chat&access_token={value}"

    async with websockets.connect(url, origin="http://localhost:3000", proxy=None) as client:  # type: ignore[arg-type]
        await open_session(client)

    assert "[accepted]" in caplog.text
    assert value not in caplog.text


@pytest.mark.parametrize(
    ("path", "headers", "status", "said"),
    [
        ("/client/", {}, 401, "audience"),
        ("/client/?hub=chat", {"Authorization": "Bearer x"}, 401, "JWT"),
        ("/client/?hub=other", {}, 401, "audience"),
        ("/chat", {}, 404, "/client/?hub="),
        ("/client/?hub=chat", {"Origin": "https://evil.example"}, 403, "origin"),
    ],
)
async def test_a_refused_websocket_is_told_why(
    service: LocalService, path: str, headers: dict[str, str], status: int, said: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await websockets.connect(
            f"ws://127.0.0.1:{service.port}{path}",
            additional_headers={"Authorization": f"Bearer {token(service)}"} | headers,
            proxy=None,
        )

    assert refused.value.response.status_code == status
    assert said in (refused.value.response.body or b"").decode()


@pytest.mark.parametrize(("query", "status"), [("", 400), ("?hub=", 400), ("?hub=1x", 400)])
async def test_a_hub_is_needed(service: LocalService, query: str, status: int) -> None:
    hub = query.removeprefix("?hub=")

    with pytest.raises(InvalidStatus) as refused:
        await connect(service, f"/client/{query}", hub=hub)

    assert refused.value.response.status_code == status


async def test_a_lenient_service_takes_any_hub_name(chat: Chat) -> None:
    async with running(chat, lenient=True) as service, connect(service, "/client/?hub=1-x") as client:
        await open_session(client)


async def test_a_client_can_say_more_than_waits_while_the_app_is_slow(
    service: LocalService, chat: Chat
) -> None:
    chat.gate.clear()
    async with connect(service) as client:
        await open_session(client)
        await client.send('{"type":1,"target":"wait","arguments":[]}\x1e')
        for _ in range(20):
            await client.send('{"type":1,"target":"nothing","arguments":["' + "x" * 10_000 + '"]}\x1e')
        await client.send('{"type":1,"invocationId":"7","target":"double","arguments":[1]}\x1e')
        chat.gate.set()

        await client.recv()
        assert await client.recv() == '{"type":3,"invocationId":"7","result":2}\x1e'


async def test_a_protocol_error_closes_the_socket_and_the_app_learns_of_it(
    service: LocalService, chat: Chat
) -> None:
    async with connect(service) as client:
        await open_session(client)
        await client.send("garbage\x1e")

        assert '"type":7' in str(await client.recv())
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    await chat.ended.wait()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000
    assert "not a hub message" in chat.events[-1][1]


async def test_the_app_is_told_no_error_where_the_network_broke_or_it_closed_the_connection_itself(
    service: LocalService, chat: Chat
) -> None:
    # As Microsoft's emulator: its exchanges close_abrupt_terminate and rest_close_reason.
    dropped = await service.connect("chat", user_id="ann")
    service.faults.drop(dropped.connection_id)
    await dropped.closed()
    closed = await service.connect("chat", user_id="bob")
    await chat.app.hub(chat.app.hubs[0]).connections.close(closed.connection_id, reason="bye")

    assert await closed.closed() == "bye"
    assert chat.events == [
        ("connected", "ann"),
        ("disconnected", None),
        ("connected", "bob"),
        ("disconnected", None),
    ]


async def test_the_end_of_the_service_sends_clients_away_and_tells_the_app(chat: Chat) -> None:
    async with running(chat) as service:
        client = await connect(service)
        await open_session(client)

    assert await client.recv() == '{"type":7,"allowReconnect":true}\x1e'
    assert chat.events[-1] == ("disconnected", None)
    await client.close()


async def test_the_end_does_not_wait_for_ever_for_the_app(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_CALLS", 0.01)
    monkeypatch.setattr(app_transport, "GRACE", 0.01)
    chat.gate.clear()
    async with running(chat) as service:
        client = await connect(service)
        await open_session(client)
        await client.send('{"type":1,"target":"wait","arguments":[]}\x1e')
        await chat.waits.wait()

    await client.close()


async def test_clients_that_come_back_while_the_service_ends_are_refused(chat: Chat) -> None:
    chat.gate.clear()
    service = await LocalService(chat.app).__aenter__()
    client = await connect(service)
    await open_session(client)
    await client.send('{"type":1,"target":"wait","arguments":[]}\x1e')
    await chat.waits.wait()
    end = asyncio.create_task(service.aclose())
    await client.recv()

    with pytest.raises(InvalidStatus) as socket_refused:
        await connect(service)
    async with httpx.AsyncClient() as http:
        negotiated = await http.post(f"{service.url}/client/negotiate?hub=chat")
    chat.gate.set()
    await end

    assert socket_refused.value.response.status_code == 503
    assert negotiated.status_code == 503
    await client.close()


async def test_a_client_that_never_reads_is_dropped_and_holds_nothing_up(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LINGER", 0.0)
    async with running(chat) as service, ServiceClient(service.connection_string) as sender:
        client = await connect(service)
        await open_session(client)
        client.transport.pause_reading()

        everybody = sender.hub("chat").clients.all
        while not chat.ended.is_set():
            await everybody.send("flood", "x" * 1_000_000)

        assert service.hub("chat").everybody() == []
        end = client.transport.get_extra_info("socket")
        while end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO) != TCP_CLOSE:  # noqa: ASYNC110 - the system tells nobody
            await asyncio.sleep(0.01)
    client.transport.abort()


async def test_the_end_of_the_service_does_not_wait_for_who_never_reads(
    chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(chat) as service, ServiceClient(service.connection_string) as sender:
        client = await connect(service)
        await open_session(client)
        client.transport.pause_reading()
        for _ in range(10):  # more than the system buffers, less than what cuts it off
            await sender.hub("chat").clients.all.send("flood", "x" * 600_000)
        assert not chat.ended.is_set()

    assert "Cancel" not in caplog.text
    client.transport.abort()


async def test_an_app_that_cannot_be_connected_closes_the_port() -> None:
    class Refusing(UpstreamApp):
        def connected_to(self, *_: Any, **__: Any) -> Any:
            raise ConfigurationError("no")

    service = LocalService(Refusing(Hub("chat")))

    with pytest.raises(ConfigurationError):
        await service.__aenter__()

    assert service.port == 0


async def test_what_a_call_leaves_in_its_context_is_not_there_in_the_next(chat: Chat) -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        seen.append(variable.get())
        variable.set(variable.get() + 1)
        await chat.app(scope, receive, send)

    seen: list[int] = []
    async with LocalService(app, lifespan=False, port=None) as service:
        chat.app.connected_to(service.connection_string, service.transport)
        client = await service.connect("chat")
        assert [await client.invoke("double", number) for number in (1, 2)] == [2, 4]

    assert set(seen) == {0}


async def test_a_taken_port_is_an_error_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await LocalService(port=taken.getsockname()[1]).__aenter__()


async def test_localhost_is_served_on_both_loopbacks() -> None:
    async with LocalService(host="localhost") as service, httpx.AsyncClient() as http:
        hosts = ["127.0.0.1"] + ["[::1]"] * has_ipv6()
        answers = [await http.get(f"http://{host}:{service.port}/api/health") for host in hosts]

    assert {answer.status_code for answer in answers} == {200}


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_queries_and_wire_dumps_are_kept_out_of_logs() -> None:
    def record(level: int, *args: Any) -> logging.LogRecord:
        return logging.LogRecord("uvicorn.error", level, "", 0, "%s %s", args, None)

    path = record(logging.INFO, "1.2.3.4", "/client/?hub=chat&access_token=s3cret")
    by_name = record(logging.INFO, {"path": "x"})

    assert HideQueries().filter(path)
    assert path.getMessage() == "1.2.3.4 /client/"
    assert HideQueries().filter(by_name)
    assert not HideQueries().filter(record(logging.DEBUG, "<", "Authorization: Bearer s3cret"))
