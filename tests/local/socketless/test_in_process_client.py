"""The client without a socket, against a service that is a script: what it reads and writes, byte for byte.

Frames are those of Microsoft's HubProtocol.md.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from signalr_upstream.errors import HubError
from signalr_upstream.local import DisconnectedError, NotAdmittedError, NothingCameError
from signalr_upstream.local.socketless.in_process_client import InProcessClient

pytestmark = pytest.mark.anyio

JSON_HANDSHAKE = '{"protocol":"json","version":1}\x1e'


class Service:
    """The service's end of one WebSocket."""

    def __init__(self) -> None:
        self.scope: Any = None
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.send: Any = None
        self.answer: str = "{}\x1e"

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.send = scope, send
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        handshake = await receive()
        self.heard.put_nowait(handshake.get("text") or handshake["bytes"])
        await send({"type": "websocket.send", "text": self.answer})
        while (message := await receive())["type"] == "websocket.receive":
            self.heard.put_nowait(message.get("text") or message["bytes"])

    async def says(self, data: str | bytes) -> None:
        key = "text" if isinstance(data, str) else "bytes"
        await self.send({"type": "websocket.send", key: data})


@pytest.fixture
async def service() -> Service:
    return Service()


def make(service: Service, protocol: str = "json") -> InProcessClient:
    return InProcessClient(
        service.asgi, connection_id="c1", query="hub=chat&id=t1", token="t0ken", protocol=protocol
    )


@pytest.fixture
async def client(service: Service) -> AsyncIterator[InProcessClient]:
    client = make(service)
    await client.open()
    assert await service.heard.get() == JSON_HANDSHAKE
    async with client:
        yield client


async def test_the_request_is_that_of_a_client_with_a_token(
    client: InProcessClient, service: Service
) -> None:
    assert service.scope["path"] == "/client/"
    assert service.scope["query_string"] == b"hub=chat&id=t1"
    assert (b"authorization", b"Bearer t0ken") in service.scope["headers"]
    assert "t0ken" not in repr(client)


async def test_an_invocation_in_json(client: InProcessClient, service: Service) -> None:
    asked = asyncio.create_task(client.invoke("Add", 1, 2))

    assert await service.heard.get() == '{"type":1,"invocationId":"1","target":"Add","arguments":[1,2]}\x1e'
    await service.says('{"type":3,"invocationId":"9","result":0}\x1e{"type":6}\x1e')
    await service.says('{"type":3,"invocationId":"1","result":42}\x1e')

    assert await asked == 42


async def test_an_invocation_in_messagepack(service: Service) -> None:
    client = make(service, "messagepack")
    await client.open()
    assert await service.heard.get() == b'{"protocol":"messagepack","version":1}\x1e'
    asked = asyncio.create_task(client.invoke("m", 42))

    assert await service.heard.get() == b"\x0a\x96\x01\x80\xa1" + b"1\xa1m\x91\x2a\x90"
    await service.says(b"\x07\x95\x03\x80\xa1" + b"1\x03\x2a")

    assert await asked == 42
    await client.close()


async def test_a_stream_ends_with_its_completion(client: InProcessClient, service: Service) -> None:
    items: list[Any] = []

    async def read() -> None:
        async for item in client.stream("Count", 2):
            items.append(item)

    reading = asyncio.create_task(read())
    assert await service.heard.get() == '{"type":4,"invocationId":"1","target":"Count","arguments":[2]}\x1e'
    await service.says('{"type":2,"invocationId":"1","item":0}\x1e{"type":2,"invocationId":"1","item":1}\x1e')
    await service.says('{"type":3,"invocationId":"1"}\x1e')
    await reading

    assert items == [0, 1]


async def test_a_stream_that_fails_raises(client: InProcessClient, service: Service) -> None:
    stream = client.stream("Count")
    reading = asyncio.ensure_future(anext(stream))
    await service.heard.get()
    await service.says('{"type":3,"invocationId":"1","error":"It didn\'t work!"}\x1e')

    with pytest.raises(HubError, match="It didn't work!"):
        await reading


async def test_a_stream_that_is_left_is_cancelled(client: InProcessClient, service: Service) -> None:
    stream = client.stream("Count")
    reading = asyncio.ensure_future(anext(stream))
    await service.heard.get()
    await service.says('{"type":2,"invocationId":"1","item":0}\x1e')
    assert await reading == 0

    await stream.aclose()

    assert await service.heard.get() == '{"type":5,"invocationId":"1"}\x1e'


async def test_a_stream_that_is_left_after_the_end_says_nothing(
    client: InProcessClient, service: Service
) -> None:
    stream = client.stream("Count")
    reading = asyncio.ensure_future(anext(stream))
    await service.heard.get()
    await service.says('{"type":2,"invocationId":"1","item":0}\x1e')
    assert await reading == 0
    await client.close()

    await stream.aclose()

    assert service.heard.empty()


async def test_an_item_that_does_not_come_is_named(client: InProcessClient) -> None:
    with pytest.raises(NothingCameError, match="an item of 'Count' has not come"):
        await anext(client.stream("Count", timeout=0.01))


async def test_a_stream_for_an_invoke_is_an_error_that_says_what_to_do(
    client: InProcessClient, service: Service
) -> None:
    asked = asyncio.create_task(client.invoke("Count"))
    await service.heard.get()
    await service.says('{"type":2,"invocationId":"1","item":0}\x1e')

    with pytest.raises(HubError, match=r"'Count' answers with a stream: call it with stream\(\)"):
        await asked


async def test_client_results_are_what_handlers_return_or_raise(
    client: InProcessClient, service: Service
) -> None:
    async def later(number: int) -> int:
        return number + 1

    def fails() -> None:
        raise ValueError("no")

    client.on("later", later)
    client.on("now", lambda: [1])
    client.on("fails", fails)
    client.on("mute", lambda: 1 / 0)
    asked = [("later", "[41]"), ("now", "[]"), ("fails", "[]"), ("nobody", "[]")]

    for number, (target, arguments) in enumerate(asked):
        await service.says(
            f'{{"type":1,"invocationId":"s{number}","target":"{target}","arguments":{arguments}}}\x1e'
        )

    answers = {await service.heard.get() for _ in asked}
    assert answers == {
        '{"type":3,"invocationId":"s0","result":42}\x1e',
        '{"type":3,"invocationId":"s1","result":[1]}\x1e',
        '{"type":3,"invocationId":"s2","error":"no"}\x1e',
        '{"type":3,"invocationId":"s3","error":"Client didn\'t provide a result."}\x1e',
    }
    assert client.waiting == [("nobody", [])]


async def test_a_handler_that_runs_on_after_the_end_is_stopped(
    client: InProcessClient, service: Service
) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    client.on("ask", endless)
    await service.says('{"type":1,"invocationId":"s0","target":"ask","arguments":[]}\x1e')
    await begun.wait()

    await client.close()

    await stopped.wait()
    assert service.heard.empty()


async def test_a_handler_that_ends_after_the_connection_answers_nobody(
    client: InProcessClient, service: Service
) -> None:
    async def leaves() -> int:
        await client.close()
        return 1

    client.on("ask", leaves)
    await service.says('{"type":1,"invocationId":"s0","target":"ask","arguments":[]}\x1e')
    await client.closed()

    assert service.heard.empty()


async def test_a_refused_handshake_is_raised_with_its_reason(service: Service) -> None:
    service.answer = '{"error":"Requested protocol \'json\' is not available."}\x1e'

    with pytest.raises(NotAdmittedError, match="protocol 'json' is not available") as caught:
        await make(service).open()

    assert caught.value.status is None


async def test_a_connection_that_ends_before_the_handshake_is_an_error() -> None:
    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        came.extend([await receive(), await receive()])

    came: list[Any] = []

    with pytest.raises(DisconnectedError):
        await InProcessClient(asgi, connection_id="c1", query="", token="").open()

    assert {"type": "websocket.disconnect", "code": 1000} in came


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"detail":"No such hub."}', "404: No such hub."),
        (b"No Connection", "404: No Connection"),
        (b"{}", "404: {}"),
    ],
)
async def test_a_refused_socket_is_raised_with_status_and_reason(body: bytes, reason: str) -> None:
    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 404, "headers": []})
        await send({"type": "websocket.http.response.body", "body": body})

    client = InProcessClient(asgi, connection_id="c1", query="", token="")
    with pytest.raises(NotAdmittedError) as caught:
        await client.open()

    assert (str(caught.value), caught.value.status) == (reason, 404)
    await client.close()


async def test_what_goes_wrong_in_the_service_is_raised() -> None:
    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("a bug")

    client = InProcessClient(asgi, connection_id="c1", query="", token="")
    with pytest.raises(DisconnectedError):
        await client.open()
    with pytest.raises(LookupError, match="a bug"):
        await client.close()


async def test_a_client_that_was_never_opened_is_closed_at_once(service: Service) -> None:
    client = make(service)

    assert await client.closed() is None
