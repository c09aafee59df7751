"""A REST API that accepts everything, in a process of its own, to be stopped and started again."""

import asyncio
import re
import subprocess
import sys
from typing import cast

import uvloop

from tests.benchmarks.upstream import REPOSITORY, free_port, wait_for_port

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class _Accepting(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._buffer, 0, end + 2)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < size:
                return
            del self._buffer[:size]
            self._transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")


class Accepting:
    """The process, on the same port whenever it runs."""

    def __init__(self) -> None:
        self.port = free_port()

    def __enter__(self) -> "Accepting":
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when it listens."""
        command = [sys.executable, "-m", "tests.loads.accepting", str(self.port)]
        self.process = subprocess.Popen(command, cwd=REPOSITORY)
        wait_for_port(self.port, self.process)

    def stop(self) -> None:
        """Its port is closed, and every connection."""
        self.process.kill()
        self.process.wait()


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Accepting, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
