"""5,000 clients that stay connected through minutes of traffic: nothing may be lost, repeated, changed or cut off.

The local service runs in a process of its own, with the app in it or, where that is asked for, in a third process that
it calls over HTTP; all clients are this process. In each minute there are 40 seconds of broadcasts, sends to groups and
invocations, and 20 quiet ones in which the service has to ping everybody. Every client checks the numbers of all that
it gets, and pings every ten seconds.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.benchmarks.raw_clients import Clients, Trigger, client_frame, split_frames
from tests.benchmarks.soak_service import GROUPS, group_of
from tests.benchmarks.upstream import HERE, REPOSITORY, wait_for_port
from tests.benchmarks.wires import KEY, bearer, local_service_wire, post

CLIENTS = 5_000
AT_ONCE = 25
"""Clients that connect together."""
MINUTE = 60
BUSY = 40  # seconds of each minute
LONGEST_SILENCE = 20.0
"""Seconds: the service pings after 15, and this machine has other things to do."""

PORT = 18_960
APP_PORT = PORT + 1
PING = client_frame(b'{"type":6}\x1e')


class State:
    """What one client has got and waits for."""

    def __init__(self, number: int) -> None:
        self.group = group_of(number)
        self.broadcasts = 0
        self.group_sends = 0
        self.asked = 0
        self.answered = 0
        self.heard = time.perf_counter()


class Soak:
    """One run."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._states: dict[int, State] = {}  # by file descriptor
        self._fds: list[int] = []
        self._rest: Trigger
        self._requests = 0
        self._sent: list[float] = []  # broadcasts: when
        self._group_sent = dict.fromkeys(map(group_of, range(GROUPS)), 0)
        self._calls: dict[str, str] = {}  # path: its Authorization header
        self._group_turn = self._ask_turn = self._ping_turn = 0
        self.latencies: list[float] = []
        self.messages = self.pings = self.answers = 0
        self.silence = 0.0  # the longest, in seconds

    # --- traffic ---------------------------------------------------------------------------------------------

    def _send(self, path: str, body: bytes) -> None:
        path = f"/api/hubs/chat{path}"
        if path not in self._calls:
            self._calls[path] = bearer(f"http://localhost{path}")
        self._requests += 1
        url = path + "?api-version=2024-12-01"
        self._rest.send(post(url, body, self._calls[path], "Content-Type: application/json"))

    def broadcast(self) -> None:
        self._sent.append(time.perf_counter())
        self._send("/:send", b'{"target":"all","arguments":[%d]}' % len(self._sent))

    def send_to_group(self) -> None:
        self._group_turn += 1
        group = group_of(self._group_turn)
        self._group_sent[group] += 1
        self._send(f"/groups/{group}/:send", b'{"target":"group","arguments":[%d]}' % self._group_sent[group])

    def invoke(self) -> None:
        """The next client calls the app, unless it still waits for an answer."""
        self._ask_turn += 1
        self._ask(self._fds[self._ask_turn % len(self._fds)])

    def _ask(self, fd: int) -> None:
        state = self._states[fd]
        if state.asked == state.answered:
            state.asked += 1
            call = b'{"type":1,"invocationId":"%d","target":"echo","arguments":[%d]}\x1e'
            self._clients.by_fd[fd].socket.send(client_frame(call % (state.asked, state.asked)))

    def ping(self) -> None:
        """The next hundredth of the clients pings."""
        self._ping_turn += 1
        for fd in self._fds[self._ping_turn % 100 :: 100]:
            self._clients.by_fd[fd].socket.send(PING)

    # --- receiving -------------------------------------------------------------------------------------------

    def _receive(self, seconds: float) -> None:
        for fd, _ in self._clients.poll.poll(max(seconds, 0.0)):
            client, state = self._clients.by_fd[fd], self._states[fd]
            self._clients.read(client)
            now = time.perf_counter()
            self.silence = max(self.silence, now - state.heard)
            state.heard = now
            for payload in split_frames(client.buffer):
                for record in payload.split(b"\x1e")[:-1]:
                    self._take(state, msgspec.json.decode(record), now)

    def _take(self, state: State, message: dict[str, object], now: float) -> None:
        match message:
            case {"type": 6}:
                self.pings += 1
            case {"type": 1, "target": "all", "arguments": [number]} if number == state.broadcasts + 1:
                state.broadcasts += 1
                self.messages += 1
                self.latencies.append(now - self._sent[state.broadcasts - 1])
            case {"type": 1, "target": "group", "arguments": [number]} if number == state.group_sends + 1:
                state.group_sends += 1
                self.messages += 1
            case {"type": 3, "result": number} if number == state.answered + 1:
                state.answered += 1
                self.answers += 1
            case _:
                raise SystemExit(f"lost, repeated or wrong: {message!r} after {vars(state)}")

    def _complete(self, state: State) -> bool:
        wanted = (len(self._sent), self._group_sent[state.group], state.asked)
        return (state.broadcasts, state.group_sends, state.answered) == wanted

    # --- the run ---------------------------------------------------------------------------------------------

    def join(self, count: int) -> None:
        """Connect so many, and wait until they are in their groups: an invocation is answered behind ``connected``.

        Some at a time, as the app is told of each and calls the service back.
        """
        while len(self._states) < count:
            self._clients.open(min(AT_ONCE, count - len(self._states)))
            for fd in list(self._clients.by_fd)[len(self._states) :]:
                self._states[fd] = State(len(self._states))
                self._ask(fd)
            self._settle()
        self._fds = list(self._states)
        for state in self._states.values():
            state.heard = time.perf_counter()
        self.silence, self.pings = 0.0, 0  # while others joined, nobody looked at them

    def _settle(self) -> None:
        """Wait for all that is due."""
        deadline = time.perf_counter() + 60
        while missing := [state for state in self._states.values() if not self._complete(state)]:
            if time.perf_counter() > deadline:
                raise SystemExit(f"{len(missing)} clients wait for something, one has {vars(missing[0])}")
            self._receive(0.1)

    def run(self, seconds: float) -> None:
        """Traffic for so long, then the check that all has arrived."""
        traffic: list[tuple[Callable[[], None], float]] = [
            (self.broadcast, 1.0),
            (self.send_to_group, 0.1),
            (self.invoke, 0.02),
        ]
        self._rest = Trigger(self._clients.port)
        start = time.perf_counter()
        due = {action: start + every for action, every in [*traffic, (self.ping, 0.1)]}
        while (now := time.perf_counter()) < start + seconds:
            busy = (now - start) % MINUTE < BUSY
            for action, every in [*traffic, (self.ping, 0.1)]:
                if due[action] <= now:
                    due[action] += every
                    if busy or action == self.ping:
                        action()
            self._receive(min(due.values()) - time.perf_counter())
        self._settle()
        now = time.perf_counter()
        self.silence = max(self.silence, *(now - state.heard for state in self._states.values()))
        self._rest.finish(self._requests)


def soak(seconds: int, *, over_http: bool) -> None:
    """Run for ``seconds`` and print what happened; anything wrong ends the program."""
    with _servers(over_http=over_http) as service:
        clients = Clients(local_service_wire(CLIENTS), PORT)
        run = Soak(clients)
        run.join(CLIENTS)
        before = _memory(service)
        run.run(seconds)
        after = _memory(service)
        clients.close()
    quantiles = statistics.quantiles(run.latencies, n=100)
    print(
        f"\nsoak: {CLIENTS:,} clients connected for {seconds} s, all of them to the end; nothing lost or repeated"
        + (" with the app over HTTP" if over_http else "")
    )
    print(f"  {run.messages:,} messages of broadcasts and groups, {run.answers:,} invocations answered")
    print(f"  broadcasts: p50 {quantiles[49] * 1e3:.1f} ms, p99 {quantiles[98] * 1e3:.1f} ms")
    verdict = "met" if run.silence <= LONGEST_SILENCE and run.pings else "MISSED"
    print(
        f"  {run.pings:,} pings of the service; longest silence {run.silence:.1f} s, ≤ {LONGEST_SILENCE} {verdict}"
    )
    print(f"  memory of the service: {before / 1024:.1f} MiB at the start, {after / 1024:.1f} at the end")


@contextmanager
def _servers(*, over_http: bool) -> Iterator["subprocess.Popen[bytes]"]:
    """The service's process, and perhaps one for its app."""
    if not over_http:
        with _process(PORT, str(HERE / "soak_service.py"), KEY, str(PORT)) as service:
            yield service
        return
    command = ["-m", "signalr_upstream.cli"]
    calls = f"http://127.0.0.1:{APP_PORT}/{{hub}}/{{category}}/{{event}}"
    options = ["--port", str(PORT), "--access-key", KEY, "--upstream", calls]
    with (
        _process(
            APP_PORT, *command, "run", "soak_service:app", "--port", str(APP_PORT), "--log-level", "warning"
        ),
        _process(PORT, *command, "local", *options) as service,
    ):
        yield service


@contextmanager
def _process(port: int, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=HERE,
        stdout=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "AzureSignalRConnectionString": f"Endpoint=http://localhost;Port={PORT};AccessKey={KEY};",
        },
    )
    try:
        wait_for_port(port, process)
        yield process
    finally:
        process.kill()
        process.wait()


def _memory(process: "subprocess.Popen[bytes]") -> float:
    """KiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0])
