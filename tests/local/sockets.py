"""Clients of a local service on a port that write bytes of their own: good ones, and those that nobody should send."""

import asyncio
import contextlib
import os
from typing import Any, Self

from websockets.frames import Frame, Opcode

from signalr_upstream.auth import encode_token
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.local import LocalService

PING = b'{"type":6}\x1e'
HANDSHAKE = b'{"protocol":"json","version":1}\x1e'
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3


def token(service: LocalService, audience: str = "/client/?hub=chat", **claims: Any) -> str:
    """A good token, unless ``claims`` make it another one."""
    endpoint = parse_connection_string(service.connection_string)
    return encode_token({"exp": 4102444800, "aud": endpoint.audience + audience, **claims}, endpoint.keys[0])


def request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    """One HTTP request; the body needs a header of its own that tells its length."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode() + body


def upgrade(*headers: str, target: str = "/client/?hub=chat") -> bytes:
    """The request that opens a WebSocket."""
    websocket = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    return request("GET", target, *websocket, f"Sec-WebSocket-Key: {KEY}", *headers)


def frame(data: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    """A client's frame."""
    return Frame(opcode, data, fin).serialize(mask=True)


class Peer:
    """A socket to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, service: LocalService) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", service.port))

    @classmethod
    async def upgraded(cls, service: LocalService) -> Self:
        """An open WebSocket, before the handshake of its hub protocol."""
        peer = await cls.connect(service)
        peer.write(upgrade(f"Authorization: Bearer {token(service)}"))
        assert await peer.status() == 101
        return peer

    @classmethod
    async def joined(cls, service: LocalService) -> Self:
        """A client of the JSON protocol."""
        peer = await cls.upgraded(service)
        peer.write(frame(HANDSHAKE))
        assert await peer.message() == b"{}\x1e"
        return peer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        """Read the head of an answer."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def status(self) -> int:
        """Read the head of an answer; its status."""
        return int((await self.head()).split(b" ", 2)[1])

    async def frame(self) -> tuple[int, bytes]:
        """Read one frame: opcode and payload."""
        first, size = await self._reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await self._reader.readexactly(2))
        return first & 0x0F, await self._reader.readexactly(size)

    async def message(self) -> bytes:
        """Read one text message that is no ping."""
        while True:
            opcode, data = await self.frame()
            assert opcode == Opcode.TEXT
            if data != PING:
                return data

    async def close_code(self) -> int:
        """Read to the close frame."""
        while True:
            opcode, data = await self.frame()
            if opcode == Opcode.CLOSE:
                return int.from_bytes(data[:2])

    async def rest(self) -> bytes:
        """Read to the end; a reset is one too."""
        data = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while chunk := await self._reader.read(65536):
                data += chunk
        return bytes(data)

    async def flood(self, data: bytes) -> None:
        """Write it again and again, as fast as the service takes it, until the service hangs up."""
        while True:
            self.write(data)
            await self.writer.drain()

    async def echoes(self, value: str) -> None:
        """Invoke a method of the app, and see its answer."""
        self.write(
            frame(f'{{"type":1,"invocationId":"1","target":"echo","arguments":["{value}"]}}\x1e'.encode())
        )
        assert await self.message() == f'{{"type":3,"invocationId":"1","result":["{value}"]}}\x1e'.encode()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def open_files() -> int:
    """File descriptors of this process, in which both ends of every connection are."""
    return len(os.listdir("/dev/fd"))
