"""The service's REST API is gone for a minute, comes back, falls silent for a minute, and answers again.

Calls that send nothing are not to be slower meanwhile. Sends fail with the errors that are theirs, in bounded time, and
those that begin after the return succeed.
"""

import asyncio
import signal
from typing import NamedTuple

import uvloop

from tests.end_to_end.processes import free_port
from tests.loads import kinds, vitals
from tests.loads.accepting import Accepting
from tests.loads.callers import Callers
from tests.loads.servers import place

OUTAGE = 60.0
"""Seconds, in a run of ten minutes; a fifth of a shorter one."""
SENDING = kinds.relaying(24, "sent", "ConnectError", "DeliveryUnknown")
UP, GONE, SILENT = "up", "gone", "silent"
LONGEST = {
    UP: 2.0,
    # Four attempts, with pauses of 0.2, 0.4 and 0.8 s and jitter of up to 0.2 s each; 2 s more for a busy machine.
    GONE: 4.0,
    # 10 s an attempt. A request that was written is not repeated; one that found no connection is, up to 30 s in all.
    SILENT: 32.0,
}
"""Seconds that a send may take, however it ends."""
SHORT = 15.0
"""Seconds: sends may outlast a shorter outage."""
SLOWER = 2.0
MARGIN = 0.02
"""The p99 of calls that send nothing may be so many times what it was before the outage, and so many seconds more."""


class Phase(NamedTuple):
    """One state of the REST API and how long it lasts, in seconds."""

    name: str
    state: str
    seconds: float


def phases(seconds: float) -> list[Phase]:
    outage = min(OUTAGE, seconds / 5)
    rest = (seconds - 2 * outage) / 3
    return [
        Phase("before", UP, rest),
        Phase("gone", GONE, outage),
        Phase("back", UP, rest),
        Phase("silent", SILENT, outage),
        Phase("back again", UP, rest),
    ]


class Outages:
    """Load, while the REST API goes through its phases."""

    def __init__(self, port: int, service: Accepting, plan: list[Phase], pace: float) -> None:
        self._service = service
        self._plan = plan
        self._phase = plan[0]
        quiet = [kinds.echo(8, every=0.04), kinds.waiting(4)]
        self.callers = Callers(port, [*quiet, SENDING], pace=pace, phase=lambda: self._phase.name)

    async def run(self) -> None:
        load = asyncio.create_task(self.callers.run(sum(phase.seconds for phase in self._plan)))
        for phase in self._plan:
            await self._enter(phase)
            await asyncio.sleep(phase.seconds)
        await load

    async def _enter(self, phase: Phase) -> None:
        """The phase begins when the service is as it should be: a call that begins then meets it so."""
        if phase.state == UP and self._phase.state == GONE:
            await asyncio.to_thread(self._service.start)
        elif phase.state == UP:
            self._service.process.send_signal(signal.SIGCONT)
        self._phase = phase
        if phase.state == GONE:
            self._service.stop()
        elif phase.state == SILENT:
            self._service.process.send_signal(signal.SIGSTOP)

    def complaints(self, allowance: float) -> list[str]:
        """What was wrong, where everything may take ``allowance`` seconds more."""
        tallies, found = self.callers.tallies, []
        for key, sends in [(key, tally) for key, tally in tallies.items() if key.startswith(SENDING.name)]:
            met = [phase for phase in self._plan if phase.name in key.split(", ")[1].split(" → ")]
            failures = sends.count - sends.said[SENDING.said[0]]
            if failures and all(phase.state == UP for phase in met):
                found.append(f"{key}: {failures} failed")
            if not failures and [phase.state for phase in met if phase.seconds > SHORT] in ([GONE], [SILENT]):
                found.append(f"{key}: none failed, so nothing was shown")
            if sends.longest > max(LONGEST[phase.state] for phase in met) + allowance:
                found.append(f"{key}: {sends.longest:.1f} s")
        for kind in ("good", "awaits for 200 ms"):
            before, *others = (tallies[f"{kind}, {phase.name}"].quantile(0.99) for phase in self._plan)
            if max(others) > before * SLOWER + MARGIN + allowance:
                found.append(f"{kind}: p99 {max(others) * 1000:.0f} ms, before {before * 1000:.0f} ms")
        return found


def drill(seconds: float, *, traced: bool, pace: float, allowance: float = 0.0) -> list[str]:
    """Run for so many seconds; what was wrong."""
    port = free_port()
    with (
        Accepting() as service,
        place(
            every=min(1.0, seconds / 20), traced=traced, service=f"http://127.0.0.1:{service.port}"
        ) as here,
        here.app(port, "--slow-after", "60"),
    ):
        plan = phases(seconds)
        outages = Outages(port, service, plan, pace)
        uvloop.run(outages.run())
        tallies = outages.callers.tallies
        tallies.show()
        for name, tally in tallies.items():
            if name.startswith(SENDING.name):
                print(f"{name}: {', '.join(f'{said.decode()} {n:,}' for said, n in tally.said.items())}")
        # The first failure imports what repeats calls, once for all.
        grown = vitals.judge(here.folder, warm_up=plan[0].seconds + plan[1].seconds)
        complaints = [
            *tallies.complaints(),
            *tallies.complaints_of_losses(),
            *outages.complaints(allowance),
            *grown,
        ]
        return [*complaints, *here.complaints()]
