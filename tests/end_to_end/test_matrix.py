"""Every client library, over every transport and protocol it has, in all that people use a service for.

A cell of the matrix is a library, a transport, a protocol and a use. One process serves all uses of its first three.
"""

import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

import httpx
import pytest

from signalr_upstream.auth import TokenCache
from signalr_upstream.connection_string import parse_connection_string

from .clients import CallError, Client
from .conftest import Connect
from .processes import HERE, Server, free_port

LIBRARIES = ("node", "pysignalr", "signalrcore")
TRANSPORTS = ("WebSockets", "ServerSentEvents", "LongPolling")
PROTOCOLS = ("json", "messagepack")
METHODS = ("told", "gone")


class Way(NamedTuple):
    """How a client is connected."""

    library: str
    transport: str
    protocol: str


class Cell(NamedTuple):
    """Who takes part in the test of one cell."""

    client: Client
    user: str  # whose client it is
    connection: str  # its id
    other: Client  # of the same hub
    service: "Service"
    hub: str


# What a library cannot do → why. A tuple that is left short stands for all that begins so.
UNSUPPORTED: dict[tuple[str, ...], str] = {
    ("node", "ServerSentEvents", "messagepack"): "event streams are text; the client refuses to start",
    ("pysignalr", "ServerSentEvents"): "it has WebSockets only",
    ("pysignalr", "LongPolling"): "it has WebSockets only",
    (
        "signalrcore",
        "ServerSentEvents",
        "messagepack",
    ): "event streams are text; the client takes JSON instead",
    (
        "signalrcore",
        "LongPolling",
    ): "its polls carry no token, and are answered 401, as on Azure",
    ("signalrcore", "WebSockets", "json", "client result"): "it answers no invocation of the server",
    ("signalrcore", "WebSockets", "messagepack", "client result"): "it answers no invocation of the server",
    ("signalrcore", "ServerSentEvents", "json", "client result"): "it answers no invocation of the server",
}


class Service:
    """The service's REST API."""

    def __init__(self, connection_string: str) -> None:
        self._endpoint = parse_connection_string(connection_string)
        self._tokens = TokenCache()

    def post(self, path: str, body: object = None) -> httpx.Response:
        token = self._tokens.rest_token(self._endpoint, path, now=time.time())
        return httpx.post(
            f"{self._endpoint.url}{path}?api-version=2024-12-01",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=20,
            trust_env=False,
        )


# --- the uses -----------------------------------------------------------------------------------------------


def invoke_with_result(cell: Cell) -> None:
    values = [
        1,
        -1,
        2**40,
        2.5,
        "žluť 😀",
        "line\r\nbreak",
        None,
        True,
        [[1]],
        {"a": {"b": [None]}},
        "x" * 100_000,
    ]

    assert cell.client.invoke("echo", *values) == values
    assert cell.client.invoke("nothing") is None


def invoke_with_error(cell: Cell) -> None:
    with pytest.raises(CallError, match=r"Not on Mondays\."):
        cell.client.invoke("refuse")


def send(cell: Cell) -> None:
    cell.client.send("tellCaller", "to the sender")

    assert cell.client.receive() == ["told", "to the sender"]


def broadcast(cell: Cell) -> None:
    cell.client.invoke("tellAll", "from the client")
    cell.other.invoke("tellAll", "from the other")

    for client in (cell.client, cell.other):
        assert [client.receive() for _ in range(2)] == [
            ["told", "from the client"],
            ["told", "from the other"],
        ]


def group(cell: Cell) -> None:
    assert cell.client.invoke("join", "tea/5 %2F é") is True
    cell.other.invoke("tellGroup", "tea/5 %2F é", "to the group")
    cell.client.invoke("leave", "tea/5 %2F é")
    cell.other.invoke("tellGroup", "tea/5 %2F é", "to nobody")
    cell.other.invoke("tellAll", "to all")

    assert [cell.client.receive() for _ in range(2)] == [["told", "to the group"], ["told", "to all"]]
    assert cell.other.receive() == ["told", "to all"]


def user(cell: Cell) -> None:
    cell.other.invoke("tellUser", cell.user, "to the user")
    cell.other.invoke("tellAll", "to all")

    assert [cell.client.receive() for _ in range(2)] == [["told", "to the user"], ["told", "to all"]]
    assert cell.other.receive() == ["told", "to all"]


def client_result(cell: Cell) -> None:
    path = f"/api/hubs/{cell.hub}/connections/{quote(cell.connection)}/:invoke"

    answer = cell.service.post(path, {"target": "ask", "arguments": [1, "é"]})

    assert answer.status_code == 200, answer.text
    assert answer.json()["result"] == ["answered", 1, "é"]


def stream(cell: Cell) -> None:
    assert cell.client.stream("counter", 3) == [{"number": 0}, {"number": 1}, {"number": 2}]


def close(cell: Cell) -> None:
    assert cell.other.invoke("kick", cell.connection) is True

    cell.client.wait_closed()
    assert cell.other.receive() == ["gone", cell.user]
    assert cell.other.invoke("connectionExists", cell.connection) is False


# The last one ends the client.
USES: dict[str, Callable[[Cell], None]] = {
    "invoke with result": invoke_with_result,
    "invoke with error": invoke_with_error,
    "send": send,
    "broadcast": broadcast,
    "group": group,
    "user": user,
    "client result": client_result,
    "stream": stream,
    "close": close,
}


def reasons(cell: tuple[str, ...]) -> list[str]:
    """Why a cell is not tested."""
    return [why for start, why in UNSUPPORTED.items() if cell[: len(start)] == start]


CELLS = list(itertools.product(LIBRARIES, TRANSPORTS, PROTOCOLS, USES))
TESTED = [cell for cell in CELLS if not reasons(cell)]


def test_every_cell_is_tested_or_has_one_reason_not_to_be() -> None:
    untested = [cell for cell in CELLS if cell not in TESTED]
    print(f"client matrix: {len(TESTED)} cells tested, {len(untested)} that a client does not support")
    for start, why in UNSUPPORTED.items():
        print(f"  {' '.join(start)}: {why}")

    assert (len(CELLS), len(TESTED)) == (162, 87)
    assert all(len(reasons(cell)) == 1 for cell in untested)
    assert all(any(cell[: len(start)] == start for cell in CELLS) for start in UNSUPPORTED)


# --- the processes ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service]]:
    """The URL of the app, and the service."""
    folder = tmp_path_factory.mktemp("matrix")
    app_port, service_port, key = free_port(), free_port(), secrets.token_urlsafe(33)
    app_url, service_url = f"http://localhost:{app_port}", f"http://localhost:{service_port}"
    connection_string = f"Endpoint={service_url};AccessKey={key};Version=1.0;"
    upstream = app_url + "/{hub}/{category}/{event}"
    local = ["local", "--port", str(service_port), "--upstream", upstream, "--experimental-streams"]
    run = ["run", "matrix_app:app", "--app-dir", str(HERE), "--port", str(app_port)]
    secret = {"SIGNALR_UPSTREAM_LOCAL_ACCESS_KEY": key}
    setting = {"AzureSignalRConnectionString": connection_string}
    with (
        Server(*local, url=f"{service_url}/api/health", log=folder / "service.log", environment=secret),
        Server(*run, url=app_url, log=folder / "app.log", environment=setting),
    ):
        yield app_url, Service(connection_string)


class Meeting:
    """A client that is connected in one way and another one, in a hub of their own: until another way is asked for."""

    def __init__(self, servers: tuple[str, Service], folder: Path) -> None:
        self._app_url, self._service = servers
        self._folder = folder
        self._processes = ExitStack()
        self._way: Way | None = None
        self._cell: Cell

    def __call__(self, way: Way) -> Cell:
        if way != self._way:
            self.end()
            self._cell = self._start(way)
            self._way = way
        return self._cell

    def end(self) -> None:
        self._processes.close()

    def _start(self, way: Way) -> Cell:
        hub = f"tests_{secrets.token_hex(4)}"

        def client(name: str, library: str, transport: str) -> Client:
            url = f"{self._app_url}/{hub}?{urlencode({'user': name})}"
            log = self._folder / f"{'-'.join(way)}-{name}.log"
            return self._processes.enter_context(Client(library, url, METHODS, log=log, transport=transport))

        ours = client("žofie", f"{way.library}-{way.protocol}", way.transport)
        other = client("other", "node-json", "WebSockets")
        connection = str(ours.invoke("whoAmI")["connection"])
        return Cell(ours, "žofie", connection, other, self._service, hub)


@pytest.fixture(scope="module")
def meeting(
    servers: tuple[str, Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Way], Cell]]:
    meeting = Meeting(servers, tmp_path_factory.mktemp("clients"))
    yield meeting
    meeting.end()


@pytest.mark.parametrize("cell", TESTED, ids="-".join)
def test_cell(cell: tuple[str, str, str, str], meeting: Callable[[Way], Cell]) -> None:
    *way, use = cell

    USES[use](meeting(Way(*way)))


def test_without_websockets_the_official_client_negotiates_anew_and_takes_the_next_transport(
    connect: Connect, servers: tuple[str, Service]
) -> None:
    client = connect("node-json", f"{servers[0]}/tests_fallback?user=ann", *METHODS, transport="fallback")

    assert client.opened["transport"] == "ServerSentEventsTransport"
    assert client.opened["negotiations"] == 2
    assert client.invoke("add", 2, 3) == 5
