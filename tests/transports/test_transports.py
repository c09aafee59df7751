"""Both transports against the same good and bad servers: what a user of the client sees must not depend on which."""

import asyncio
import datetime
import gzip
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import httpx
import pytest
import trustme

from signalr_upstream.client import HubClient, ServiceClient
from signalr_upstream.errors import (
    ConnectError,
    DeliveryUnknown,
    InvalidRequestError,
    NotFoundError,
    ServiceError,
    ThrottledError,
    UnavailableError,
)
from signalr_upstream.transports.connection_pool import MAX_CONNECTIONS
from signalr_upstream.transports.direct_transport import DirectTransport
from signalr_upstream.transports.httpx_transport import MAX_IDLE, HttpxTransport
from signalr_upstream.transports.transport import MAX_ANSWER, Answer, Transport

from ..misbehaving import (
    ACCEPTED,
    Act,
    Connection,
    answer,
    hang_up,
    misbehaving,
    reset,
    reset_at_once,
    stall,
    status,
)

pytestmark = pytest.mark.anyio

KEY = "k" * 44


@lru_cache
def authority() -> trustme.CA:
    return trustme.CA()


@lru_cache
def server_context(name: str = "localhost", *, days: int = 1) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    authority().issue_cert(name, not_before=end - datetime.timedelta(days=30), not_after=end).configure_cert(
        context
    )
    return context


@lru_cache
def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


@asynccontextmanager
async def transport_of(kind: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Transport]:
    if kind.startswith("direct"):
        direct = DirectTransport(tls=tls or client_context())
        yield direct
        await direct.aclose()
    else:
        # By default httpx opens 100 connections and keeps 20: most would begin with a handshake for one request.
        limits = httpx.Limits(max_connections=MAX_IDLE, max_keepalive_connections=MAX_IDLE)
        async with httpx.AsyncClient(
            verify=tls or client_context(), trust_env=False, limits=limits
        ) as client:
            yield HttpxTransport(client)


@asynccontextmanager
async def hub_at(url: str, transport: str, **options: Any) -> AsyncIterator[HubClient]:
    async with transport_of(transport) as made:
        client = ServiceClient(f"Endpoint={url};AccessKey={KEY}", transport=made, **options)
        yield client.hub("chat")


@pytest.fixture(params=["direct", "direct on uvloop", "httpx"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(transport: str) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": "uvloop" in transport}


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> ssl.SSLContext | None:
    return server_context() if request.param == "tls" else None


# ---- what a send makes of answers, and of none ----

CHUNKED = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\nay!\r\n0\r\nLate: 1\r\n\r\n"
UNTIL_END = b"HTTP/1.1 202 Accepted\r\nConnection: close\r\n\r\nas long as it lasts"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
HALF_A_HEAD = b"HTTP/1.1 202 Acc"
HALF_A_BODY = b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nhalf"
HALF_A_CHUNK = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf"
BOMB = gzip.compress(b"\0" * 50_000_000)
BOMB_HEAD = f"HTTP/1.1 400 Bad\r\nContent-Encoding: gzip\r\nContent-Length: {len(BOMB)}\r\n\r\n".encode()
HUGE = b"x" * (3 * MAX_ANSWER)
HUGE_HEAD = f"HTTP/1.1 400 Bad\r\nContent-Length: {len(HUGE)}\r\n\r\n".encode()
PROXY_PAGE = b"<html><body><h1>502 Bad Gateway</h1>nginx</body></html>"

# Act, what the send raises (None: it succeeds), the error's status, requests seen for a send and for a call that
# may be repeated.
ANSWERS: dict[str, tuple[Act, type[ServiceError] | None, int | None, int, int]] = {
    "accepted": (answer(), None, None, 1, 1),
    "chunked": (answer(CHUNKED), None, None, 1, 1),
    "until the end": (answer(UNTIL_END, then=hang_up), None, None, 1, 1),
    "after interim answers": (answer(INTERIM + ACCEPTED), None, None, 1, 1),
    "closing": (status(202, b"", "Connection: close"), None, None, 1, 1),
    "no content": (answer(b"HTTP/1.1 204 No Content\r\n\r\n"), None, None, 1, 1),
    "400": (status(400, b'{"message":"no"}'), InvalidRequestError, 400, 1, 1),
    "garbage for JSON": (status(400, b'{"message":'), InvalidRequestError, 400, 1, 1),
    "404": (status(404), NotFoundError, 404, 1, 1),
    "408": (status(408), DeliveryUnknown, 408, 1, 4),
    "429": (status(429), ThrottledError, 429, 4, 4),
    "429 with Retry-After": (status(429, b"", "Retry-After: 1"), ThrottledError, 429, 4, 4),
    "429 with a long Retry-After": (status(429, b"", "Retry-After: 3600"), ThrottledError, 429, 1, 1),
    "500": (status(500), DeliveryUnknown, 500, 1, 4),
    "502 from a proxy": (status(502, PROXY_PAGE, "Content-Type: text/html"), DeliveryUnknown, 502, 1, 4),
    "503": (status(503), UnavailableError, 503, 4, 4),
    "504": (status(504), DeliveryUnknown, 504, 1, 4),
    "a redirect": (status(307, b"", "Location: /elsewhere"), ServiceError, 307, 1, 1),
    "a compressed bomb": (answer(BOMB_HEAD + BOMB), InvalidRequestError, 400, 1, 1),
    "too much": (answer(HUGE_HEAD + HUGE), InvalidRequestError, 400, 1, 1),
    "half a head": (answer(HALF_A_HEAD, then=hang_up), DeliveryUnknown, None, 1, 4),
    "half a body": (answer(HALF_A_BODY, then=hang_up), DeliveryUnknown, None, 1, 4),
    "half a chunk": (answer(HALF_A_CHUNK, then=reset), DeliveryUnknown, None, 1, 4),
    "garbage for HTTP": (answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", then=hang_up), DeliveryUnknown, None, 1, 4),
    "closed without a word": (hang_up, DeliveryUnknown, None, 1, 4),
    "reset without a word": (reset, DeliveryUnknown, None, 1, 4),
}


def unavailable(expected: type[ServiceError] | None, code: int | None) -> type[ServiceError] | None:
    """What a call that may be repeated raises where a send leaves its delivery open."""
    return UnavailableError if expected is DeliveryUnknown and code is not None else expected


async def outcome_of(
    call: Awaitable[Any],
) -> tuple[type[ServiceError] | None, int | None, ServiceError | None]:
    try:
        await call
    except ServiceError as caught:
        error = caught
    else:
        return None, None, None
    for hidden in (KEY, "eyJ", "/api/", "nginx"):
        assert hidden not in str(error)
    assert str(error).isprintable()
    return type(error), error.status, error


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_means_the_same_over_both_transports(
    name: str, transport: str, tls: ssl.SSLContext | None
) -> None:
    act, expected, code, sent, asked = ANSWERS[name]
    async with misbehaving(act, tls=tls) as server, hub_at(server.url, transport) as hub:
        assert (await outcome_of(hub.clients.all.send("t")))[:2] == (expected, code)
        assert len(server.requests) == sent

        assert (await outcome_of(hub.groups.add("g", connection_id="c")))[:2] == (
            unavailable(expected, code),
            code,
        )
        assert len(server.requests) == sent + asked


@pytest.mark.parametrize("name", ANSWERS)
async def test_after_any_answer_the_next_call_finds_a_healthy_connection(
    name: str, transport: str, tls: ssl.SSLContext | None
) -> None:
    act = ANSWERS[name][0]
    async with misbehaving(act, answer(), tls=tls) as server, hub_at(server.url, transport) as hub:
        await outcome_of(hub.clients.all.send("first"))
        await hub.clients.all.send("second")

    assert server.bodies[-1] == b'{"target":"second","arguments":[]}'
    assert server.bodies.count(server.bodies[-1]) == 1


@pytest.mark.parametrize(
    "act",
    [stall, answer(b"HTTP/1.1 202 Accepted\r\nConte", then=stall), answer(HALF_A_BODY, then=stall)],
    ids=["no answer", "half a head", "half a body"],
)
async def test_an_answer_that_does_not_come_in_time_leaves_the_delivery_unknown(
    act: Act, transport: str, tls: ssl.SSLContext | None
) -> None:
    async with (
        misbehaving(act, answer(), tls=tls) as server,
        hub_at(server.url, transport, timeout=0.3) as hub,
    ):
        assert (await outcome_of(hub.clients.all.send("t")))[0] is DeliveryUnknown
        assert len(server.requests) == 1
        await hub.clients.all.send("t")


async def test_nobody_listening_means_that_nothing_was_sent(transport: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        async with hub_at(f"http://127.0.0.1:{taken.getsockname()[1]}", transport) as hub:
            raised, _, error = await outcome_of(hub.clients.all.send("t"))

    assert raised is ConnectError
    assert str(error).startswith("no connection to 127.0.0.1")


async def test_a_connection_that_is_reset_before_the_request_is_read_may_have_carried_it(
    transport: str,
) -> None:
    async with (
        misbehaving(answer(), greeting=reset_at_once) as server,
        hub_at(server.url, transport) as hub,
    ):
        assert (await outcome_of(hub.clients.all.send("t")))[0] is DeliveryUnknown
        assert server.connections == 1


async def test_a_connection_that_was_closed_while_it_was_idle_is_not_used(
    transport: str, tls: ssl.SSLContext | None
) -> None:
    closing = asyncio.Event()

    async def accept_and_close(connection: Connection) -> None:
        await connection.write(ACCEPTED)
        await closing.wait()
        await hang_up(connection)

    async with (
        misbehaving(accept_and_close, answer(), tls=tls) as server,
        hub_at(server.url, transport) as hub,
    ):
        await hub.clients.all.send("t")
        closing.set()
        await server.closed.wait()
        await hub.clients.all.send("t")

    assert len(server.requests) == 2


async def test_the_length_in_an_answer_to_head_is_of_no_body(
    transport: str, tls: ssl.SSLContext | None
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with misbehaving(answer(head), tls=tls) as server, hub_at(server.url, transport) as hub:
        for _ in range(3):
            assert await hub.users.exists("u") is True

    assert server.connections == 1


async def test_one_connection_serves_one_call_after_the_other(
    transport: str, tls: ssl.SSLContext | None
) -> None:
    async with misbehaving(answer(CHUNKED), tls=tls) as server, hub_at(server.url, transport) as hub:
        for _ in range(5):
            await hub.clients.all.send("t")

    assert server.connections == 1


@pytest.mark.parametrize("act", [stall, answer(HALF_A_BODY, then=stall)], ids=["no answer", "half an answer"])
async def test_a_call_that_is_cancelled_leaves_the_others_alone(
    act: Act, transport: str, tls: ssl.SSLContext | None
) -> None:
    async with misbehaving(act, answer(), tls=tls) as server, hub_at(server.url, transport) as hub:
        call = asyncio.create_task(hub.clients.all.send("given up"))
        await server.reached(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        await asyncio.gather(*[hub.clients.all.send("t", n) for n in range(20)])

    assert len(server.requests) == 21
    assert len(set(server.bodies)) == 21


# ---- who is at the other end ----


@pytest.mark.parametrize(
    ("name", "days", "trusted", "reason"),
    [
        ("localhost", -1, True, "expired"),
        ("elsewhere.example", 1, True, "Hostname mismatch"),
        ("localhost", 1, False, "unable to get local issuer certificate|self.signed certificate"),
    ],
    ids=["expired", "of another host", "not trusted"],
)
async def test_a_certificate_that_does_not_prove_the_host_gets_no_request(
    name: str, days: int, trusted: bool, reason: str, transport: str
) -> None:
    context = None if trusted else ssl.create_default_context()
    async with (
        misbehaving(answer(), tls=server_context(name, days=days)) as server,
        transport_of(transport, context) as made,
    ):
        hub = ServiceClient(f"Endpoint={server.url};AccessKey={KEY}", transport=made).hub("chat")
        with pytest.raises(ConnectError, match=reason):
            await hub.clients.all.send("t")

    assert server.requests == []


async def test_a_server_that_speaks_no_tls_gets_no_request(transport: str) -> None:
    async with misbehaving(answer(), greeting=answer(b"220 mail ready\r\n", then=hang_up)) as server:
        async with hub_at(server.url.replace("http://127.0.0.1", "https://localhost"), transport) as hub:
            assert (await outcome_of(hub.clients.all.send("t")))[0] is ConnectError
        assert server.requests == []


# ---- many at a time ----


async def test_of_a_thousand_sends_under_way_when_the_server_restarts_none_is_lost_or_doubled(
    transport: str, tls: ssl.SSLContext | None
) -> None:
    total = 1000
    accepted: list[bytes] = []
    outcomes: dict[int, ServiceError | None] = {}

    async def accept(connection: Connection) -> None:
        await asyncio.sleep(0.001)
        accepted.append(connection.body)
        await connection.write(ACCEPTED)

    async def send(hub: HubClient, number: int) -> None:
        outcomes[number] = (await outcome_of(hub.clients.all.send("t", number)))[2]

    async with misbehaving(accept, tls=tls) as first:
        made = hub_at(first.url, transport)
        hub = await made.__aenter__()
        sends = [asyncio.create_task(send(hub, number)) for number in range(total)]
        await first.reached(total // 3)
    async with misbehaving(accept, tls=tls, port=first.port) as second:
        await asyncio.gather(*sends)
        await asyncio.gather(*[send(hub, number) for number in range(total, total + 100)])
        assert second.open <= MAX_CONNECTIONS
        await made.__aexit__(None, None, None)
        await second.closed.wait()

    received = Counter(first.bodies + second.bodies)
    assert max(received.values()) == 1
    for number, error in outcomes.items():
        body = b'{"target":"t","arguments":[%d]}' % number
        if error is None:
            assert body in accepted
        else:
            assert isinstance(error, DeliveryUnknown) or (
                isinstance(error, ConnectError) and not received[body]
            )
    assert sum(error is not None for error in outcomes.values()) >= 1
    assert all(outcomes[number] is None for number in range(total, total + 100))


async def read_answer(transport: Transport, url: str, method: str = "GET") -> Answer:
    return await transport.request(method, url, "/", [], b"", timeout=5)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (CHUNKED, b"okay!"),
        (UNTIL_END, b"as long as it lasts"),
        (HUGE_HEAD + HUGE, HUGE[:MAX_ANSWER]),
        (BOMB_HEAD + BOMB, b""),
        (ACCEPTED, b""),
    ],
    ids=["chunked", "until the end", "too much", "a bomb", "empty"],
)
async def test_both_transports_read_the_same_body(
    data: bytes, body: bytes, transport: str, tls: ssl.SSLContext | None
) -> None:
    async with misbehaving(answer(data, then=hang_up), tls=tls) as server, transport_of(transport) as made:
        assert (await read_answer(made, server.url)).body == body
