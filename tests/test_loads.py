"""The drills of ``tests.loads`` at a small scale, so that they work when they are needed, and what they judge by."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from .loads import full_load, kinds, reconnect_storm, rest_down, rolling, worker_killed
from .loads.callers import Callers
from .loads.servers import Place
from .loads.vitals import FEWEST, Sample, growth

ALLOWANCE = 30.0
"""Seconds: here it is not a quick machine that is to be shown."""


def test_full_load() -> None:
    assert full_load.drill(2.0, traced=False, pace=0.02, allowance=ALLOWANCE) == []


def test_rolling() -> None:
    assert rolling.drill(3.0, traced=False, pace=0.02, options=("--drain-delay", "0.1"), pause=0.2) == []


def test_worker_killed() -> None:
    assert worker_killed.drill(3.0, traced=False, pace=0.02, every=3.0, allowance=ALLOWANCE) == []


def test_rest_down() -> None:
    assert rest_down.drill(2.5, traced=False, pace=0.02, allowance=ALLOWANCE) == []


def test_reconnect_storm() -> None:
    assert reconnect_storm.drill(0.0, traced=False, pace=0.0, count=50, storm=0.5) == []


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """A server that answers every connection's requests with these, and then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(4096)
            writer.write(answer)
        await reader.read(4096)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.anyio
async def test_callers_notice_wrong_answers_and_lost_ones() -> None:
    body = b'{"type":3,"invocationId":"000000001","result":"000000001"}\x1e'
    right = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with answering(right, right, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as port:
        callers = Callers(port, [kinds.echo(1, every=0.01)])
        await callers.run(0.5)

    good = callers.tallies["good"]
    assert good.said[kinds.echo(1).said[0]] == 1  # the second answer is that to the first call
    assert good.answers[503] > 0
    assert good.wrong == good.count - 1
    assert good.lost
    assert len(callers.tallies.complaints()) == 2
    assert "closed by the server" in callers.tallies.complaints_of_losses()[0]


def test_growth_is_noticed() -> None:
    flat = [Sample(at=at, objects=10_000, tasks=10, traced=5_000_000, rss=1) for at in range(3 * FEWEST)]
    leaking = [sample._replace(objects=10_000 + 200 * int(sample.at)) for sample in flat]

    assert growth(flat, "objects") is None
    assert growth(leaking, "objects") == "objects grew from 10,800 to 14,400"
    assert growth(leaking, "tasks") is None


def test_errors_in_the_log_are_noticed(tmp_path: Path) -> None:
    lines = [
        '{"level": "info", "message": "fine"}',
        '{"level": "error", "message": "worker 1 was ended by signal 9 (Killed): replacing it"}',
        '{"level": "error", "message": "Task was destroyed but it is pending!"}',
        "Fatal Python error",
    ]
    (tmp_path / "app.log").write_text("\n".join(lines))

    assert Place(tmp_path, every=1.0).complaints("by signal 9") == [
        "logged 1 times: Task was destroyed but it is pending!",
        "logged 1 times: Fatal Python error",
    ]
