"""One of two workers is killed in mid-load, again and again: the other one goes on, and a new one takes its place."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

import uvloop

from tests.end_to_end.processes import free_port
from tests.loads import kinds, vitals
from tests.loads.callers import Callers
from tests.loads.servers import place

KINDS = [kinds.echo(48), kinds.waiting(8), kinds.blocking(8)]
EVERY = 30.0
"""Seconds from kill to kill."""
LIFETIME = 5.0
"""Seconds that a connection is kept, so that a new worker gets its share."""
LONGEST_RECOVERY = 5.0
"""Seconds until there are two workers again."""
AT_ONCE = 1.0
"""Seconds in which all calls of the killed worker have failed."""


class Kill(NamedTuple):
    """One kill: when (Unix seconds), whom, and when the next worker began to serve."""

    at: float
    pid: int
    recovered: float


def living(folder: Path) -> list[int]:
    """The workers that serve, oldest first."""
    return [pid for pid in vitals.recorded(folder) if Path(f"/proc/{pid}").exists()]


async def kill_one(folder: Path) -> Kill:
    """Kill a worker, and wait for the one that takes its place."""
    before = await asyncio.to_thread(living, folder)
    pid, at = random.choice(before), time.time()
    os.kill(pid, signal.SIGKILL)
    while not (new := set(await asyncio.to_thread(living, folder)) - set(before)):
        if time.time() > at + 60:
            raise SystemExit("a worker that was killed is not replaced")
        await asyncio.sleep(0.02)
    return Kill(at, pid, vitals.recorded(folder)[new.pop()][0].at)


async def run(callers: Callers, folder: Path, seconds: float, every: float) -> list[Kill]:
    """Load for so long, with a kill every so many seconds."""
    kills: list[Kill] = []
    load = asyncio.create_task(callers.run(seconds))
    for _ in range(int(seconds / every)):
        await asyncio.sleep(every / 2)
        kills.append(await kill_one(folder))
        await asyncio.sleep(max(0.0, every / 2 - (time.time() - kills[-1].at)))
    await load
    return kills


def judge(callers: Callers, kills: list[Kill], allowance: float) -> list[str]:
    """Print what each kill has cost; what was wrong."""
    complaints = []
    connections = sum(kind.connections for kind in KINDS)
    print("\n   killed  calls lost  the last after  two workers again after  answers of the killed one")
    unexplained = list(callers.tallies.lost)
    for kill in kills:
        lost = [loss for loss in unexplained if loss[1] == kill.pid and loss[0] >= kill.at]
        unexplained = [loss for loss in unexplained if loss not in lost]
        last = max((at - kill.at for at, _, _ in lost), default=0.0)
        recovery = kill.recovered - kill.at
        answers = callers.by_worker[kill.pid]
        print(f"{kill.pid:>9}{len(lost):>12}{last * 1000:>13.0f} ms{recovery:>22.1f} s{answers:>27,}")
        if len(lost) > connections or last > AT_ONCE + allowance or recovery > LONGEST_RECOVERY + allowance:
            complaints.append(f"the kill of {kill.pid} cost too much")
        if not answers:
            complaints.append(f"{kill.pid} never served anybody")
    if unexplained:
        complaints.append(f"{len(unexplained)} calls lost that no killed worker had: {unexplained[:5]}")
    return complaints


def drill(
    seconds: float, *, traced: bool, pace: float, every: float = EVERY, allowance: float = 0.0
) -> list[str]:
    """Run for so many seconds; what was wrong."""
    port = free_port()
    every = min(every, seconds)
    with (
        place(every=min(1.0, seconds / 20), traced=traced) as here,
        here.app(port, "--workers", "2", "--slow-after", "60"),
    ):
        callers = Callers(port, KINDS, lifetime=min(LIFETIME, every / 4), pace=pace, asks_worker=True)
        kills = uvloop.run(run(callers, here.folder, seconds, every))
        callers.tallies.show()
        complaints = judge(callers, kills, allowance)
        grown = vitals.judge(here.folder)
        # That of a caller that was asking a killed worker who it was.
        if callers.refused > len(kills) * sum(kind.connections for kind in KINDS):
            complaints.append(f"{callers.refused} connections were refused")
        return [*complaints, *grown, *callers.tallies.complaints(), *here.complaints("was ended by signal 9")]
