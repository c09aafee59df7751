"""Both access keys are regenerated, one after the other, while clients call and the app sends: nobody notices."""

import asyncio
import math
import secrets
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from signalr_upstream import Identity, ServiceClient
from signalr_upstream.endpoints import ASK_AT_MOST_EVERY
from signalr_upstream.local import LocalService

from .conftest import Connect
from .people import Door, Person
from .processes import HERE, Server, free_port, wait_until

pytestmark = pytest.mark.anyio

LIBRARIES = ("node-json", "node-messagepack", "node-json", "node-messagepack")
IN_FLIGHT = 8
BETWEEN = 150
"""Calls that are answered between one step of the drill and the next."""


class Load:
    """Calls of one client, as many at a time as ``IN_FLIGHT``, until it is told to stop."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.answered = 0
        self.stopped = False

    async def run(self) -> None:
        while not self.stopped:
            numbers = range(self.answered, self.answered + IN_FLIGHT)
            calls = [self.person.client.start("relay", number) for number in numbers]
            for number, call in zip(numbers, calls, strict=True):
                assert await self.person.wait(call) == number  # a refused call is a CallError
                self.answered += 1


class Drill:
    """What the one who rotates keys does: regenerate at the service, deploy to the app, look whether calls go on."""

    def __init__(self, service: LocalService, mounted: Path, loads: list[Load], app_url: str) -> None:
        self._service = service
        self._mounted = mounted
        self._loads = loads
        self._app_url = app_url

    async def go_on(self) -> None:
        """Wait until more calls have been answered for each client."""
        wanted = [load.answered + BETWEEN for load in self._loads]
        await asyncio.to_thread(
            wait_until,
            lambda: all(load.answered >= n for load, n in zip(self._loads, wanted, strict=True)),
            "calls are answered",
        )

    async def deploy(self, *keys: str) -> None:
        """Change the mounted file, and wait until the app has read it."""
        self._mounted.write_text(strings(self._service, keys))
        before = await asyncio.to_thread(self._reads)
        # The next reading may have begun before the change; the one after that has not.
        await asyncio.to_thread(wait_until, lambda: self._reads() >= before + 2, "the app reads the file")

    def _reads(self) -> int:
        return int(httpx.get(f"{self._app_url}/reads", trust_env=False).text)


def strings(service: LocalService, keys: tuple[str, ...]) -> str:
    return "\n".join(f"Endpoint={service.url};AccessKey={key};Version=1.0;" for key in keys)


def fresh() -> str:
    return secrets.token_urlsafe(33)


async def test_no_call_is_refused_and_no_send_is_lost_or_doubled(connect: Connect, tmp_path: Path) -> None:
    port, mounted = free_port(), tmp_path / "connection_strings"
    primary, secondary = fresh(), fresh()
    app_url = f"http://localhost:{port}"
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            LocalService(upstream=app_url + "/{hub}/{category}/{event}", keys=[primary, secondary])
        )
        mounted.write_text(strings(service, (primary,)))
        run = ["run", "rotation_app:app", "--app-dir", str(HERE), "--port", str(port)]
        environment = {"MOUNTED_SECRET": str(mounted)}
        server = Server(*run, url=app_url, log=tmp_path / "app.log", environment=environment)
        await asyncio.to_thread(stack.enter_context, server)
        door = await stack.enter_async_context(Door(connect))
        sender = await stack.enter_async_context(ServiceClient(service.connection_string))
        loads = []
        for number, library in enumerate(LIBRARIES):
            access = await sender.hub("chat").client_access(Identity(f"user {number}"))
            person = await door.let_in(access, "told", library=library)
            await person.invoke("ready")
            loads.append(Load(person))
        drill = Drill(service, mounted, loads, app_url)

        async with asyncio.TaskGroup() as running:
            for load in loads:
                running.create_task(load.run())
            await drill.go_on()
            service.keys = (primary, secondary := fresh())
            await drill.go_on()
            await drill.deploy(secondary, primary)
            await drill.go_on()
            service.keys = (primary := fresh(), secondary)
            await drill.go_on()
            await drill.deploy(primary, secondary)
            await drill.go_on()
            for load in loads:
                load.stopped = True

        expected = Counter((f"user {n}", i) for n, load in enumerate(loads) for i in range(load.answered))
        for load in loads:
            heard = await load.person.receive_many(expected.total())
            assert Counter((user, number) for _, user, number in heard) == expected
        assert {call.status for call in service.rest_calls} <= {200, 202}
        print(
            f"\nrotation: {expected.total()} calls and sends, {expected.total() * len(loads)} messages heard"
        )


async def test_a_client_whose_key_was_regenerated_finds_the_new_one_and_no_send_is_lost_or_doubled(
    connect: Connect, tmp_path: Path
) -> None:
    """Nothing was deployed before: the file changes at the moment in which the old key ends."""
    mounted = tmp_path / "connection_string"
    async with LocalService() as service, Door(connect) as door:
        mounted.write_text(service.connection_string)
        async with ServiceClient(mounted.read_text) as sender:
            hub = sender.hub("chat")
            person = await door.let_in(await hub.client_access(Identity("ann")), "told")
            sent, enough = 0, math.inf

            async def send() -> None:
                nonlocal sent
                while sent < enough:
                    number, sent = sent, sent + 1
                    await hub.clients.all.send("told", number)

            async with asyncio.TaskGroup() as running:
                for _ in range(16):
                    running.create_task(send())
                # The file was read at the start, and is at most once a second.
                await asyncio.sleep(ASK_AT_MOST_EVERY)
                service.keys = (fresh(),)
                mounted.write_text(service.connection_string)
                enough = sent + 500

            heard = await person.receive_many(sent)
            await hub.clients.all.send("told", "end")
            assert Counter(number for _, number in heard) == Counter(range(sent))
            assert await person.receive() == ["told", "end"]
            refused = [call.status for call in service.rest_calls].count(401)
            assert 1 <= refused <= 16  # those under way, once each
            print(f"\nrotation: {sent} sends through a key that ended on the way")
