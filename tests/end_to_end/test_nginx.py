"""The app behind nginx, set up as docs/deploy.md shows, with the largest headers that the service sends."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from signalr_upstream import Identity, ServiceClient
from signalr_upstream.claims import MAX_TOKEN_LENGTH, ClientAccess
from signalr_upstream.local import LocalService

from ..support import KEY, call_headers, invocation
from .conftest import Connect
from .nginx import Nginx
from .people import Door, Person
from .processes import HERE, Server, free_port

pytestmark = pytest.mark.anyio

SERVICE_PORT = free_port()

# What nginx makes of a path, as an event: it decodes %XX, merges slashes and encodes again.
EVENTS = ["plain", "a/b", "a//b", "with space", "100%", "a%2Fb", "naïve ☂", "a?b#c", "semi;colon", "\\"]


@pytest.fixture(scope="module", params=["raw", "normalising"])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx with the app of docs/mounting.md behind it, under a GZipMiddleware."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    normalising = request.param == "normalising"
    where: list[str | Path] = [
        "--app-dir",
        HERE / "mounting",
        "--port",
        str(port),
        "--forwarded-allow-ips",
        "127.0.0.1",
    ]
    environment = {
        "AzureSignalRConnectionString": f"Endpoint=http://localhost;Port={SERVICE_PORT};AccessKey={KEY};Version=1.0;",
        "PREFIX": "" if normalising else "/signalr",
    }
    with ExitStack() as stack:
        server = Server(
            "run",
            "proxied:app",
            *where,
            url=f"http://127.0.0.1:{port}",
            log=folder / "server.log",
            environment=environment,
        )
        stack.enter_context(server)
        yield stack.enter_context(Nginx([port], path="/" if normalising else "", folder=folder))


async def test_every_call_gets_through_whatever_its_event_is_called(front: Nginx, connect: Connect) -> None:
    async with LocalService(
        upstream=front.url + "/signalr/{hub}/{category}/{event}", port=SERVICE_PORT, keys=[KEY]
    ) as service:
        for library in ("node-json", "node-messagepack"):
            person = Person(await asyncio.to_thread(connect, library, f"{front.url}/signalr/chat", "told"))

            for event in EVENTS:
                assert await person.invoke(event, "x") == [event, "x"]
            assert await person.invoke("nothing") is None
            assert await person.invoke("long", 5000) == "x" * 5000
            assert (await person.invoke("asked")).startswith(f"{front.url}/")
            person.client.send("tell", "hello")
            assert await person.receive() == ["told", "hello"]

        await service.settled()
        assert {call.status for call in service.upstream_calls} == {200, 204}


@pytest.mark.parametrize("library", ["node-json", "node-messagepack"])
async def test_the_largest_headers_get_through(library: str, front: Nginx, connect: Connect) -> None:
    # By long polling: the WebSockets of the local service take URLs of 8 KiB.
    async with (
        LocalService(
            upstream=front.url + "/signalr/{hub}/{category}/{event}", port=SERVICE_PORT, keys=[KEY]
        ) as service,
        ServiceClient(service.connection_string) as sender,
        Door(connect) as door,
    ):
        hub, size = sender.hub("chat"), 900
        access = await hub.client_access(Identity("ann", claims={"notes": "n" * size}))
        # A character of a claim takes 28/9 of the token: it is in there twice, the second time in Base64 twice over.
        size += (MAX_TOKEN_LENGTH - len(access.access_token)) * 9 // 28
        access = await hub.client_access(Identity("ann", claims={"notes": "n" * size}))
        assert len(access.access_token) > MAX_TOKEN_LENGTH - 16
        padding = "q" * 12_000

        person = await door.let_in(
            ClientAccess(f"{access.url}&padding={padding}", access.access_token),
            library=library,
            transport="LongPolling",
        )

        assert await person.invoke("sizes") == [size, len(padding)]


async def test_answers_that_are_compressed_on_the_way_are_whole(front: Nginx) -> None:
    async with httpx.AsyncClient(base_url=front.url, trust_env=False) as client:

        async def call(event: str, *arguments: object, invocation_id: str | None) -> httpx.Response:
            headers = call_headers(event) | {"Accept-Encoding": "gzip"}
            body = invocation(event, *arguments, invocation_id=invocation_id)
            return await client.post(f"/signalr/chat/messages/{event}", headers=headers, content=body)

        for arguments, result in (((5000,), b'"' + b"x" * 5000 + b'"'), ((0,), b'""')):
            answer = await call("long", *arguments, invocation_id="1")
            assert answer.headers["content-encoding"] == "gzip"
            assert answer.content == b'{"type":3,"invocationId":"1","result":' + result + b"}\x1e"
        answer = await call("nothing", invocation_id="1")
        assert answer.content == b'{"type":3,"invocationId":"1","result":null}\x1e'
        nothing = await call("nothing", invocation_id=None)
        assert (nothing.status_code, nothing.content) == (204, b"")
        assert "transfer-encoding" not in nothing.headers
