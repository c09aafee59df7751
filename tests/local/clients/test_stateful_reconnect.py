"""Stateful reconnect and closing times over sockets: negotiate, the endpoint, and what the app learns."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from signalr_upstream.auth import encode_token
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.local import LocalService
from signalr_upstream.local.admission import closing_time
from signalr_upstream.local.clients import reasons
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.rest.outgoing import Outgoing

from ..echo_app import EchoApp

pytestmark = pytest.mark.anyio

HANDSHAKE = '{"protocol":"json","version":2}\x1e'


@pytest.fixture
async def service(app: EchoApp, clock: ManualClock) -> AsyncIterator[LocalService]:
    async with LocalService(app, port=0, clock=clock) as service:
        yield service


def authorization(service: LocalService, **claims: Any) -> dict[str, str]:
    endpoint = parse_connection_string(service.connection_string)
    claims = {"asrs.s.uid": "ann", "exp": 4102444800, "aud": f"{endpoint.audience}/client/?hub=chat"} | claims
    return {"Authorization": f"Bearer {encode_token(claims, endpoint.keys[0])}"}


async def negotiate(service: LocalService, query: str = "&useStatefulReconnect=true") -> dict[str, Any]:
    async with httpx.AsyncClient(headers=authorization(service), trust_env=False) as http:
        url = f"{service.url}/client/negotiate?hub=chat&negotiateVersion=1{query}"
        return (await http.post(url)).json()  # type: ignore[no-any-return]


def open_socket(service: LocalService, token: str, **claims: Any) -> Any:
    url = f"ws://127.0.0.1:{service.port}/client/?hub=chat&id={token}"
    return websockets.connect(url, additional_headers=authorization(service, **claims), proxy=None)


async def shake_hands(client: ClientConnection) -> None:
    await client.send(HANDSHAKE)
    assert await client.recv() == "{}\x1e"
    await client.send('{"type":6}\x1e')  # as the JavaScript client does


def broadcast(service: LocalService, number: int) -> str:
    """What the client is to receive of it."""
    for member in service.hub("chat").everybody():
        member.send(Outgoing.json("t", b"[%d]" % number))
    return f'{{"type":1,"target":"t","arguments":[{number}]}}\x1e'


async def test_negotiate_offers_it_to_who_asks(service: LocalService) -> None:
    assert (await negotiate(service))["useStatefulReconnect"] is True
    assert "useStatefulReconnect" not in await negotiate(service, "")
    assert "useStatefulReconnect" not in await negotiate(service, "&useStatefulReconnect=false")


async def test_a_client_whose_socket_breaks_goes_on_where_it_was(service: LocalService, app: EchoApp) -> None:
    token = (await negotiate(service))["connectionToken"]
    client = await open_socket(service, token)
    await shake_hands(client)
    first = broadcast(service, 1)
    assert await client.recv() == first
    [connection] = service.hub("chat").everybody()

    client.transport.abort()
    async with open_socket(service, token) as back:
        second = broadcast(service, 2)
        await back.send(
            '{"type":9,"sequenceId":1}\x1e{"type":1,"invocationId":"0","target":"echo","arguments":[7]}\x1e'
        )

        assert await back.recv() == '{"type":9,"sequenceId":1}\x1e'
        assert await back.recv() == first
        assert await back.recv() == second
        assert await back.recv() == '{"type":3,"invocationId":"0","result":[7]}\x1e'
        assert service.hub("chat").everybody() == [connection]
        assert app.events == [("connected", "ann"), ("echo", [7])]
    await connection.gone.wait()
    await connection.finished()

    assert app.events[2:] == [("disconnected", None)]
    with pytest.raises(InvalidStatus) as closed:
        await open_socket(service, token)
    assert closed.value.response.status_code == 404


async def test_a_client_that_is_dropped_on_purpose_comes_back_too(service: LocalService) -> None:
    token = (await negotiate(service))["connectionToken"]
    async with open_socket(service, token) as client:
        await shake_hands(client)
        [connection] = service.hub("chat").everybody()
        service.faults.drop(connection.connection_id)
        message = broadcast(service, 1)
        with pytest.raises(ConnectionClosed):
            await client.recv()

    async with open_socket(service, token) as back:
        assert [await back.recv(), await back.recv()] == ['{"type":9,"sequenceId":1}\x1e', message]
        service.faults.drop(connection.connection_id)
        with pytest.raises(ConnectionClosed):
            await back.recv()


async def test_a_socket_that_hangs_is_replaced(service: LocalService) -> None:
    token = (await negotiate(service))["connectionToken"]
    async with open_socket(service, token) as old:
        await shake_hands(old)
        async with open_socket(service, token) as new:
            assert await new.recv() == '{"type":9,"sequenceId":1}\x1e'
            with pytest.raises(ConnectionClosed):
                await old.recv()
            message = broadcast(service, 1)
            assert await new.recv() == message


async def test_a_client_that_stays_away_is_gone_after_its_time(
    service: LocalService, app: EchoApp, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (await negotiate(service))["connectionToken"]
    client = await open_socket(service, token)
    await shake_hands(client)
    [connection] = service.hub("chat").everybody()
    lose, lost = connection.lose, asyncio.Event()

    def noticed() -> None:
        lose()
        lost.set()

    monkeypatch.setattr(connection, "lose", noticed)
    client.transport.abort()
    await lost.wait()
    clock.advance(29.9)
    assert service.hub("chat").everybody() == [connection]

    clock.advance(0.1)
    await connection.gone.wait()
    await connection.finished()

    assert app.events[-1] == ("disconnected", None)
    with pytest.raises(InvalidStatus) as closed:
        await open_socket(service, token)
    assert closed.value.response.status_code == 404


async def test_a_service_that_ends_does_not_wait_for_who_is_away(app: EchoApp) -> None:
    async with LocalService(app, port=0) as service:
        token = (await negotiate(service))["connectionToken"]
        client = await open_socket(service, token)
        await shake_hands(client)
        client.transport.abort()

    assert app.events == [("connected", "ann"), ("disconnected", None)]


async def test_a_client_without_it_cannot_come_back(service: LocalService, app: EchoApp) -> None:
    token = (await negotiate(service, ""))["connectionToken"]
    client = await open_socket(service, token)
    await shake_hands(client)
    [connection] = service.hub("chat").everybody()

    client.transport.abort()
    await connection.gone.wait()

    with pytest.raises(InvalidStatus) as closed:
        await open_socket(service, token)
    assert closed.value.response.status_code == 404


async def test_a_connection_that_ends_while_its_client_comes_back_says_goodbye(service: LocalService) -> None:
    token = (await negotiate(service))["connectionToken"]
    client = await open_socket(service, token)
    await shake_hands(client)
    [connection] = service.hub("chat").everybody()
    sent: list[Any] = []

    async def receive() -> Any:
        connection.close("too late")
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = authorization(service) | {"Host": "localhost"}
    scope = {
        "type": "websocket",
        "path": "/client/",
        "raw_path": b"/client/",
        "query_string": f"hub=chat&id={token}".encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await service.asgi(scope, receive, send)
    await client.close()

    assert sent == [{"type": "websocket.accept"}, {"type": "websocket.close", "code": 1000}]


# --- the end of an authentication ---


async def test_a_connection_is_closed_when_its_authentication_expires(
    service: LocalService, app: EchoApp, clock: ManualClock
) -> None:
    token = (await negotiate(service))["connectionToken"]
    ends = str(int(clock.time()) + 20)
    async with open_socket(service, token, **{"asrs.s.coae": "true", "asrs.s.aeo": ends}) as client:
        await shake_hands(client)
        [connection] = service.hub("chat").everybody()
        clock.advance(19.9)
        assert connection.session.open
        clock.advance(0.1)

        messages = [await client.recv(), await client.recv()]
    await connection.finished()

    assert messages[0] == '{"type":6}\x1e', "a ping after 15 seconds"
    assert messages[1] == f'{{"type":7,"error":"{reasons.EXPIRED}","allowReconnect":true}}\x1e'
    assert app.events[-1] == ("disconnected", reasons.EXPIRED)
    assert service.journal.frames[-1].data == reasons.EXPIRED.encode(), "of the frame `closed`"


@pytest.mark.parametrize(
    ("claims", "time"),
    [
        ({"asrs.s.coae": "true", "asrs.s.aeo": "1700000000"}, 1700000000.0),
        ({"asrs.s.coae": True, "asrs.s.aeo": 1700000000}, 1700000000.0),
        ({"asrs.s.aeo": "1700000000"}, None),
        ({"asrs.s.coae": "false", "asrs.s.aeo": "1700000000"}, None),
        ({"asrs.s.coae": "true"}, None),
        ({"asrs.s.coae": "true", "asrs.s.aeo": "soon"}, None),
        ({"asrs.s.coae": "true", "asrs.s.aeo": ["1"]}, None),
        ({"asrs.s.coae": "true", "asrs.s.aeo": 10**400}, None),
    ],
)
def test_a_token_says_whether_its_connection_ends_with_an_authentication(
    claims: dict[str, Any], time: float | None
) -> None:
    assert closing_time(claims) == time
