"""Thousands of WebSocket clients in one thread: raw sockets and epoll, no parsing where bytes can be compared.

The client side of the benchmark must never be the slow one. One read of one message costs it a few microseconds: the
system call, and a comparison with the bytes that are due. Anything else that arrives ends the benchmark.
"""

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

IN_FLIGHT = 64
"""Connections that are being opened at the same time."""

READ = 1 << 16
PATIENCE = 60.0
"""Seconds of silence, while something is due, after which the server is taken for broken."""

_HEAD_END = b"\r\n\r\n"


class Wire(NamedTuple):
    """What clients and server of one kind say to each other."""

    opening: Callable[[int], bytes]  # request head of the WebSocket of the client with this number
    hello: bytes  # frame of the client after the upgrade; empty for none
    ready: bytes  # how the payload begins that says that the client is in; empty: it is after the upgrade
    event: Callable[[int], bytes]  # payload of the broadcast with this number, as it arrives
    trigger_opening: bytes  # request head of the WebSocket that triggers; empty: triggers are HTTP requests
    trigger: Callable[[int], bytes]  # bytes that make the server send broadcast number n
    answers: dict[bytes, bytes]  # keep-alive payloads of the server, and the frame they are answered with


def client_frame(payload: bytes, *, opcode: int = 1) -> bytes:
    """A client's frame. The mask is zero, which is legal and leaves the payload as it is."""
    head = bytes([0x80 | opcode])
    if len(payload) < 126:
        return head + bytes([0x80 | len(payload)]) + bytes(4) + payload
    return head + bytes([0x80 | 126]) + len(payload).to_bytes(2) + bytes(4) + payload


def server_frame(payload: bytes) -> bytes:
    """A text frame as every server here writes it."""
    if len(payload) < 126:
        return bytes([0x81, len(payload)]) + payload
    return bytes([0x81, 126]) + len(payload).to_bytes(2) + payload


def split_frames(buffer: bytearray) -> Iterator[bytes]:
    """Take the payloads of whole frames off ``buffer``."""
    while len(buffer) >= 2:
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(buffer[2:10]), 10
        if len(buffer) < start + size:
            return
        payload = bytes(buffer[start : start + size])
        del buffer[: start + size]
        yield payload


class Client:
    """One socket and what has arrived on it."""

    __slots__ = ("buffer", "expected", "socket", "upgraded")

    def __init__(self, port: int, number: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Several addresses of loopback: one has ports for some 28,000 connections, closed ones included.
        self.socket.bind((f"127.0.0.{2 + number % 8}", 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.buffer = bytearray()
        self.upgraded = False
        self.expected = 0  # number of the broadcast that is due


class Clients:
    """Clients of one server that are all connected."""

    def __init__(self, wire: Wire, port: int) -> None:
        self.wire = wire
        self.port = port
        self.by_fd: dict[int, Client] = {}
        self.poll = select.epoll()
        self._opened = 0

    def close(self) -> None:
        """Cut all connections."""
        self.poll.close()
        for client in self.by_fd.values():
            client.socket.close()
        self.by_fd.clear()

    # --- opening ---------------------------------------------------------------------------------------------

    def open(self, count: int) -> float:
        """Open ``count`` connections; seconds until the last one is ready."""
        start = time.perf_counter()
        ready = started = 0
        while ready < count:
            while started < count and started - ready < IN_FLIGHT:
                self._start()
                started += 1
            for client in self._readable():
                self.read(client)
                ready += self._is_ready(client)
        return time.perf_counter() - start

    def _start(self) -> None:
        client = Client(self.port, self._opened)
        client.socket.send(self.wire.opening(self._opened))
        self._opened += 1
        fd = client.socket.fileno()
        self.by_fd[fd] = client
        self.poll.register(fd, select.EPOLLIN)

    def _is_ready(self, client: Client) -> bool:
        if not client.upgraded:
            end = client.buffer.find(_HEAD_END)
            if end < 0:
                return False
            if not client.buffer.startswith(b"HTTP/1.1 101 "):
                raise SystemExit(f"not upgraded: {bytes(client.buffer)!r}")
            del client.buffer[: end + len(_HEAD_END)]
            client.upgraded = True
            if self.wire.hello:
                client.socket.send(self.wire.hello)
        if not self.wire.ready:
            return True
        return any(payload.startswith(self.wire.ready) for payload in split_frames(client.buffer))

    # --- broadcasts ------------------------------------------------------------------------------------------

    def broadcasts(self, *, seconds: float, window: int, nap: float = 0.0) -> "Deliveries":
        """Have broadcasts sent for ``seconds``, always ``window`` of them under way, and take them all.

        Args:
            nap: seconds between two looks at the sockets.
        """
        deliveries = Deliveries(self, window, nap)
        try:
            deliveries.run(seconds)
        finally:
            deliveries.trigger.close()
        return deliveries

    def idle(self, seconds: float) -> None:
        """Answer keep-alives for a while."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            for fd, _ in self.poll.poll(left):
                client = self.by_fd[fd]
                self.read(client)
                while self.take_keep_alive(client):
                    pass

    def take_keep_alive(self, client: Client) -> bool:
        """Take one message, which has to be a keep-alive, and answer it. False: there is no whole one."""
        for payload in split_frames(client.buffer):
            answer = self.wire.answers.get(payload)
            if answer is None:
                raise SystemExit(f"not what was due: {payload!r}")
            if answer:
                client.socket.send(answer)
            return True
        return False

    def _readable(self) -> list[Client]:
        events = self.poll.poll(PATIENCE)
        if not events:
            raise SystemExit("the server does not go on")
        return [self.by_fd[fd] for fd, _ in events]

    def read(self, client: Client) -> None:
        """Add what has arrived to the client's buffer."""
        data = client.socket.recv(READ)
        if not data:
            raise SystemExit("the server has closed a connection")
        client.buffer += data


class Deliveries:
    """One run of broadcasts: how many messages arrived, how fast, and when after their trigger."""

    def __init__(self, clients: Clients, window: int, nap: float) -> None:
        self.latencies: list[float] = []  # seconds from the trigger to each client
        self.seconds = 0.0
        self.client_cpu = 0.0  # seconds
        self._clients = clients
        self._window = window
        self._nap = nap
        self._frames: list[bytes] = []  # by number of broadcast
        self._triggered: list[float] = []
        self._left: list[int] = []  # clients that still wait for it
        self.trigger = Trigger(clients.port, clients.wire.trigger_opening)
        for client in clients.by_fd.values():
            client.expected = 0

    @property
    def rate(self) -> float:
        """Messages a second."""
        return len(self.latencies) / self.seconds

    def run(self, seconds: float) -> None:
        cpu = time.process_time()
        start = time.perf_counter()
        end = start + seconds
        for _ in range(self._window):
            self._send_trigger()
        done = 0
        while done < len(self._frames):
            if self._nap:
                time.sleep(self._nap)
            self._receive()
            while done < len(self._left) and self._left[done] == 0:
                done += 1
                if time.perf_counter() < end:
                    self._send_trigger()
        self.seconds = time.perf_counter() - start
        self.client_cpu = time.process_time() - cpu
        if not self._clients.wire.trigger_opening:
            self.trigger.finish(len(self._frames))

    def _send_trigger(self) -> None:
        number = len(self._frames)
        self._frames.append(server_frame(self._clients.wire.event(number)))
        self._left.append(len(self._clients.by_fd))
        self._triggered.append(time.perf_counter())
        self.trigger.send(self._clients.wire.trigger(number))

    def _receive(self) -> None:
        clients, frames, left = self._clients.by_fd, self._frames, self._left
        triggered, latencies, now = self._triggered, self.latencies, time.perf_counter
        events = self._clients.poll.poll(PATIENCE)
        if not events:
            raise SystemExit("a broadcast did not arrive everywhere")
        for fd, _ in events:
            client = clients[fd]
            data = client.socket.recv(READ)
            number = client.expected
            if not client.buffer and number < len(frames) and data == frames[number]:
                left[number] -= 1
                client.expected = number + 1
                latencies.append(now() - triggered[number])
            else:
                client.buffer += data
                if not data:
                    raise SystemExit("the server has closed a connection")
                self._take(client, now())

    def _take(self, client: Client, now: float) -> None:
        """More or less than one message has arrived, or a keep-alive."""
        while True:
            number = client.expected
            frame = self._frames[number] if number < len(self._frames) else b""
            if frame and client.buffer.startswith(frame):
                del client.buffer[: len(frame)]
                self._left[number] -= 1
                client.expected = number + 1
                self.latencies.append(now - self._triggered[number])
            elif frame.startswith(client.buffer) or not self._clients.take_keep_alive(client):
                return  # it ends here, or within a message


class Trigger:
    """The connection that makes the server send: of HTTP requests, or a WebSocket if there is an ``opening``."""

    def __init__(self, port: int, opening: bytes = b"") -> None:
        self._answers = bytearray()
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if opening:
            self._socket.sendall(opening)
            if b" 101 " not in self._socket.recv(READ):
                raise SystemExit("the trigger was not upgraded")

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)
        with suppress(BlockingIOError):
            self._answers += self._socket.recv(READ, socket.MSG_DONTWAIT)

    def finish(self, sent: int) -> None:
        """Look at the answers to so many HTTP requests."""
        while self._answers.count(b"HTTP/1.1 ") < sent or not self._answers.endswith(_HEAD_END):
            data = self._socket.recv(READ)
            if not data:
                break
            self._answers += data
        if self._answers.count(b"HTTP/1.1 202 ") != sent:
            raise SystemExit(f"a request was refused: {bytes(self._answers[-300:])!r}")
