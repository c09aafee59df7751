"""The transport against real servers on loopback, good and bad."""

import asyncio
import gc
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from signalr_upstream.errors import ConnectError, DeliveryUnknown, ServiceError
from signalr_upstream.transports.httpx_transport import MAX_AT_ONCE, HttpxTransport
from signalr_upstream.transports.transport import MAX_ANSWER, Answer

from ..misbehaving import Connection, misbehaving

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nX-Ms-Error-Code: None\r\n\r\nok"
SECRET = "eyJ-secret-token"


class Server:
    """Reads requests and answers each with the same bytes; None: hangs up without an answer."""

    def __init__(self, answer: bytes | None, *, delay: asyncio.Event | None = None) -> None:
        self.answer = answer
        self.delay = delay
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0
                )
                self.requests.append(head + await reader.readexactly(length))
                if self.delay is not None:
                    await self.delay.wait()
                if self.answer is None:
                    break
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer: bytes | None, *, delay: asyncio.Event | None = None) -> AsyncIterator[Server]:
    behaviour = Server(answer, delay=delay)
    server = await asyncio.start_server(behaviour.serve, "127.0.0.1", 0)
    behaviour.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield behaviour
    finally:
        if delay is not None:
            delay.set()
        server.close()


async def ask(transport: HttpxTransport, url: str, *, method: str = "POST", seconds: float = 5.0) -> Answer:
    headers = [("Authorization", f"Bearer {SECRET}"), ("Content-Type", "application/json")]
    body = b"{}" if method == "POST" else b""
    return await transport.request(method, url, "/api/x?a=%2F%27", headers, body, timeout=seconds)


async def test_a_request_arrives_as_it_was_written_and_its_answer_comes_back() -> None:
    transport = HttpxTransport()
    async with serving(OK) as server:
        answer = await ask(transport, server.url)
        await transport.aclose()

    assert (answer.status, answer.body, answer.headers["x-ms-error-code"]) == (202, b"ok", "None")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert head.startswith(b"POST /api/x?a=%2F%27 HTTP/1.1\r\n")
    assert b"accept-encoding: identity" in lines
    assert b"content-length: 2" in lines
    assert b"content-type: application/json" in lines
    assert sum(line.startswith(b"authorization:") for line in lines) == 1
    assert body == b"{}"


@pytest.mark.parametrize(
    "name", ["a+b", "%2F", "%27%28%29", "a%20b", "...", "~", "%F0%9F%98%80", ":send", "a%252Fb"]
)
async def test_an_escaped_path_is_not_touched(name: str) -> None:
    transport = HttpxTransport()
    async with serving(OK) as server:
        await transport.request("GET", server.url, f"/api/{name}/x?q={name}", [], b"", timeout=5.0)
        await transport.aclose()

    assert server.requests[0].startswith(f"GET /api/{name}/x?q={name} HTTP/1.1\r\n".encode())


async def test_a_connection_is_used_again() -> None:
    transport = HttpxTransport()
    async with serving(OK) as server:
        for _ in range(3):
            await ask(transport, server.url)
        await transport.aclose()

    assert server.connections == 1


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    # The .NET SDK follows it and loses the token or the body (NOTES of the recorded failures).
    async with (
        serving(
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
        ) as server,
        httpx.AsyncClient(follow_redirects=True) as client,
    ):
        answer = await ask(HttpxTransport(client), server.url)

    assert answer.status == 307
    assert len(server.requests) == 1


async def test_the_clients_own_auth_does_not_replace_the_token() -> None:
    async with serving(OK) as server, httpx.AsyncClient(auth=("user", "pw")) as client:
        await ask(HttpxTransport(client), server.url)

    assert f"Bearer {SECRET}".encode() in server.requests[0]


@pytest.mark.parametrize("head", [b"Content-Length: 5000000", b"Transfer-Encoding: chunked"])
async def test_an_endless_answer_is_read_up_to_the_limit(head: bytes) -> None:
    piece = b"x" * 5_000_000
    body = piece if b"Length" in head else b"4c4b40\r\n" + piece + b"\r\n4c4b40\r\n" + piece
    transport = HttpxTransport()
    async with serving(b"HTTP/1.1 500 Oops\r\n" + head + b"\r\n\r\n" + body) as server:
        answer = await ask(transport, server.url)
        await transport.aclose()

    assert (answer.status, len(answer.body)) == (500, MAX_ANSWER)


async def test_a_compressed_answer_is_not_inflated() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = f"HTTP/1.1 400 Bad\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    transport = HttpxTransport()
    async with serving(head + bomb) as server:
        answer = await ask(transport, server.url)
        await transport.aclose()

    assert (answer.status, answer.body) == (400, b"")


async def test_refused_connections_say_that_nothing_was_sent() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        transport = HttpxTransport()
        with pytest.raises(ConnectError, match=r"no connection to 127\.0\.0\.1: ConnectError") as caught:
            await ask(transport, url)
        await transport.aclose()

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD"])
async def test_a_server_that_hangs_up_leaves_the_delivery_unknown_and_is_asked_once(method: str) -> None:
    transport = HttpxTransport()
    async with serving(None) as server:
        with pytest.raises(DeliveryUnknown, match="no answer from"):
            await ask(transport, server.url, method=method)
        await transport.aclose()

    assert len(server.requests) == 1


async def test_an_answer_that_breaks_off_leaves_the_delivery_unknown() -> None:
    transport = HttpxTransport()
    async with serving(b"not http at all\r\n\r\n") as server:
        with pytest.raises(DeliveryUnknown):
            await ask(transport, server.url)
        await transport.aclose()


async def test_a_server_that_is_silent_is_given_up_after_the_time_out() -> None:
    transport = HttpxTransport()
    async with serving(OK, delay=asyncio.Event()) as server:
        with pytest.raises(DeliveryUnknown):
            await ask(transport, server.url, seconds=0.1)
        await transport.aclose()


async def test_the_time_out_holds_for_an_answer_that_trickles() -> None:
    class Trickle(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.01)

    mock = httpx.MockTransport(lambda request: httpx.Response(200, stream=Trickle()))
    async with httpx.AsyncClient(transport=mock) as client:
        with pytest.raises(DeliveryUnknown, match="no answer from h: TimeoutError"):
            await HttpxTransport(client).request("GET", "http://h", "/", [], b"", timeout=0.1)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectTimeout("slow"), ConnectError),
        (httpx.PoolTimeout(""), ConnectError),
        (httpx.ProxyError("no"), ConnectError),
        (httpx.ReadTimeout(""), DeliveryUnknown),
        (httpx.WriteError("reset\r\nby peer"), DeliveryUnknown),
        (httpx.RemoteProtocolError("odd"), DeliveryUnknown),
    ],
)
async def test_errors_of_httpx_become_ours_by_whether_anything_was_sent(
    error: httpx.HTTPError, expected: type[ServiceError]
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as client:
        with pytest.raises(expected) as caught:
            await HttpxTransport(client).request("POST", "http://h", "/user/ann?q=1", [], b"", timeout=5.0)

    assert caught.value.__cause__ is error
    assert str(caught.value).isprintable()
    assert "ann" not in str(caught.value)


async def test_a_given_client_stays_open() -> None:
    mock = httpx.MockTransport(lambda request: httpx.Response(202))
    async with httpx.AsyncClient(transport=mock) as client:
        transport = HttpxTransport(client)
        await transport.request("GET", "http://h", "/", [], b"", timeout=5.0)
        await transport.aclose()

        assert not client.is_closed


async def test_it_works_again_after_closing() -> None:
    transport = HttpxTransport()
    async with serving(OK) as server:
        await ask(transport, server.url)
        await transport.aclose()
        await transport.aclose()
        await ask(transport, server.url)
        await transport.aclose()

    assert server.connections == 2


def run_with_server(use: Callable[[str], Awaitable[object]]) -> None:
    async def main() -> None:
        async with serving(OK) as server:
            await use(server.url)

    asyncio.run(main())


def test_one_transport_serves_several_loops_and_leaves_nothing_open() -> None:
    # An unclosed socket would be a ResourceWarning, and so an error.
    transport = HttpxTransport()

    for _ in range(3):
        run_with_server(lambda url: ask(transport, url))
        gc.collect()


async def test_a_request_beyond_those_that_httpx_is_given_at_a_time_waits_for_one_of_them_to_end() -> None:
    answers = asyncio.Event()

    async def wait(connection: Connection) -> None:
        await answers.wait()
        await connection.write(OK)

    async with misbehaving(wait) as server, httpx.AsyncClient() as client:
        transport = HttpxTransport(client)
        under_way = [asyncio.create_task(ask(transport, server.url)) for _ in range(MAX_AT_ONCE)]
        await server.reached(MAX_AT_ONCE)

        with pytest.raises(ConnectError, match=f"127.0.0.1: {MAX_AT_ONCE} requests are under way"):
            await ask(transport, server.url, seconds=0.1)
        waiting = asyncio.create_task(ask(transport, server.url))
        answers.set()

        assert {answer.status for answer in await asyncio.gather(waiting, *under_way)} == {202}
    assert len(server.requests) == MAX_AT_ONCE + 1
