"""The settings of the service's port: no compression, nothing secret in logs, who does not read is dropped."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from websockets.frames import Opcode

from signalr_upstream.local import LocalService, server
from signalr_upstream.local.server import LINGER, MAX_BUFFERED, StuckPeers

from .echo_app import EchoApp
from .sockets import Peer, frame, request, token, upgrade

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    async with LocalService(EchoApp()) as service:
        yield service


async def test_compression_is_not_agreed_to(service: LocalService) -> None:
    peer = await Peer.connect(service)
    peer.write(
        upgrade(f"Authorization: Bearer {token(service)}", "Sec-WebSocket-Extensions: permessage-deflate")
    )

    head = await peer.head()

    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in head.lower()
    await peer.close()


async def test_a_refused_websocket_is_no_error_of_the_service(
    service: LocalService, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await Peer.connect(service)

    peer.write(upgrade())
    assert await peer.status() == 401
    await peer.rest()
    await peer.close()

    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line.partition(":")[0] for line in lines] == ["a client of the local service was answered 401"]


@pytest.mark.parametrize(
    "said",
    [
        upgrade(target="/client/?hub=chat&access_token={token}"),
        upgrade(target="/client/?hub=chat&access_token={token}x"),
        upgrade(target="/client/?hub=chat&access_token={token}").replace(b"Version: 13", b"Version: 12"),
        request("POST", "/client/negotiate?hub=chat&access_token={token}"),
        request("GET", "/client/?hub=chat&id={token}"),
        request("GET", "/api/hubs/chat/:send?access_token={token}"),
        request("GET", "/client/?access_token={token}", "no header"),
        b"GET /client/?access_token={token} HTTP/9.9\r\n\r\n",
        upgrade("Authorization: Bearer {token}") + b"\xff\xff",
        upgrade("Authorization: Bearer {token}") + frame(b"\xff"),
    ],
)
async def test_no_log_of_uvicorn_or_websockets_has_a_query_or_a_token(
    service: LocalService, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    for name in ("uvicorn.error", "uvicorn.access", "websockets", "websockets.server", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    caplog.set_level(logging.DEBUG)
    secret = token(service)
    peer = await Peer.connect(service)

    peer.write(said.replace(b"{token}", secret.encode()))
    peer.writer.write_eof()
    await peer.rest()
    await peer.close()

    assert secret not in caplog.text
    assert "access_token" not in caplog.text
    assert "id=" not in caplog.text


@dataclass(eq=False)
class Connection:
    """A connection of uvicorn's, its asyncio transport and its socket in one."""

    closing: bool = False
    buffered: int = 0
    aborted: bool = False

    @property
    def transport(self) -> "Connection":
        return self

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def get_extra_info(self, name: str) -> "Connection":
        assert name == "socket"
        return self

    def setsockopt(self, *_: object) -> None:
        assert not self.aborted  # what it sets is for the end

    def abort(self) -> None:
        self.aborted = True


def test_what_is_being_closed_has_some_seconds_for_it() -> None:
    closing, open_ = Connection(closing=True), Connection(buffered=MAX_BUFFERED)
    stuck = StuckPeers()

    stuck.drop([closing, open_], patience=LINGER, now=100.0)
    stuck.drop([closing, open_], patience=LINGER, now=100.0 + LINGER - 0.1)
    assert [connection.aborted for connection in (closing, open_)] == [False, False]
    stuck.drop([closing, open_], patience=LINGER, now=100.0 + LINGER)

    assert [connection.aborted for connection in (closing, open_)] == [True, False]


def test_a_peer_with_too_much_to_read_is_dropped() -> None:
    connection = Connection(buffered=MAX_BUFFERED + 1)

    StuckPeers().drop([connection], patience=LINGER, now=0.0)

    assert connection.aborted


async def test_pings_of_a_client_that_never_reads_do_not_pile_up(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_BUFFERED", 10_000)
    peer = await Peer.upgraded(service)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it has it, being a socket's

    with pytest.raises(ConnectionError):
        await peer.flood(frame(b"x" * 125, Opcode.PING) * 1000)

    await peer.close()
