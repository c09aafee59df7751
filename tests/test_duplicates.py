"""Calls that are delivered twice: one run of the handler, one answer for both; in memory and in Redis alike."""

import asyncio
import logging
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from signalr_upstream import Context, Hub, HubError, UpstreamApp
from signalr_upstream.duplicates import ENTRY_SIZE, Duplicates, Once, duplicate_key
from signalr_upstream.errors import Redeliver
from signalr_upstream.redis_duplicates import PAUSE, RedisClient, RedisDuplicates
from signalr_upstream.reply import NO_CONTENT, Reply, completion

from .support import (
    CONNECTION_STRING,
    MESSAGEPACK,
    OTHER_CONNECTION_STRING,
    OTHER_KEY,
    call_headers,
    invocation,
    msgpack_invocation,
    post,
    send,
)

pytestmark = pytest.mark.anyio

PATIENCE = 20.0


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    server = shutil.which("redis-server")
    assert server, "the tests need Debian's redis-server: sudo apt-get install redis-server"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    arguments = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(tmp_path_factory.mktemp("redis")),
    ]
    with subprocess.Popen([server, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("Ready to accept connections" in line for line in process.stdout)
        yield port
        process.terminate()
        process.stdout.read()


@pytest.fixture
async def redis(redis_port: int) -> AsyncIterator[Redis]:
    async with Redis(host="127.0.0.1", port=redis_port, socket_timeout=5) as redis:
        await redis.flushall()
        yield redis


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


Make = Callable[..., Once]


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes what remembers answers, of either kind. With Redis all that one test makes share what they know."""
    if request.param == "memory":
        return Duplicates
    redis = request.getfixturevalue("redis")
    return lambda **options: RedisDuplicates(redis, **options)


class Counted:
    """An app whose handlers count, and wait to be released where the client says so."""

    def __init__(self, duplicates: Once | None, **options: Any) -> None:
        self.runs = 0
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.after = 0
        hub = Hub("chat")
        hub.on("count")(self.count)
        hub.on("wait")(self.wait)
        hub.on("again")(self.again)
        hub.on("refuse")(self.refuse)
        hub.on("leave")(self.leave)
        hub.on("connected")(self.event)
        hub.on("disconnected")(self.event)
        self.app = UpstreamApp(
            hub, **{"connection_string": CONNECTION_STRING, "duplicates": duplicates, **options}
        )

    async def count(self, ctx: Context) -> int:
        self.runs += 1
        return self.runs

    async def wait(self, ctx: Context) -> int:
        self.runs += 1
        self.begun.set()
        await self.release.wait()
        return self.runs

    async def again(self, ctx: Context) -> int:
        self.runs += 1
        if self.runs == 1:
            raise Redeliver
        return self.runs

    async def refuse(self, ctx: Context) -> None:
        self.runs += 1
        raise HubError(f"no, {self.runs}")

    async def leave(self, ctx: Context) -> None:
        ctx.after(self.behind)

    async def behind(self) -> None:
        self.after += 1

    async def event(self, ctx: Context) -> None:
        self.runs += 1


async def call(app: UpstreamApp, target: str, *, id: str = "1", **options: Any) -> httpx.Response:
    return await post(app, call_headers(target, **options), invocation(target, invocation_id=id))


# --- what is a duplicate ---


async def test_a_duplicate_gets_the_first_answer_byte_for_byte(make: Make) -> None:
    counted = Counted(make())

    first = await call(counted.app, "count")
    second = await call(counted.app, "count")

    assert counted.runs == 1
    assert first.content == b'{"type":3,"invocationId":"1","result":1}\x1e'
    assert (second.status_code, second.headers, second.content) == (200, first.headers, first.content)


async def test_without_the_option_a_duplicate_runs() -> None:
    counted = Counted(None)

    await call(counted.app, "count")
    await call(counted.app, "count")

    assert counted.runs == 2


async def test_messagepack_answers_are_kept_as_they_are(make: Make) -> None:
    counted = Counted(make())
    headers = call_headers("count", content_type=MESSAGEPACK)

    answers = [await post(counted.app, headers, msgpack_invocation("count")) for _ in range(2)]

    assert counted.runs == 1
    assert answers[0].content == answers[1].content
    assert answers[1].headers["content-type"] == MESSAGEPACK


async def test_another_id_connection_hub_or_endpoint_is_another_call(make: Make) -> None:
    counted = Counted(make(), connection_string=[CONNECTION_STRING, OTHER_CONNECTION_STRING])

    await call(counted.app, "count")
    await call(counted.app, "count", id="2")
    await call(counted.app, "count", connection_id="c2")
    await call(counted.app, "count", key=OTHER_KEY)

    assert counted.runs == 4
    keys = {
        duplicate_key(url, hub, connection, invocation_id=id, event=event)
        for url in ("a", "b")
        for hub in ("h", "i")
        for connection in ("c", "d")
        for id, event in (("1", "x"), ("2", "x"), (None, "connected"), (None, "disconnected"))
    }
    assert len(keys) == 32


async def test_a_call_without_an_id_is_never_dropped(make: Make) -> None:
    counted = Counted(make())

    for _ in range(3):
        assert (await send(counted.app, "count")).status_code == 204

    assert counted.runs == 3


async def test_a_connection_connects_and_disconnects_once(make: Make) -> None:
    counted = Counted(make())
    headers = {event: call_headers(event) for event in ("connected", "disconnected")}
    bodies = {"connected": b'{"type":10}', "disconnected": b'{"type":11}'}

    answers = [await post(counted.app, headers[event], bodies[event]) for event in bodies for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204] * 4
    assert counted.runs == 2


async def test_a_refusal_is_an_answer_too(make: Make) -> None:
    counted = Counted(make())

    answers = [await call(counted.app, "refuse") for _ in range(2)]

    assert answers[0].content == answers[1].content
    assert b"no, 1" in answers[1].content


async def test_work_behind_the_answer_is_done_once(make: Make) -> None:
    counted = Counted(make())

    for _ in range(2):
        await call(counted.app, "leave")
    await counted.app.drain()

    assert counted.after == 1


async def test_a_handler_that_asks_for_the_call_again_gets_it(make: Make) -> None:
    counted = Counted(make())

    statuses = [(await call(counted.app, "again")).status_code for _ in range(3)]

    assert statuses == [503, 200, 200]
    assert counted.runs == 2


async def test_a_body_that_is_none_leaves_nothing_behind(make: Make) -> None:
    counted = Counted(make())
    headers = call_headers("connected")

    statuses = [(await post(counted.app, headers, body)).status_code for body in (b"x", b'{"type":10}')]

    assert statuses == [400, 204]
    assert counted.runs == 1


# --- at the same time ---


async def test_a_duplicate_waits_for_the_first(make: Make) -> None:
    duplicates = make()
    counted = Counted(duplicates)
    first = asyncio.create_task(call(counted.app, "wait"))
    await counted.begun.wait()
    others = [asyncio.create_task(call(counted.app, "wait")) for _ in range(3)]
    done, _ = await asyncio.wait(others, timeout=0.1)
    assert not done

    counted.release.set()

    answers = [answer.content for answer in await asyncio.gather(first, *others)]
    assert answers == [b'{"type":3,"invocationId":"1","result":1}\x1e'] * 4
    assert counted.runs == 1


async def test_the_first_is_cancelled_and_one_that_waits_takes_over(make: Make) -> None:
    counted = Counted(make())
    first = asyncio.create_task(call(counted.app, "wait"))
    await counted.begun.wait()
    others = [asyncio.create_task(call(counted.app, "wait")) for _ in range(2)]
    await asyncio.wait(others, timeout=0.1)
    counted.begun.clear()

    first.cancel()
    await asyncio.wait([first])
    await asyncio.wait_for(counted.begun.wait(), PATIENCE)
    counted.release.set()

    answers = [answer.content for answer in await asyncio.gather(*others)]
    assert answers == [b'{"type":3,"invocationId":"1","result":2}\x1e'] * 2
    assert counted.runs == 2


# --- limits ---


def answering(body: bytes) -> Callable[[], Awaitable[tuple[Reply, bool]]]:
    async def work() -> tuple[Reply, bool]:
        return completion(body, binary=False), True

    return work


async def ran(once: Once, key: bytes) -> bool:
    """Whether work for this key is done, or was known; it does not count."""
    done = False

    async def work() -> tuple[Reply, bool]:
        nonlocal done
        done = True
        return NO_CONTENT, False

    await once.answer(key, work)
    return done


async def test_over_the_number_of_entries_the_oldest_go(make: Make) -> None:
    clock = Clock()
    once = make(max_entries=2, clock=clock)

    for key in (b"a", b"b", b"c"):
        await once.answer(key, answering(b"x"))
        clock.now += 1

    assert [await ran(once, key) for key in (b"a", b"b", b"c")] == [True, False, False]


async def test_over_the_bytes_the_oldest_go_but_never_the_newest(make: Make) -> None:
    clock = Clock()
    once = make(max_bytes=2 * ENTRY_SIZE + 100, clock=clock)
    for key, size in ((b"a", 40), (b"b", 40), (b"c", 40)):
        await once.answer(key, answering(b"x" * size))
        clock.now += 1
    assert [await ran(once, key) for key in (b"a", b"b", b"c")] == [True, False, False]

    await once.answer(b"large", answering(b"x" * 5000))

    assert [await ran(once, key) for key in (b"b", b"c", b"large")] == [True, True, False]


async def test_what_is_forgotten_counts_for_nothing_any_more(make: Make) -> None:
    clock = Clock()
    once = make(max_bytes=2 * ENTRY_SIZE + 100, keep=60, clock=clock)
    await once.answer(b"a", answering(b"x" * 40))
    clock.now += 59
    await once.answer(b"b", answering(b"x" * 40))
    clock.now += 1

    await once.answer(b"c", answering(b"x" * 40))

    assert [await ran(once, key) for key in (b"a", b"b", b"c")] == [True, False, False]


async def test_an_answer_is_kept_for_as_long_as_said() -> None:
    clock = Clock()
    once = Duplicates(clock=clock)
    await once.answer(b"a", answering(b"x"))

    clock.now += 59.9
    assert not await ran(once, b"a")
    clock.now += 0.1
    assert await ran(once, b"a")
    assert repr(once) == "<Duplicates with 0 answers>"


# --- Redis ---


async def test_redis_keeps_an_answer_for_as_long_as_said_and_nothing_for_ever(redis: Redis) -> None:
    once = RedisDuplicates(redis, prefix="{mine}")

    await once.answer(b"a", answering(b"x"))

    names = [str(name, "ascii") for name in await redis.keys("*") if isinstance(name, bytes)]
    assert sorted(names) == ["{mine}:61", "{mine}:ends", "{mine}:sizes"]
    assert 59_000 < await redis.pttl("{mine}:61") <= 60_000
    assert all([0 < await redis.pttl(name) <= 120_000 for name in names])
    assert repr(once) == "<RedisDuplicates '{mine}'>"


async def test_workers_with_one_redis_run_a_call_once(redis: Redis, redis_port: int) -> None:
    async with Redis(host="127.0.0.1", port=redis_port, decode_responses=True) as other_redis:
        one, other = Counted(RedisDuplicates(redis)), Counted(RedisDuplicates(other_redis))
        first = asyncio.create_task(call(one.app, "wait"))
        await one.begun.wait()
        second = asyncio.create_task(call(other.app, "wait"))
        one.release.set()

        assert (await first).content == (await second).content
        assert (one.runs, other.runs) == (1, 0)


async def test_a_handler_that_takes_longer_than_the_lease_keeps_it(redis: Redis) -> None:
    once = RedisDuplicates(redis, lease=1.0)

    async def work() -> tuple[Reply, bool]:
        for _ in range(4):  # a third of the lease each: without renewal its key would be gone
            left = await redis.pttl("{signalr-upstream}:61")
            while (now_left := await redis.pttl("{signalr-upstream}:61")) <= left:
                assert now_left > 0
                left = now_left
                await asyncio.sleep(0.02)
        return completion(b"x", binary=False), True

    assert (await once.answer(b"a", work))[2] == b"x"
    assert not await ran(once, b"a")


async def test_a_worker_that_died_is_taken_over_from(redis: Redis) -> None:
    # What a killed worker leaves: its lease, which nobody renews.
    await redis.set("{signalr-upstream}:61", b"r" + b"x" * 12, px=150)

    assert await ran(RedisDuplicates(redis), b"a")


async def test_an_answer_of_a_worker_that_has_lost_its_lease_changes_nothing(redis: Redis) -> None:
    once = RedisDuplicates(redis)

    async def work() -> tuple[Reply, bool]:
        await redis.set("{signalr-upstream}:61", b"rsomebody else")
        return completion(b"late", binary=False), True

    assert (await once.answer(b"a", work))[2] == b"late"
    assert await redis.get("{signalr-upstream}:61") == b"rsomebody else"


class Forgetful:
    """A Redis in which a lease ends between two commands."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._refused = False

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "SET" and not self._refused:
            self._refused = True
            return None
        return await self._redis.execute_command(*args, **options)


async def test_a_lease_that_ends_between_two_looks_is_taken(redis: Redis) -> None:
    assert await ran(RedisDuplicates(Forgetful(redis)), b"a")


class Failing:
    """A Redis that fails at the commands named."""

    def __init__(self, redis: RedisClient, *commands: str) -> None:
        self._redis = redis
        self._commands = commands
        self.failed: asyncio.Event = asyncio.Event()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] in self._commands:
            self.failed.set()
            raise ConnectionError("Redis is gone")
        return await self._redis.execute_command(*args, **options)


@pytest.mark.parametrize("commands", [["SET"], ["EVAL"]])
async def test_without_redis_calls_are_served_and_it_is_said_once_a_minute(
    commands: list[str], redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    counted = Counted(RedisDuplicates(Failing(redis, *commands), clock=clock))

    for id in ("1", "2", "3"):
        assert (await call(counted.app, "count", id=id)).status_code == 200
    assert counted.runs == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Redis fails (ConnectionError)" in caplog.text

    clock.now += 60
    await call(counted.app, "count", id="4")
    assert len(caplog.records) == 2


async def test_a_lease_that_cannot_be_renewed_is_no_reason_to_stop(redis: Redis) -> None:
    failing = Failing(redis, "EVAL")
    once = RedisDuplicates(failing, lease=0.05)

    async def work() -> tuple[Reply, bool]:
        await asyncio.wait_for(failing.failed.wait(), PATIENCE)
        return completion(b"x", binary=False), True

    assert (await once.answer(b"a", work))[2] == b"x"


class Frozen:
    """A Redis that takes commands and answers none, until it thaws."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self.is_frozen = True
        self.asked = 0

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self.asked += 1
        if self.is_frozen:
            await asyncio.Event().wait()
        return await self._redis.execute_command(*args, **options)


async def test_a_redis_that_does_not_answer_is_waited_for_once_and_then_left_alone(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    frozen = Frozen(redis)
    once = RedisDuplicates(frozen, timeout=0.05, clock=clock)

    async with asyncio.timeout(PATIENCE):
        assert [await ran(once, key) for key in (b"a", b"b", b"b")] == [True, True, True]
    assert frozen.asked == 1
    assert "Redis fails (TimeoutError)" in caplog.text

    frozen.is_frozen = False
    clock.now += PAUSE
    await once.answer(b"c", answering(b"x"))
    assert not await ran(once, b"c")


async def test_a_redis_that_freezes_while_a_handler_runs_does_not_keep_its_answer_back(redis: Redis) -> None:
    frozen = Frozen(redis)
    frozen.is_frozen = False
    once = RedisDuplicates(frozen, timeout=0.05)

    async def work() -> tuple[Reply, bool]:
        frozen.is_frozen = True
        return completion(b"x", binary=False), True

    async with asyncio.timeout(PATIENCE):
        assert (await once.answer(b"a", work))[2] == b"x"


async def test_a_server_that_never_answers_holds_up_no_call() -> None:
    # As a stopped process or a network that swallows packets; and this client has no time-out of its own.
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server, Redis(host="127.0.0.1", port=server.sockets[0].getsockname()[1]) as silent:
        once = RedisDuplicates(silent, timeout=0.05)
        async with asyncio.timeout(PATIENCE):
            assert await ran(once, b"a")


# --- what Redis has let go by itself ---


async def bytes_counted_and_real(redis: Redis) -> tuple[int, int]:
    sizes = {name: int(size) for name, size in (await redis.hgetall("{signalr-upstream}:sizes")).items()}
    return sizes.pop(b"bytes"), sum(sizes.values())


async def test_the_bytes_of_an_answer_that_is_stored_again_count_once(redis: Redis) -> None:
    # Redis goes by its own clock, and ours stands still: the list of ends still has what is gone.
    once = RedisDuplicates(redis, clock=Clock())
    for size in (1000, 300, 20):
        await redis.delete("{signalr-upstream}:61")
        await once.answer(b"a", answering(b"x" * size))
    await once.answer(b"b", answering(b"x"))

    assert await bytes_counted_and_real(redis) == (2 * ENTRY_SIZE + 21, 2 * ENTRY_SIZE + 21)


@pytest.mark.parametrize("evicted", ["sizes", "ends"])
async def test_duplicates_are_known_after_redis_has_evicted_what_it_counts_with(
    evicted: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    once = RedisDuplicates(redis, max_bytes=3 * ENTRY_SIZE, clock=clock)
    for key in (b"a", b"b"):
        await once.answer(key, answering(b"x"))
    await redis.delete("{signalr-upstream}:" + evicted)

    clock.now += 60
    for key in (b"c", b"d"):
        await once.answer(key, answering(b"x"))

    assert [await ran(once, key) for key in (b"c", b"d")] == [False, False]
    assert await bytes_counted_and_real(redis) == (2 * ENTRY_SIZE + 2, 2 * ENTRY_SIZE + 2)
    assert not caplog.records
