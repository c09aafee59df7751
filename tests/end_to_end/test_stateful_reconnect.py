"""The official JavaScript client with stateful reconnect, over a network that breaks again and again."""

import asyncio
import json
import random
from types import TracebackType
from typing import Any, Self

import pytest

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.auth import encode_token
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.local import LocalService
from signalr_upstream.local.clients import resumption
from signalr_upstream.local.rest.outgoing import Outgoing

from .clients import DRIVERS
from .processes import HERE, PATIENCE

pytestmark = pytest.mark.anyio

COUNT = 300
CUTS = 20


class BreakingNetwork:
    """A TCP proxy that cuts a connection when so many bytes have passed, be it in the middle of a message.

    Args:
        port: where the service listens.
        seed: of the random numbers that say when.
    """

    def __init__(self, port: int, seed: int) -> None:
        self._target = port
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._connections += 1
        # The client tries to come back once: the opening of a socket is let through.
        ways = [(reader, far_writer, 4_000), (far_reader, writer, 20_000)]
        pumps = [
            asyncio.create_task(self._pump(source, sink, self._random.randint(1_500, limit)))
            for source, sink, limit in ways
        ]
        self._tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for end in (writer, far_writer):
            end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, budget: int) -> None:
        while data := await source.read(65536):
            if self.cuts < CUTS and len(data) >= budget:
                self.cuts += 1
                sink.write(data[:budget])
                return
            budget -= len(data)
            sink.write(data)
            await sink.drain()


def make_app() -> tuple[UpstreamApp, list[Any], asyncio.Event]:
    told: list[Any] = []
    greeted = asyncio.Event()
    hub = Hub("chat")

    @hub.on("connected")
    async def connected(ctx: Context) -> None:
        told.append("connected")
        await ctx.clients.caller.send("news", 0)  # it may come in one piece with the answer to the handshake
        greeted.set()

    @hub.on("disconnected")
    async def disconnected(ctx: Context) -> None:
        told.append("disconnected")

    @hub.on("echo")
    async def echo(ctx: Context, number: int) -> int:
        told.append(number)
        return number

    return UpstreamApp(hub), told, greeted


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_nothing_is_lost_or_repeated_when_the_network_breaks(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumption, "FIRST_WORDS", PATIENCE)  # however slow the machine is
    app, told, greeted = make_app()
    async with LocalService(app, port=0) as service, BreakingNetwork(service.port, seed=7) as network:
        endpoint = parse_connection_string(service.connection_string)
        claims = {"asrs.s.uid": "ann", "exp": 4102444800, "aud": f"{endpoint.audience}/client/?hub=chat"}
        client = await asyncio.create_subprocess_exec(
            "node",
            DRIVERS / "stateful_client.mjs",
            f"http://localhost:{network.port}/client/?hub=chat",
            encode_token(claims, endpoint.keys[0]),
            protocol,
            str(COUNT),
            cwd=HERE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert client.stdout is not None
        try:
            async with asyncio.timeout(3 * PATIENCE):
                assert await client.stdout.readline() == b"open\n"
                await greeted.wait()
                [connection] = service.hub("chat").everybody()
                for number in range(1, COUNT):
                    text = "x" * (number * 37 % 1_000)
                    connection.send(Outgoing.json("news", json.dumps([number, text]).encode()))
                    await asyncio.sleep(0.001)  # so that it is cut among the others
                seen = json.loads(await client.stdout.readline())
                await client.wait()
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
        await connection.gone.wait()
        await connection.finished()

    numbers = list(range(COUNT))
    assert seen == {"received": numbers, "answers": numbers, "closed": None}
    assert told == ["connected", *numbers, "disconnected"]
    assert network.cuts >= CUTS // 4, "how often depends on how much has to be sent again"
