"""REST calls that talk with one client: results of ``:invoke``, items of streams."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from signalr_upstream.local import LocalService
from signalr_upstream.local.clients.client_connection import INVOKE_TIMEOUT
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.upstream.delivery import Caller, Upstream
from signalr_upstream.protocol.messages import Completion, UpstreamMessage

from ..doors import NOW, call, make
from ..handmade import Client, connect

pytestmark = pytest.mark.anyio

INVOKE = "/api/hubs/chat/connections/c1/:invoke"
STREAM = "/api/hubs/chat/connections/c1/streams/7"
BODY = b'{"target":"ask","arguments":[1]}'
FRAMES = "application/octet-stream"
OTHER_STREAM = msgspec.msgpack.encode({"json": b'{"type":2,"invocationId":"8","item":1}\x1e'})


class Serving(Upstream):
    """An app that takes on every stream: it answers 204."""

    async def call(self, caller: Caller, message: UpstreamMessage, *, binary: bool) -> Completion | None:
        return None


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    service = make()
    yield service
    await service.aclose()


async def invoked(
    service: LocalService,
    client: Client,
    answer: bytes,
    body: bytes = BODY,
    *,
    kind: str = "application/json",
    accept: str = "application/json",
) -> tuple[list[bytes], httpx.Response]:
    """What the client was asked, and what the caller got for its ``answer``."""
    asking = asyncio.create_task(call(service, "POST", INVOKE, body, kind=kind, accept=accept))
    asked = await client.next()
    client.connection.receive(answer)
    return asked, await asking


# --- client results ---


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b'"result":{"message": "Hello, World!"}', b'{"result":{"message": "Hello, World!"}}'),
        (b'"result":12345678901234567890123', b'{"result":12345678901234567890123}'),
        (b'"result":null', b'{"result":null}'),
        (b'"headers":{}', b"{}"),  # void
    ],
)
async def test_a_result_is_passed_on_as_it_came(service: LocalService, answer: bytes, body: bytes) -> None:
    client = await connect(service)

    asked, response = await invoked(service, client, b'{"type":3,"invocationId":"s1",' + answer + b"}\x1e")

    assert asked == [b'{"type":1,"invocationId":"s1","target":"ask","arguments":[1]}\x1e']
    assert (response.status_code, response.content) == (200, body)
    assert response.headers["content-type"] == "application/json"


async def test_a_messagepack_clients_result_is_converted(service: LocalService) -> None:
    client = await connect(service, protocol="messagepack")

    asked, response = await invoked(service, client, bytes.fromhex("0c950380a2733103c403010203"))

    assert asked == [bytes.fromhex("0d960180a27331a361736b910190")]
    assert (response.status_code, response.json()) == (200, {"result": "AQID"})


async def test_a_result_without_json_is_refused_with_the_way_out(service: LocalService) -> None:
    client = await connect(service, protocol="messagepack")

    _, response = await invoked(service, client, bytes.fromhex("0a950380a273310381c001"))

    assert response.status_code == 400
    assert "accept application/octet-stream" in response.json()["message"]


@pytest.mark.parametrize(
    ("protocol", "frame"),
    [
        ("json", b'{"type":3,"invocationId":"s1","result":"ok"}\x1e'),
        ("messagepack", bytes.fromhex("0a950380a2733103a26f6b")),
    ],
)
async def test_the_sdk_gets_the_clients_own_frame(service: LocalService, protocol: str, frame: bytes) -> None:
    client = await connect(service, protocol=protocol)

    _, response = await invoked(service, client, frame, accept=FRAMES)

    assert (response.status_code, response.content) == (200, frame)
    assert response.headers["content-type"] == FRAMES
    assert response.headers["x-protocol"] == protocol


@pytest.mark.parametrize("accept", ["application/json", FRAMES])
async def test_the_clients_error_is_the_answers_text(service: LocalService, accept: str) -> None:
    client = await connect(service)

    _, response = await invoked(
        service, client, '{"type":3,"invocationId":"s1","error":"Wüst"}\x1e'.encode(), accept=accept
    )

    assert (response.status_code, response.text) == (400, "Wüst")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_frame_gets_the_services_id(service: LocalService) -> None:
    client = await connect(service)
    body = msgspec.msgpack.encode({"json": b'{"type":1,"invocationId":"x","target":"t","arguments":[]}\x1e'})

    asked, response = await invoked(service, client, b'{"type":3,"invocationId":"s1"}\x1e', body, kind=FRAMES)

    assert asked == [b'{"type":1,"invocationId":"s1","target":"t","arguments":[]}\x1e']
    assert response.status_code == 200


async def test_a_body_without_the_clients_protocol_is_refused(service: LocalService) -> None:
    await connect(service)

    response = await call(service, "POST", INVOKE, b"\x80", kind=FRAMES)

    assert response.status_code == 400
    assert "json" in response.json()["message"]


async def test_a_connection_that_is_not_there_is_a_404(service: LocalService) -> None:
    response = await call(service, "POST", INVOKE, BODY)

    assert (response.status_code, response.headers["x-ms-error-code"]) == (404, "Error.Connection.NotExisted")


async def test_a_connection_that_goes_is_a_404(service: LocalService) -> None:
    client = await connect(service)
    asking = asyncio.create_task(call(service, "POST", INVOKE, BODY))
    await client.next()

    client.connection.disconnect()
    response = await asking

    assert (response.status_code, response.headers["x-ms-error-code"]) == (404, "Error.Connection.NotExisted")


async def test_a_client_that_never_answers_is_given_up() -> None:
    clock = ManualClock(NOW)
    service = make(clock=clock)
    client = await connect(service)
    asking = asyncio.create_task(call(service, "POST", INVOKE, BODY))
    await client.next()

    clock.advance(INVOKE_TIMEOUT)

    assert (await asking).status_code == 504
    await service.aclose()


# --- streams ---


async def streaming(service: LocalService, protocol: str = "json") -> Client:
    """A client that waits for the items of stream 7."""
    client = await connect(service, protocol=protocol, upstream=Serving(keys=["k" * 44]), streams=True)
    client.connection.receive(
        bytes.fromhex("09960480a137a1749090")
        if protocol == "messagepack"
        else b'{"type":4,"invocationId":"7","target":"t","arguments":[]}\x1e'
    )
    await client.connection.finished()
    return client


async def test_items_and_the_end_of_a_stream_reach_the_client(service: LocalService) -> None:
    client = await streaming(service)

    sent = await call(service, "POST", f"{STREAM}/:send", b'{"a": 1}')
    ended = await call(service, "POST", f"{STREAM}/:complete")
    again = await call(service, "POST", f"{STREAM}/:complete")

    assert (sent.status_code, ended.status_code, again.status_code) == (202, 202, 404)
    assert again.headers["x-ms-error-code"] == "Error.Request.NotExisted"
    assert client.take() == [
        b'{"type":2,"invocationId":"7","item":{"a": 1}}\x1e',
        b'{"type":3,"invocationId":"7"}\x1e',
    ]


async def test_the_last_item_ends_the_stream(service: LocalService) -> None:
    client = await streaming(service)

    last = await call(service, "POST", f"{STREAM}/:send?completed=True", b"1")
    late = await call(service, "POST", f"{STREAM}/:send", b"2")

    assert (last.status_code, late.status_code) == (202, 404)
    assert client.take() == [
        b'{"type":2,"invocationId":"7","item":1}\x1e',
        b'{"type":3,"invocationId":"7"}\x1e',
    ]


@pytest.mark.parametrize("name", ["reason", "error", "Reason"])  # the description's, the SDK's
async def test_a_stream_ends_with_an_error(service: LocalService, name: str) -> None:
    client = await streaming(service)

    await call(service, "POST", f"{STREAM}/:complete?{name}=no%20more")

    assert client.take() == [b'{"type":3,"invocationId":"7","error":"no more"}\x1e']


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"a":1}'),
        ("application/x-msgpack", bytes.fromhex("81a16101")),
        (FRAMES, b"\x81\xabmessagepack\xc4\x0a" + bytes.fromhex("09940280a13781a16101")),
    ],
)
async def test_an_item_comes_in_every_form(service: LocalService, kind: str, body: bytes) -> None:
    client = await streaming(service, "messagepack")

    response = await call(service, "POST", f"{STREAM}/:send", body, kind=kind)

    assert (response.status_code, client.take()) == (202, [bytes.fromhex("09940280a13781a16101")])


@pytest.mark.parametrize(
    ("target", "kind", "body", "status"),
    [
        (f"{STREAM}/:send", "application/json", b"", 400),
        (f"{STREAM}/:send", "application/json", b"{", 400),
        (f"{STREAM}/:send", "text/plain", b"1", 415),
        (f"{STREAM}/:send", FRAMES, OTHER_STREAM, 400),
        (f"{STREAM}/:send?completed=maybe", "application/json", b"1", 400),
        (f"{STREAM.replace('c1', 'c2')}/:send", "application/json", b"1", 404),
    ],
)
async def test_other_items_are_refused(
    service: LocalService, target: str, kind: str, body: bytes, status: int
) -> None:
    client = await streaming(service)

    response = await call(service, "POST", target, body, kind=kind)

    assert (response.status_code, client.take()) == (status, [])
