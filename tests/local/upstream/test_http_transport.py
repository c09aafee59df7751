"""Connections to an app over HTTP: what is written, when they are used again, and what failures are called."""

import asyncio
import errno
import socket
import struct
from typing import Any

import httpx
import pytest
from msgspec import Raw

from signalr_upstream.local.upstream import http_transport
from signalr_upstream.local.upstream.delivery import Caller, Upstream
from signalr_upstream.local.upstream.http_transport import HttpTransport
from signalr_upstream.local.upstream.rules import Rules
from signalr_upstream.protocol.messages import Completion, Invocation
from signalr_upstream.protocol.upstream import MAX_ANSWER
from signalr_upstream.transports.connection_pool import ConnectionPool

from ...misbehaving import (
    Act,
    Connection,
    HangUp,
    answer,
    hang_up,
    misbehaving,
    port_free_on,
    status,
)
from ...transports.test_transports import client_context, server_context

pytestmark = pytest.mark.anyio

KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
ANN = Caller("conn-1", "chat", "ann", (("asrs.s.uid", "ann"),), "?hub=chat")
ECHO = Invocation("echo", Raw(b"[42]"), "0")
OK = status(200, b"ok")


async def ask(transport: HttpTransport, url: str) -> bytes:
    response = await transport.handle_async_request(httpx.Request("POST", url, content=b"?"))
    return await response.aread()


async def call(url: str, **options: Any) -> Completion:
    """Call the app at ``url``, and say what its client is told."""
    service = Upstream(rules=Rules(url), keys=[KEY], **options)
    completion = await service.call(ANN, ECHO, binary=False)
    await service.aclose()
    assert isinstance(completion, Completion)
    return completion


# --- what is written ---


async def test_a_request_is_written_as_the_service_writes_it() -> None:
    # reference/local-service-and-clients 6.6, with the signature in lower case as Azure's
    async with misbehaving(status(204)) as server:
        assert await call(f"{server.url}/{{hub}}/api/{{category}}/{{event}}?code=x%20y") == Completion("0")

    [request] = server.requests
    assert request == (
        b"POST /chat/api/messages/echo?code=x%%20y HTTP/1.1\r\n"
        b"Host: 127.0.0.1:%d\r\n"
        b"X-ASRS-Connection-Id: conn-1\r\n"
        b"X-ASRS-Hub: chat\r\n"
        b"X-ASRS-Category: messages\r\n"
        b"X-ASRS-Event: echo\r\n"
        b"X-ASRS-User-Id: ann\r\n"
        b"X-ASRS-User-Claims: asrs.s.uid: ann\r\n"
        b"X-ASRS-Client-Query: ?hub=chat\r\n"
        b"X-ASRS-Signature: sha256=261f7f58ff9fb9bb8be7e4951a807fe6091e5c074885bf63b865eccd28728881\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 62\r\n"
        b"\r\n"
        b'{"type":1,"invocationId":"0","target":"echo","arguments":[42]}' % server.port
    )


async def test_https_is_spoken_where_the_certificate_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "default_context", client_context)
    async with misbehaving(OK, tls=server_context()) as server, HttpTransport() as transport:
        assert await ask(transport, server.url) == b"ok"

    assert server.requests[0].startswith(b"POST / HTTP/1.1\r\nHost: localhost:%d\r\n" % server.port)


@pytest.mark.parametrize(("url", "port"), [("http://127.0.0.1/", 80), ("https://127.0.0.1/", 443)])
async def test_each_scheme_has_its_port(url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    async def refuse(host: str, port: int, **_: Any) -> Any:
        tried.append(port)
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", refuse)

    assert "nothing listens there" in ((await call(url)).error or "")
    assert tried == [port]


# --- which connection carries it ---


async def test_connections_are_used_again() -> None:
    async with misbehaving(OK) as server, HttpTransport() as transport:
        assert [await ask(transport, server.url) for _ in range(3)] == [b"ok"] * 3

    assert server.connections == 1


async def test_what_may_have_ended_meanwhile_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "KEEP_ALIVE", 0.0)
    async with misbehaving(OK) as server, HttpTransport() as transport:
        for _ in range(3):
            await ask(transport, server.url)

    assert server.connections == 3


async def test_an_app_that_ends_its_connections_between_calls_gets_every_call_once() -> None:
    left = asyncio.Event()

    async def answer_and_leave(connection: Connection) -> None:
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.writer.close()
        left.set()
        raise HangUp

    async with misbehaving(answer_and_leave) as server, HttpTransport() as transport:
        for _ in range(5):
            assert await ask(transport, server.url) == b"ok"
            await left.wait()
            left.clear()

    assert (server.connections, len(server.requests)) == (5, 5)


async def test_calls_at_the_same_time_have_connections_of_their_own_up_to_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_transport, "MAX_CONNECTIONS", 2)

    async def when_released(connection: Connection) -> None:
        await connection.server.released.wait()
        await OK(connection)

    async with misbehaving(when_released) as server, HttpTransport() as transport:
        calls = [asyncio.create_task(ask(transport, server.url)) for _ in range(5)]
        await server.reached(2)
        server.released.set()

        assert await asyncio.gather(*calls) == [b"ok"] * 5

    assert server.connections == 2


async def test_each_app_has_connections_of_its_own_and_those_without_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    class Noted(ConnectionPool):
        def __init__(self, origin: Any, **options: Any) -> None:
            made.append(origin.name)
            super().__init__(origin, **options)

    monkeypatch.setattr(http_transport, "ConnectionPool", Noted)
    free = port_free_on("127.0.0.1")
    async with misbehaving(OK) as one, misbehaving(OK) as other, HttpTransport() as transport:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                await ask(transport, f"http://127.0.0.1:{free}/")
            assert await ask(transport, one.url) == await ask(transport, other.url) == b"ok"

    refused, first, second = (f"127.0.0.1:{port}" for port in (free, one.port, other.port))
    assert made == [refused, first, second, refused]
    assert (one.connections, other.connections) == (1, 1)


async def test_a_transport_that_was_closed_can_be_used_again() -> None:
    async with misbehaving(OK) as server, HttpTransport() as transport:
        await ask(transport, server.url)
        await transport.aclose()
        await server.closed.wait()

        assert await ask(transport, server.url) == b"ok"


# --- answers and failures ---


async def break_off(connection: Connection) -> None:
    end = connection.writer.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST, not FIN
    connection.reset()
    raise HangUp


@pytest.mark.parametrize("over", [False, True])
async def test_an_answer_is_read_to_the_limit(over: bool) -> None:
    body = b'{"type":3,"invocationId":"0","result":"%b"}\x1e' % (b"x" * (MAX_ANSWER - 42 + over))
    assert len(body) == MAX_ANSWER + over
    async with misbehaving(status(200, body)) as server:
        completion = await call(server.url)

    assert completion.error == ("Invocation failed, response too large." if over else None)


async def test_an_answer_that_is_compressed_unasked_is_not_taken_for_an_empty_one() -> None:
    async with misbehaving(status(200, b"\x1f\x8b\x08", "Content-Encoding: gzip")) as server:
        completion = await call(server.url)

    assert completion.error is not None


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (break_off, "reset before the answer was complete"),
        (hang_up, "closed before the answer was complete"),
        (answer(b"SSH-2.0-x\r\n"), "what it sends is not HTTP"),
    ],
)
async def test_a_call_that_was_written_is_not_sent_again(act: Act, reason: str) -> None:
    async with misbehaving(act) as server:
        completion = await call(server.url + "/?code=s3cret", connect_patience=5.0)

    assert len(server.requests) == 1
    app = f"127.0.0.1:{server.port}"
    start = f"Invocation failed, the app at http://{app} failed: no answer from {app}: "
    assert (completion.error or "").startswith(start)
    assert reason in (completion.error or "")
    assert "s3cret" not in (completion.error or "")


async def test_an_app_that_comes_back_is_waited_for() -> None:
    port = port_free_on("127.0.0.1")
    calling = asyncio.create_task(call(f"http://127.0.0.1:{port}/", connect_patience=30.0))
    await asyncio.sleep(0)
    async with misbehaving(status(204), port=port) as server:
        assert await calling == Completion("0")

    assert len(server.requests) == 1


async def test_where_nothing_listens_the_client_is_told_so() -> None:
    app = f"http://127.0.0.1:{port_free_on('127.0.0.1')}"

    completion = await call(app + "/?code=s3cret")

    assert completion.error == f"Invocation failed, the app at {app} failed: nothing listens there"


async def test_a_service_out_of_files_is_told_from_an_app_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("aiohappyeyeballs.start_connection", fail)

    assert "may open no more files" in ((await call("http://127.0.0.1/")).error or "")


async def test_a_name_that_is_none_is_no_host() -> None:
    completion = await call(f"http://{'x' * 70}.example/")

    assert "there is no such host" in (completion.error or "")


async def test_a_call_that_is_given_up_leaves_no_connection_to_the_next() -> None:
    async def stay(connection: Connection) -> None:
        await connection.server.released.wait()

    async with misbehaving(stay, OK) as server, HttpTransport() as transport:
        calling = asyncio.create_task(ask(transport, server.url))
        await server.reached(1)
        calling.cancel()
        await asyncio.wait([calling])

        assert await ask(transport, server.url) == b"ok"
        assert server.connections == 2
