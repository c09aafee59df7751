"""Two instances behind nginx, replaced one after the other, while callers with pooled connections are at full load."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from tests.end_to_end.nginx import Nginx
from tests.end_to_end.processes import free_port
from tests.loads import kinds, vitals
from tests.loads.callers import Callers
from tests.loads.servers import Place, Run, place

KINDS = [kinds.echo(44), kinds.waiting(8), kinds.blocking(8), kinds.failing(4, every=0.1)]
PAUSE = 2.0
"""Seconds between the start of one instance and the end of the other."""


class Instance:
    """One of the two: what runs on its port is replaced again and again."""

    def __init__(self, here: Place, options: tuple[str, ...]) -> None:
        self.port = free_port()
        self._here = here
        self._options = options
        self._run = self._start()

    def _start(self) -> Run:
        return self._here.app(self.port, *self._options).__enter__()

    def replace(self) -> float:
        """SIGTERM, and a new one when the old one is gone; seconds until the new one answers."""
        begun = time.perf_counter()
        status = self._run.end()
        if status != 0:
            raise SystemExit(f"an instance ended with status {status}")
        self.close()
        self._run = self._start()
        return time.perf_counter() - begun

    def close(self) -> None:
        self._run.__exit__(None, None, None)


@contextmanager
def both(here: Place, options: tuple[str, ...]) -> Iterator[list[Instance]]:
    instances: list[Instance] = []
    try:
        for _ in range(2):
            instances.append(Instance(here, options))
        yield instances
    finally:
        for instance in instances:
            instance.close()


async def roll(callers: Callers, instances: list[Instance], seconds: float, pause: float) -> list[float]:
    """Load for so long, and the replacements meanwhile: how long each took."""
    took: list[float] = []
    load = asyncio.create_task(callers.run(seconds))
    while not load.done():
        await asyncio.sleep(pause)
        if not load.done():
            took.append(await asyncio.to_thread(instances[len(took) % 2].replace))
    await load
    return took


def drill(
    seconds: float,
    *,
    traced: bool,
    pace: float,
    options: tuple[str, ...] = (),
    pause: float = PAUSE,
) -> list[str]:
    """Run for so many seconds; what was wrong."""
    with (
        place(every=0.5, traced=traced) as here,
        both(here, ("--slow-after", "60", *options)) as instances,
        Nginx([instance.port for instance in instances], folder=here.folder, location="/") as nginx,
    ):
        callers = Callers(nginx.port, KINDS, pace=pace)
        took = uvloop.run(roll(callers, instances, seconds, pause))
        callers.tallies.show()
        print(
            f"\n{len(took)} replacements, the longest {max(took):.1f} s; {callers.opened} connections of callers"
        )
        complaints = vitals.judge(here.folder)
        complaints += [*callers.tallies.complaints(), *callers.tallies.complaints_of_losses()]
        if callers.refused:
            complaints.append(f"{callers.refused} connections were refused")
        # An instance that is being replaced refuses connections, and nginx takes the other one.
        odd = [line for line in nginx.read_log().splitlines() if "(111: Connection refused)" not in line]
        if odd:
            complaints.append(f"nginx has logged {len(odd)} other lines, the first: {odd[0]}")
        return [*complaints, *here.complaints()]
