"""The direct transport alone: its pool, its clock, its names, and answers that httpx reads otherwise or not at all."""

import asyncio
import gc
import logging
import socket
import struct
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from signalr_upstream.client import ServiceClient
from signalr_upstream.errors import ConnectError, DeliveryUnknown
from signalr_upstream.rest.turns import MAX_ASKED
from signalr_upstream.transports import connection_pool
from signalr_upstream.transports.connection_pool import ConnectionPool, Origin
from signalr_upstream.transports.default_transport import DefaultTransport
from signalr_upstream.transports.direct_transport import DirectTransport
from signalr_upstream.transports.http_connection import HttpConnection
from signalr_upstream.transports.transport import Answer

from ..misbehaving import (
    ACCEPTED,
    Act,
    Connection,
    Misbehaving,
    answer,
    hang_up,
    misbehaving,
    port_free_on,
    stall,
    status,
)
from .test_transports import server_context

pytestmark = pytest.mark.anyio

BOTH = ("127.0.0.1", "127.0.0.2")  # addresses of one name
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def pool_of(server: Misbehaving, **options: Any) -> ConnectionPool:
    return ConnectionPool(Origin("service", "127.0.0.1", server.port, None), **options)


async def ask(pool: ConnectionPool, data: bytes = REQUEST, *, timeout: float = 5.0) -> Answer:
    return await pool.request(data, is_head=False, timeout=timeout)


async def answer_when_released(connection: Connection) -> None:
    await connection.server.released.wait()
    await connection.write(ACCEPTED)


# ---- the pool ----


async def test_more_calls_than_connections_wait_for_their_turn() -> None:
    async with misbehaving(answer_when_released) as server:
        pool = pool_of(server, max_connections=2)
        calls = [asyncio.create_task(ask(pool)) for _ in range(5)]
        await server.reached(2)
        assert len(server.requests) == 2
        server.released.set()

        assert [answer.status for answer in await asyncio.gather(*calls)] == [202] * 5
        assert server.connections == 2
        await pool.aclose()


async def test_who_waits_too_long_for_a_connection_has_sent_nothing() -> None:
    async with misbehaving(answer_when_released) as server:
        pool = pool_of(server, max_connections=1)
        first = asyncio.create_task(ask(pool))
        await server.reached(1)

        patient = asyncio.create_task(ask(pool))
        with pytest.raises(ConnectError, match="all are in use"):
            await ask(pool, timeout=0.05)

        server.released.set()
        await first
        await patient
        await ask(pool)
        assert (server.connections, len(server.requests)) == (1, 3)
        await pool.aclose()


@pytest.mark.parametrize(
    "headers", [[], ["Connection: close"]], ids=["a connection", "the right to open one"]
)
async def test_what_a_cancelled_waiter_was_given_goes_to_the_next(headers: list[str]) -> None:
    async with misbehaving(status(202, b"", *headers)) as server:
        pool = pool_of(server, max_connections=1)

        async def ask_and_cancel_the_waiter() -> None:
            await ask(pool)
            waiter.cancel()  # it has been given what was ours, and has not run since

        first = asyncio.create_task(ask_and_cancel_the_waiter())
        waiter = asyncio.create_task(ask(pool))
        await first
        with pytest.raises(asyncio.CancelledError):
            await waiter

        await ask(pool)
        assert len(server.requests) == 2
        await pool.aclose()


async def test_a_waiter_that_was_cancelled_is_passed_over() -> None:
    for headers in ([], ["Connection: close"]):
        async with misbehaving(status(202, b"", *headers)) as server:
            pool = pool_of(server, max_connections=1)
            first = asyncio.create_task(ask(pool))
            await server.reached(1)
            second, third = asyncio.create_task(ask(pool)), asyncio.create_task(ask(pool))
            await asyncio.sleep(0)
            second.cancel()

            assert (await first).status == (await third).status == 202
            await pool.aclose()


async def test_a_pool_that_is_closed_leaves_nobody_waiting_and_nothing_open() -> None:
    async with misbehaving(stall) as server:
        pool = pool_of(server, max_connections=1)
        running = asyncio.create_task(ask(pool))
        await server.reached(1)
        waiting = asyncio.create_task(ask(pool))
        cancelled = asyncio.create_task(ask(pool))
        await asyncio.sleep(0)
        cancelled.cancel()

        await pool.aclose()

        with pytest.raises(DeliveryUnknown):
            await running
        with pytest.raises(ConnectError, match="closed here"):
            await waiting
        server.released.set()
        await server.closed.wait()


async def test_what_opens_while_the_pool_closes_is_closed_after_use() -> None:
    async with misbehaving(answer()) as server:
        pool = pool_of(server)
        call = asyncio.create_task(ask(pool))
        await asyncio.sleep(0)  # it resolves the name
        await pool.aclose()

        assert (await call).status == 202
        await server.closed.wait()
        await pool.aclose()


async def test_a_connection_that_fails_to_open_leaves_its_place_to_others() -> None:
    async with misbehaving(answer()) as server:
        pool = ConnectionPool(Origin("service", "x" * 70 + ".example", server.port, None), max_connections=1)
        for _ in range(2):
            with pytest.raises(ConnectError, match=r"UnicodeError|gaierror"):
                await ask(pool)
        call = asyncio.create_task(ask(pool))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(ConnectError, match=r"UnicodeError|gaierror"):
            await ask(pool)


# ---- time ----


async def test_a_connection_that_nobody_uses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_pool, "TICK", 0.01)
    async with misbehaving(answer()) as server:
        pool = pool_of(server, max_connections=1, idle_expiry=0.02)
        await ask(pool)
        await server.closed.wait()

        await ask(pool)
        assert server.connections == 2
        await pool.aclose()


@pytest.mark.parametrize("together", [False, True])
async def test_a_connection_whose_answer_was_read_late_is_not_used_again(
    together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    real, late = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + late)

    async def answer_late(connection: Connection) -> None:
        nonlocal late
        late = 20.0
        await connection.write(ACCEPTED)

    async with misbehaving(answer_late) as server:
        pool = pool_of(server, max_connections=1)
        requests = [pool.request(REQUEST, is_head=False, timeout=60.0) for _ in range(2)]
        if together:  # the second waits for the connection of the first
            await asyncio.gather(*requests)
        else:
            for request in requests:
                await request
        assert server.connections == 2
        await pool.aclose()


async def test_the_time_that_a_request_waited_is_no_age_of_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    real, late = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + late)

    async def take_ten_seconds(connection: Connection) -> None:
        nonlocal late
        late += 10.0
        await connection.write(ACCEPTED)

    async with misbehaving(take_ten_seconds) as server:
        pool = pool_of(server, max_connections=1)
        await asyncio.gather(*[ask(pool, timeout=60.0) for _ in range(4)])
        assert server.connections == 1
        await pool.aclose()


async def test_a_connection_is_used_no_longer_than_its_age() -> None:
    async with misbehaving(answer()) as server:
        pool = pool_of(server, max_age=0.0)
        for _ in range(3):
            await ask(pool)
        await pool.aclose()

    assert server.connections == 3


class Names:
    """What a name resolves to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
        self.address = address
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.resolve)

    async def resolve(self, host: str, port: int, **options: Any) -> list[Any]:
        assert host == "service.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.address, port))]


def fails_from_the(number: int) -> Act:
    async def act(connection: Connection) -> None:
        if len(connection.server.requests) >= number:
            await hang_up(connection)
        await connection.server.reached(3)  # so that three connections are open at a time
        await connection.write(ACCEPTED)

    return act


async def test_two_failures_in_a_row_retire_every_connection_to_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(monkeypatch, "127.0.0.1")
    port = port_free_on(*BOTH)
    async with (
        misbehaving(fails_from_the(4), port=port) as east,
        misbehaving(answer(), host="127.0.0.2", port=port) as west,
    ):
        pool = ConnectionPool(Origin("service.example", "service.example", east.port, None))
        await asyncio.gather(*[ask(pool) for _ in range(3)])
        names.address = "127.0.0.2"
        for _ in range(2):
            with pytest.raises(DeliveryUnknown):
                await ask(pool)

        await ask(pool)  # on none of the connections that are left to the old address

        assert (east.connections, len(east.requests), len(west.requests)) == (3, 5, 1)
        await pool.aclose()


async def test_failures_with_a_success_between_retire_nothing() -> None:
    acts = [answer(), hang_up, answer(), hang_up, answer()]
    async with misbehaving(*acts) as server:
        pool = pool_of(server)
        for act in acts:
            if act is hang_up:
                with pytest.raises(DeliveryUnknown):
                    await ask(pool)
            else:
                await ask(pool)
        assert server.connections == 3
        await pool.aclose()


async def test_connections_to_other_addresses_are_not_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, "127.0.0.2")
    port = port_free_on(*BOTH)
    async with (
        misbehaving(answer_when_released, answer_when_released, hang_up, port=port) as east,
        misbehaving(answer_when_released, host="127.0.0.2", port=port) as west,
    ):
        pool = ConnectionPool(Origin("service.example", "service.example", east.port, None))
        held = asyncio.create_task(ask(pool))
        await west.reached(1)
        names.address = "127.0.0.1"
        failing = [asyncio.create_task(ask(pool)) for _ in range(2)]
        await east.reached(2)
        west.released.set()
        await held
        east.released.set()
        await asyncio.gather(*failing)
        for _ in range(2):
            with pytest.raises(DeliveryUnknown):
                await ask(pool)

        await ask(pool)

        assert (len(east.requests), west.connections, len(west.requests)) == (4, 1, 2)
        await pool.aclose()


async def test_when_the_name_moves_sends_arrive_there_within_one_age_and_none_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, loop, age = Names(monkeypatch, "127.0.0.1"), asyncio.get_running_loop(), 0.2
    last_in_the_east = 0.0
    moved = 0.0
    numbers = iter(range(10**6))

    async def accept_in_the_east(connection: Connection) -> None:
        nonlocal last_in_the_east
        last_in_the_east = loop.time()
        await connection.write(ACCEPTED)

    async def work(pool: ConnectionPool) -> None:
        while not moved or loop.time() < moved + 2 * age:
            body = b"%d" % next(numbers)
            head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
            assert (await ask(pool, head + body)).status == 202

    port = port_free_on(*BOTH)
    async with (
        misbehaving(accept_in_the_east, port=port) as east,
        misbehaving(answer(), host="127.0.0.2", port=port) as west,
    ):
        pool = ConnectionPool(Origin("service.example", "service.example", east.port, None), max_age=age)
        workers = [asyncio.create_task(work(pool)) for _ in range(8)]
        await east.reached(100)
        names.address, moved = "127.0.0.2", loop.time()
        await asyncio.gather(*workers)
        await pool.aclose()

    received = Counter(east.bodies + west.bodies)
    assert max(received.values()) == 1
    assert len(received) == next(numbers)
    assert west.bodies
    assert last_in_the_east <= moved + 1.2 * age + 0.1


# ---- connections that end at the wrong moment ----


def reset_now(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


async def answer_by_hand(listener: socket.socket) -> socket.socket:
    loop = asyncio.get_running_loop()
    peer, _ = await loop.sock_accept(listener)
    peer.setblocking(False)
    await loop.sock_recv(peer, 65536)
    await loop.sock_sendall(peer, ACCEPTED)
    return peer


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


def pool_at(listener: socket.socket) -> ConnectionPool:
    return ConnectionPool(Origin("service", "127.0.0.1", listener.getsockname()[1], None))


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_a_request_of_which_no_byte_was_written_is_sent_on_a_fresh_connection(
    listener: socket.socket, is_noticed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_noticed:  # it may end after the look at it and before the write
        monkeypatch.setattr(HttpConnection, "_is_stale", lambda self: False)
    pool = pool_at(listener)
    first, _ = await asyncio.gather(answer_by_hand(listener), ask(pool))
    reset_now(first)  # and the loop has had no time to see it

    second, answered = await asyncio.gather(answer_by_hand(listener), ask(pool))

    assert answered.status == 202
    second.close()
    await pool.aclose()


async def test_a_connection_that_can_never_be_written_to_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpConnection, "_is_stale", lambda self: True)
    async with misbehaving(answer()) as server:
        pool = pool_of(server)
        with pytest.raises(ConnectError, match="closed at once"):
            await ask(pool)
        assert server.connections <= 2
        await pool.aclose()


async def test_what_comes_when_nobody_asked_ends_the_connection() -> None:
    async def say_more_later(connection: Connection) -> None:
        await connection.write(ACCEPTED)
        await connection.server.released.wait()
        await connection.write(ACCEPTED)

    async with misbehaving(say_more_later, answer()) as server:
        pool = pool_of(server)
        await ask(pool)
        server.released.set()
        await server.closed.wait()
        await ask(pool)
        assert server.connections == 2
        await pool.aclose()


async def test_a_second_answer_is_not_taken_for_that_to_the_next_request() -> None:
    # httpx gives it to the next request.
    async with misbehaving(
        answer(ACCEPTED + b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), answer()
    ) as server:
        pool = pool_of(server)
        assert [(await ask(pool)).status for _ in range(2)] == [202, 202]
        await pool.aclose()


async def test_an_answer_before_the_request_was_read_ends_the_connection() -> None:
    body = b"x" * 8_000_000

    async def answer_early(connection: Connection) -> None:
        await connection.reader.readexactly(1)
        await connection.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await stall(connection)

    async with misbehaving(answer(), greeting=answer_early) as server:
        pool = pool_of(server)
        head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert [(await ask(pool, head + body)).status for _ in range(2)] == [413, 413]
        assert server.connections == 2
        await pool.aclose()


async def test_what_waits_to_be_written_when_the_connection_ends_is_told_so() -> None:
    async with misbehaving(answer()) as server:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: HttpConnection("service", expires=loop.time() + 60), "127.0.0.1", server.port
        )
        promise = connection.request(REQUEST, is_head=False)
        connection.close()
        await connection.lost

        assert promise.result() is None
        connection.flush()
    assert server.requests == []


async def test_a_closed_connection_takes_no_request() -> None:
    async with misbehaving(answer()) as server:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: HttpConnection("service", expires=loop.time() + 60), "127.0.0.1", server.port
        )
        connection.close()

        promise = connection.request(REQUEST, is_head=False)
        connection.flush()
        assert await promise is None
        await connection.lost


async def test_where_sockets_cannot_be_looked_at_connections_are_used_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("select.poll")
    async with misbehaving(answer()) as server:
        pool = pool_of(server)
        for _ in range(2):
            await ask(pool)
        assert server.connections == 1
        await pool.aclose()


async def test_a_pool_that_is_closed_amid_an_answer_does_not_take_it_for_whole() -> None:
    began = asyncio.Event()

    async def begin(connection: Connection) -> None:
        await connection.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        began.set()
        await stall(connection)

    async with misbehaving(begin) as server:
        pool = pool_of(server)
        call = asyncio.create_task(ask(pool))
        await began.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        await pool.aclose()
        with pytest.raises(DeliveryUnknown):
            await call


async def test_a_call_that_is_cancelled_as_it_fails_leaves_no_failure_unheard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with misbehaving(stall) as server:
        pool = pool_of(server)
        call = asyncio.create_task(ask(pool, timeout=0.05))
        await server.reached(1)
        asyncio.get_running_loop().call_later(connection_pool.TICK * 1.5, call.cancel)
        time.sleep(connection_pool.TICK * 3)  # noqa: ASYNC251 - so that both are due at once

        with pytest.raises(asyncio.CancelledError):
            await call
        await pool.aclose()
    gc.collect()

    assert caplog.records == []


# ---- answers that go too far ----

SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (SWITCH, "another protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "too large"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + ACCEPTED, "does not come to its answer"),
        (CHUNKED + b"1\r\nx\r\n" * 500_000, "too large"),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 500_000, "too large"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "not HTTP"),
    ],
    ids=["switch", "endless head", "endless interim", "tiny chunks", "endless trailer", "two lengths"],
)
async def test_an_answer_that_goes_too_far_is_given_up(data: bytes, reason: str) -> None:
    async with misbehaving(answer(data, then=stall)) as server:
        pool = pool_of(server)
        with pytest.raises(DeliveryUnknown, match=reason):
            await ask(pool)
        await pool.aclose()


# ---- what is written ----


async def request_text(method: str, body: bytes = b"", *, path: str = "") -> bytes:
    transport = DirectTransport()
    async with misbehaving(answer()) as server:
        base = server.url + path
        await transport.request(method, base, "/api/x?q=%2F", [("A", "b")], body, timeout=5)
        await transport.aclose()
    return server.requests[0].replace(b"127.0.0.1:%d" % server.port, b"host")


async def test_a_request_is_written_so() -> None:
    fixed = b"Host: host\r\nUser-Agent: signalr-upstream\r\nAccept-Encoding: identity\r\nA: b\r\n"

    assert await request_text("GET") == b"GET /api/x?q=%2F HTTP/1.1\r\n" + fixed + b"\r\n"
    assert await request_text("HEAD", path="/gateway") == (
        b"HEAD /gateway/api/x?q=%2F HTTP/1.1\r\n" + fixed + b"\r\n"
    )
    assert await request_text("POST") == (
        b"POST /api/x?q=%2F HTTP/1.1\r\n" + fixed + b"Content-Length: 0\r\n\r\n"
    )
    assert (await request_text("POST", b"body")).endswith(b"Content-Length: 4\r\n\r\nbody")


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nB: c", "a\rB: c"])
async def test_a_header_with_a_line_break_is_not_sent(value: str) -> None:
    async with misbehaving(answer()) as server:
        with pytest.raises(ValueError, match="line break"):
            await DirectTransport().request("GET", server.url, "/", [("A", value)], b"", timeout=5)
        assert server.connections == 0


async def test_an_address_of_version_six_is_written_in_brackets() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        listener.setblocking(False)
        url = f"http://[::1]:{listener.getsockname()[1]}"
        transport = DirectTransport()
        peer, answered = await asyncio.gather(
            answer_by_hand(listener), transport.request("GET", url, "/", [], b"", timeout=5)
        )
        peer.close()
        await transport.aclose()

    assert answered.status == 202


async def test_without_certificates_of_its_own_it_trusts_those_that_httpx_trusts() -> None:
    transport = DirectTransport()
    async with misbehaving(answer(), tls=server_context()) as server:
        with pytest.raises(ConnectError, match="certificate verify failed"):
            await transport.request("GET", server.url, "/", [], b"", timeout=5)
        await transport.aclose()
        assert server.requests == []


# ---- loops ----


class InThread:
    """A server in a loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.end = asyncio.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self.serve(),))

    async def serve(self) -> None:
        async with misbehaving(answer()) as self.server:
            self.ready.set()
            await self.end.wait()

    def wait(self, condition: Callable[[], Awaitable[object]]) -> None:
        async def evaluate() -> None:
            await condition()

        asyncio.run_coroutine_threadsafe(evaluate(), self.loop).result(10)


@pytest.fixture
def server() -> Iterator[InThread]:
    made = InThread()
    made.thread.start()
    made.ready.wait(10)
    yield made
    made.loop.call_soon_threadsafe(made.end.set)
    made.thread.join(10)
    made.loop.close()


async def finish(call: Awaitable[None]) -> None:
    await call


@pytest.mark.parametrize("run", [asyncio.run, async_to_sync(finish)], ids=["asyncio.run", "async_to_sync"])
def test_a_loop_for_each_call_leaves_nothing_open(run: Callable[[Any], Any], server: InThread) -> None:
    # What is left open would be a ResourceWarning, and so an error.
    client = ServiceClient(f"Endpoint={server.server.url};AccessKey={'k' * 44}")
    hub = client.hub("chat")

    for number in range(1, 4):
        run(hub.clients.all.send("t"))
        server.wait(server.server.closed.wait)
        assert server.server.connections == number
    gc.collect()

    assert len(server.server.requests) == 3


def test_a_loop_that_goes_on_keeps_its_connection_when_others_come_and_go(server: InThread) -> None:
    hub = ServiceClient(f"Endpoint={server.server.url};AccessKey={'k' * 44}").hub("chat")
    loop = asyncio.new_event_loop()

    loop.run_until_complete(hub.clients.all.send("t"))
    for _ in range(2):
        asyncio.run(finish(hub.clients.all.send("t")))
    loop.run_until_complete(hub.clients.all.send("t"))

    assert (server.server.connections, len(server.server.requests)) == (3, 4)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    server.wait(server.server.closed.wait)


# ---- what is remembered ----


@pytest.mark.usefixtures("no_proxies")
async def test_requests_with_long_names_are_not_kept_for_clients_may_choose_them() -> None:
    async with (
        misbehaving(answer()) as server,
        ServiceClient(f"Endpoint={server.url};AccessKey={'k' * 44}") as client,
    ):
        clients = client.hub("chat").clients
        await clients.all.send("t")
        tracemalloc.start()
        try:
            for number in range(50):
                await clients.connection(f"{number}" + "x" * 10_000).send("t")
                server.requests.clear()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert kept < 250_000


# ---- which transport ----


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxies")
async def test_a_client_that_is_closed_leaves_no_connection_and_can_be_used_again() -> None:
    async with misbehaving(answer()) as server:
        for number in (1, 2):
            async with ServiceClient(f"Endpoint={server.url};AccessKey={'k' * 44}") as client:
                await client.hub("chat").clients.all.send("t")
                await client.hub("chat").clients.all.send("t")
            await server.closed.wait()
            assert server.connections == number


@pytest.mark.usefixtures("no_proxies")
async def test_a_proxy_of_the_environment_is_used_over_httpx_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="signalr_upstream.client")
    async with misbehaving(answer()) as proxy, misbehaving(answer()) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        transport = DefaultTransport()
        for base in ("http://a.example", "http://a.example", "http://b.example", server.url):
            answered = await transport.request("GET", base, "/x", [], b"", timeout=5)
            assert answered.status == 202
        await transport.aclose()

    assert [request.split(b"\r\n")[0] for request in proxy.requests] == [
        b"GET http://a.example/x HTTP/1.1",
        b"GET http://a.example/x HTTP/1.1",
        b"GET http://b.example/x HTTP/1.1",
    ]
    assert len(server.requests) == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"the environment names a proxy for {name}.example: it is called over httpx" for name in "ab"
    ]


async def test_clients_that_never_answer_leave_connections_for_sends() -> None:
    async def act(connection: Connection) -> None:
        if b":invoke" in connection.server.requests[-1]:
            await stall(connection)
        await connection.write(ACCEPTED)

    async with misbehaving(act) as server:
        text = f"Endpoint={server.url};AccessKey={'k' * 44};"
        async with ServiceClient(text, timeout=2) as client:
            clients = client.hub("chat").clients
            asked = [asyncio.create_task(clients.connection(f"c{n}").invoke("ask")) for n in range(110)]
            await server.reached(MAX_ASKED)

            await clients.all.send("news")
            with pytest.raises(ConnectError, match="none answered in time: this one was not asked"):
                await clients.connection("c").invoke("ask", timeout=0.05)

            for call in asked[:MAX_ASKED]:
                call.cancel()
            await server.reached(2 * MAX_ASKED + 1)  # their turns went to others
            for call in asked:
                call.cancel()
            await asyncio.wait(asked)
