"""docs/mounting.md is true: every app it shows, behind every server, with the lifespan and without, for real clients.

Clients speak JSON where the lifespan runs and MessagePack where it does not.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from signalr_upstream.local import LocalService

from ..support import KEY, OTHER_KEY, call_headers, detail, invocation, path_of
from .conftest import Connect
from .people import Person
from .processes import HERE, PATIENCE, Process, Server, free_port, wait_until

pytestmark = pytest.mark.anyio

# Section of the document → its prefix.
SECTIONS = {
    "Alone": "",
    "Starlette": "/signalr",
    "FastAPI": "/signalr",
    "Litestar": "/signalr",
    "Quart": "/signalr",
    "Beside Django": "/signalr",
}

# Server, lifespan → its command, and what the app does with the lifespan.
SERVERS: dict[tuple[str, bool], tuple[str, str]] = {
    ("uvicorn", True): ("uvicorn --lifespan on --log-level warning --port {port} shown:app", "runs"),
    ("uvicorn", False): ("uvicorn --lifespan off --log-level warning --port {port} shown:app", "runs"),
    ("hypercorn", True): (
        "hypercorn --config mounting/hypercorn.toml --workers 0 --bind 127.0.0.1:{port} shown:app",
        "runs",
    ),
    ("hypercorn", False): (
        "hypercorn --config mounting/hypercorn.toml --workers 0 --bind 127.0.0.1:{port} shown:app",
        "raises",
    ),
    ("granian", True): ("granian --interface asgi --port {port} mounting/shown:app", "runs"),
    ("granian", False): ("granian --interface asginl --port {port} mounting/shown:app", "runs"),
}


class MountedServer(Server):
    """A server with the app of one section, whose SignalR service is to be at ``service_port``."""

    def __init__(self, command: str, *, section: str, lifespan: str, log: Path) -> None:
        port, self.service_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.prefix = SECTIONS[section]
        service = f"Endpoint=http://localhost;Port={self.service_port};AccessKey={KEY};Version=1.0;"
        environment = {
            "AzureSignalRConnectionString": service,
            "SECTION": section,
            "LIFESPAN": lifespan,
            "PYTHONPATH": str(HERE / "mounting"),
        }
        whole = [sys.executable, "-m", *command.format(port=port).split()]
        Process.__init__(self, whole, log=log, environment=environment)


@pytest.fixture(scope="module", params=SERVERS, ids=lambda key: f"{key[0]}-{'' if key[1] else 'no-'}lifespan")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, MountedServer]]:
    """One server for each section, all of one kind; they start side by side."""
    command, lifespan = SERVERS[request.param]
    folder = tmp_path_factory.mktemp("servers")
    started = {
        section: MountedServer(command, section=section, lifespan=lifespan, log=folder / f"{section}.log")
        for section in SECTIONS
    }
    with ExitStack() as stack:
        for server in started.values():
            stack.push(server.__exit__)
        for server in started.values():
            server.__enter__()
        yield started


@pytest.mark.parametrize("section", SECTIONS)
async def test_a_mounted_app_serves_real_clients(
    section: str, servers: dict[str, MountedServer], request: pytest.FixtureRequest, connect: Connect
) -> None:
    server = servers[section]
    url = server.url + server.prefix
    _, runs_lifespan = request.node.callspec.params["servers"]
    library = "node-json" if runs_lifespan else "node-messagepack"
    async with LocalService(
        upstream=url + "/{hub}/{category}/{event}", port=server.service_port, keys=[KEY]
    ) as service:
        ann = Person(await asyncio.to_thread(connect, library, f"{url}/chat", "welcome", "told"))

        assert await ann.receive() == ["welcome", "ann"]
        assert await ann.invoke("asked") == [f"{url}/chat/negotiate?negotiateVersion=1", server.prefix]
        assert await ann.invoke("called") == [f"{server.prefix}/chat/messages/called", server.prefix]
        assert await ann.invoke("database") == ("open" if runs_lifespan else "there was no lifespan")
        ann.client.send("tell", "hello")
        assert await ann.receive() == ["told", "hello"]
        ann.client.stop()
        await ann.wait_closed()

        def called() -> list[tuple[str, int | None]]:
            return [(call.event, call.status) for call in service.upstream_calls]

        answered = ("disconnected", 204)
        await asyncio.to_thread(wait_until, lambda: called()[-1] == answered, "the app knows of the end")
        assert called() == [
            ("connected", 204),
            *[("asked", 200), ("called", 200), ("database", 200), ("tell", 204)],
            answered,
        ]


@pytest.mark.parametrize("section", SECTIONS)
async def test_a_mounted_app_refuses_strangers_and_leaves_other_paths_alone(
    section: str, servers: dict[str, MountedServer]
) -> None:
    server = servers[section]
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:

        async def post(**options: Any) -> httpx.Response:
            headers = call_headers("called", **options)
            return await client.post(
                server.prefix + path_of(headers), headers=headers, content=invocation("called")
            )

        assert (await post()).status_code == 200
        assert "signature" in detail(await post(key=OTHER_KEY), 401)
        assert (await client.get("/nowhere")).status_code == 404
        if section == "Beside Django":
            assert (await client.get("/page")).text == "a page of Django"


async def test_the_largest_headers_are_taken_in_pieces(servers: dict[str, MountedServer]) -> None:
    server = servers["Alone"]
    body = invocation("called")
    headers = call_headers("called", claims="c" * 5000, query="?" + "q" * 12_000) | {
        "Host": "localhost",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"POST {path_of(headers)} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, "", ""]).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    answer = asyncio.create_task(reader.readline())

    writer.write(head[:-200])
    # Who takes less refuses what is there, before the head is complete.
    assert not (await asyncio.wait([answer], timeout=0.3))[0]
    writer.write(head[-200:] + body)

    async with asyncio.timeout(PATIENCE):
        assert (await answer).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()
