"""Whatever is done to the service on its port, it goes on serving the others, and nothing of it stays behind."""

import asyncio
import gc
import logging
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode

from signalr_upstream import slow_heads
from signalr_upstream.auth import encode_token
from signalr_upstream.local import LocalService, request_body
from signalr_upstream.local.clients.session import CLIENT_TIMEOUT, HANDSHAKE_TIMEOUT, MAX_MESSAGE
from signalr_upstream.local.clock import ManualClock

from .echo_app import EchoApp
from .sockets import HANDSHAKE, PING, Peer, frame, open_files, request, token, upgrade

pytestmark = pytest.mark.anyio

JUNK_CONNECTIONS = 10_000
AT_ONCE = 250
KEPT = 256 * 1024
"""Bytes that thousands of connections may leave behind: none of them, but caches and the journal's last entries."""

MEBIBYTE = 1024 * 1024


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def service(clock: ManualClock) -> AsyncIterator[LocalService]:
    async with LocalService(EchoApp(), clock=clock) as service:
        yield service


@pytest.fixture
async def others(service: LocalService) -> AsyncIterator["Others"]:
    """A client that does nothing wrong. When the test is over it is still served, and nobody else is left."""
    others = Others(service, await Peer.joined(service))
    await others.are_served()
    await others.count()
    yield others
    await others.are_served()
    await others.are_alone()
    await others.witness.close()


class Others:
    """A good client, and what there was when there was nobody else."""

    def __init__(self, service: LocalService, witness: Peer) -> None:
        self.witness = witness
        self._service = service
        self._files = self._tasks = 0

    async def are_served(self) -> None:
        await self.witness.echoes("hello")

    async def count(self) -> None:
        self._files, self._tasks = open_files(), len(asyncio.all_tasks())

    async def are_alone(self) -> None:
        """Sockets, tasks and connections become what they were."""
        await until(lambda: open_files() <= self._files)
        await until(lambda: len(asyncio.all_tasks()) <= self._tasks)
        assert len(self._service.hub("chat").everybody()) == 1
        assert "with 1 connections" in repr(self._service)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the system tells nobody
            await asyncio.sleep(0.01)


# --- WebSocket frames ---


BROKEN_FRAMES = {  # and the code of RFC 6455, section 7.4.1, that they are closed with
    "not masked": (b"\x81\x02{}", 1002),
    "a reserved bit": (b"\xc1\x80\0\0\0\0", 1002),
    "a reserved opcode": (b"\x83\x80\0\0\0\0", 1002),
    "a long ping": (b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002),
    "a ping in pieces": (b"\x09\x80\0\0\0\0", 1002),
    "goes on with nothing": (b"\x80\x80\0\0\0\0", 1002),
    "a message within another": (frame(b"a", fin=False) + frame(b"b"), 1002),
    "half a close code": (frame(b"\x00", Opcode.CLOSE), 1002),
    "a close code that is never sent": (frame(b"\x03\xee", Opcode.CLOSE), 1002),
    "a length with its top bit": (b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0", 1009),
    "a length of exbibytes": (b"\x81\xff" + (2**62).to_bytes(8) + b"\0\0\0\0", 1009),
    "a little too long": (b"\x82\xff" + (MAX_MESSAGE + 2048).to_bytes(8) + b"\0\0\0\0", 1009),
    "no UTF-8": (frame(b"\xff\xfe"), 1007),
    "no UTF-8 over two frames": (frame(b"\xc3", fin=False) + frame(b"(", Opcode.CONT), 1007),
}


@pytest.mark.parametrize("kind", BROKEN_FRAMES)
@pytest.mark.usefixtures("others")
async def test_a_frame_that_breaks_the_rules_closes_its_own_connection(
    service: LocalService, kind: str
) -> None:
    data, code = BROKEN_FRAMES[kind]
    peer = await Peer.joined(service)

    peer.write(data)

    assert await peer.close_code() == code
    await peer.close()


@pytest.mark.usefixtures("others")
async def test_a_message_without_end_closes_its_own_connection(service: LocalService) -> None:
    peer = await Peer.joined(service)

    for _ in range(MAX_MESSAGE // MEBIBYTE + 1):
        peer.write(frame(b"x" * MEBIBYTE))

    assert b'"type":7' in await peer.message()
    assert await peer.close_code() == 1000
    await peer.close()


def test_any_frames_leave_the_others_alone() -> None:
    pieces = st.binary(max_size=40) | st.sampled_from([HANDSHAKE, PING, b"{}\x1e", b"\x1e", b"\x0e\x95"])
    opcodes = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT])
    frames = st.builds(frame, pieces, opcodes, fin=st.booleans())
    frames |= st.builds(frame, pieces, st.sampled_from([Opcode.PING, Opcode.PONG]))
    with asyncio.Runner() as runner:
        service = LocalService(EchoApp())
        runner.run(service.__aenter__())
        witness = runner.run(Peer.joined(service))

        async def say(data: list[bytes], *, shaken: bool) -> None:
            peer = await (Peer.joined(service) if shaken else Peer.upgraded(service))
            peer.write(b"".join(data))
            peer.writer.write_eof()
            await peer.rest()
            await peer.close()
            await witness.echoes("hello")

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(frames | st.binary(max_size=20), max_size=6), st.booleans())
        def run(data: list[bytes], shaken: bool) -> None:
            runner.run(say(data, shaken=shaken))

        run()
        runner.run(until(lambda: "with 1 connections" in repr(service)))
        runner.run(witness.close())
        runner.run(service.aclose())


# --- those who say nothing, or not enough ---


SLOW_HEADS = [b"", b"P", request("POST", "/client/negotiate?hub=chat")[:-2], upgrade()[:-3]]


@pytest.mark.usefixtures("others")
async def test_requests_that_never_begin_are_closed(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_heads, "HEAD_TIMEOUT", 0.1)
    peers = [await Peer.connect(service) for _ in range(5 * len(SLOW_HEADS))]
    for peer, head in zip(peers, SLOW_HEADS * 5, strict=True):
        peer.write(head)

    assert {await peer.rest() for peer in peers} == {b""}

    for peer in peers:
        await peer.close()


@pytest.mark.usefixtures("others")
async def test_bodies_that_never_end_are_answered_with_408(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "BODY_TIMEOUT", 0.1)
    path = "/api/hubs/chat/:send"
    headers = (
        f"Authorization: Bearer {token(service, path)}",
        "Content-Type: application/json",
        "Content-Length: 100",
    )
    peers = [await Peer.connect(service) for _ in range(20)]
    for peer in peers:
        peer.write(request("POST", f"{path}?api-version=2024-12-01", *headers, body=b"{"))

    assert {await peer.status() for peer in peers} == {408}

    for peer in peers:
        await peer.rest()
        await peer.close()


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("begun", [b"", HANDSHAKE[:-1], b"{" * 100])
async def test_handshakes_that_never_end_are_given_up(
    service: LocalService, clock: ManualClock, begun: bytes
) -> None:
    peers = [await Peer.upgraded(service) for _ in range(20)]
    for peer in peers:
        peer.write(frame(begun))
    await until(lambda: "with 21 connections" in repr(service))

    clock.advance(HANDSHAKE_TIMEOUT)

    for peer in peers:
        assert await peer.message() == b'{"error":"Handshake was canceled."}\x1e'
        assert await peer.close_code() == 1000
        await peer.close()


@pytest.mark.usefixtures("others")
async def test_clients_that_vanished_without_a_word_are_given_up(
    service: LocalService, clock: ManualClock
) -> None:
    peers = [await Peer.joined(service) for _ in range(20)]
    for peer in peers:
        peer.write(frame(PING))
        await peer.echoes("the ping was heard")

    clock.advance(CLIENT_TIMEOUT)

    await until(lambda: len(service.hub("chat").everybody()) == 1)
    for peer in peers:
        await peer.close()


@pytest.mark.usefixtures("others")
async def test_requests_whose_answers_are_never_read_hold_nobody_up(
    service: LocalService, others: "Others"
) -> None:
    peers = [await Peer.connect(service) for _ in range(5)]
    for peer in peers:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it has it, being a socket's
        peer.write(request("GET", "/nothing") * 2_000)
    for _ in range(20):
        await others.are_served()

    for peer in peers:
        peer.writer.transport.abort()


# --- tokens ---


def tokens(service: LocalService) -> dict[str, str]:
    """By what is wrong with them."""
    good = token(service)
    head, claims, signature = good.split(".")
    return {
        "empty": "",
        "no JWT": "s3cret",
        "cut": good[:-4],
        "no signature": f"{head}.{claims}.",
        "not signed": "eyJhbGciOiJub25lIn0." + claims + ".",  # {"alg":"none"}
        "signed otherwise": encode_token(
            {"aud": "http://localhost/client/?hub=chat", "exp": 4102444800}, "k" * 44
        ),
        "another algorithm": "eyJhbGciOiJSUzI1NiJ9." + claims + "." + signature,  # {"alg":"RS256"}
        "a body of no JSON": f"{head}.AAAA.{signature}",
        "expired": token(service, exp=1),
        "not valid yet": token(service, nbf=4102444000),
        "an expiry of words": token(service, exp="soon"),
        "for another hub": token(service, "/client/?hub=other"),
        "for the REST API": token(service, "/api/hubs/chat/:send"),
        "too long": token(service, filling="x" * 4_000),
        "no ASCII": good[:-1] + "\xff",
    }


async def test_only_a_good_token_opens_anything(
    service: LocalService, others: "Others", caplog: pytest.LogCaptureFixture
) -> None:
    for kind, bad in tokens(service).items():
        for said in (
            upgrade(f"Authorization: Bearer {bad}"),
            upgrade(target=f"/client/?hub=chat&access_token={bad}"),
            request("POST", "/client/negotiate?hub=chat", f"Authorization: Bearer {bad}"),
            request("GET", "/client/?hub=chat&id=x", f"Authorization: Bearer {bad}"),
        ):
            peer = await Peer.connect(service)
            peer.write(said)
            peer.writer.write_eof()
            answer = await peer.rest()
            await peer.close()

            assert answer, (kind, said)
            assert answer.split(b" ")[1] in (b"400", b"401"), (kind, answer)
            assert not bad or bad.encode() not in answer, kind
            assert not bad or bad not in caplog.text, kind
    await others.are_served()


# --- masses ---


JUNK = [
    b"",
    b"\n",
    b"\0" * 100,
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\xaa" * 40,  # TLS
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"POST /client/negotiate HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /client/negotiate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    request("PRI", "*"),
    request("GET", "/client/?hub=chat", "X: " + "x" * 70_000),
    upgrade(),
    upgrade("Authorization: Bearer x"),
    upgrade("Authorization: Bearer x")[:-2],
]


async def junk(service: LocalService, others: "Others", count: int) -> None:
    """So many connections that say something senseless and go, every other one with a reset."""
    loop = asyncio.get_running_loop()
    for start in range(0, count, AT_ONCE):
        sockets = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(AT_ONCE)]
        for number, each in enumerate(sockets, start):
            each.setblocking(False)
            if number % 2:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await loop.sock_sendall(each, JUNK[number % len(JUNK)])
        for each in sockets:
            each.close()
        await others.are_served()


async def test_masses_of_junk_leave_nothing_behind(service: LocalService, others: "Others") -> None:
    await junk(service, others, 1_000)
    await others.are_alone()
    logging.disable()  # pytest keeps every record
    tracemalloc.start()
    try:
        await junk(service, others, 1_000)
        await others.are_alone()
        before = memory()

        await junk(service, others, JUNK_CONNECTIONS - 2_000)

        await others.are_alone()
        await until(lambda: memory() - before < KEPT)  # the sweeps, once a second, still know the last ones
    finally:
        tracemalloc.stop()
        logging.disable(logging.NOTSET)


def memory() -> int:
    """Bytes in use of what was made since tracemalloc was started."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
