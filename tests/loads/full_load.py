"""Two workers at full load, with handlers that fail, hang and block among the good ones."""

import math

import uvloop

from tests.end_to_end.processes import free_port
from tests.loads import LIMIT, kinds, vitals
from tests.loads.callers import Callers
from tests.loads.servers import place

MARGIN = 1.0
"""Seconds beyond its limit until a call that hangs has to be answered: everything has to wait for its turn."""

KINDS = [
    kinds.echo(40),
    kinds.waiting(8),
    kinds.blocking(4),
    kinds.refusing(4),
    kinds.failing(2, every=0.05),
    kinds.hanging(4),
    kinds.overstaying(2),
]


def drill(seconds: float, *, traced: bool, pace: float, allowance: float = 0.0) -> list[str]:
    """Run for so many seconds; what was wrong."""
    port = free_port()
    with (
        place(every=min(2.0, seconds / 20), traced=traced) as here,
        here.app(port, "--workers", "2", "--slow-after", "60"),
    ):
        callers = Callers(port, KINDS, lifetime=math.inf, pace=pace)  # what a worker holds stays comparable
        uvloop.run(callers.run(seconds))
        callers.tallies.show()
        grown = vitals.judge(here.folder)
        complaints = [*callers.tallies.complaints(), *callers.tallies.complaints_of_losses(), *grown]
        for kind, tally in callers.tallies.items():
            if "limit" in kind and tally.longest > LIMIT + MARGIN + allowance:
                complaints.append(f"{kind}: {tally.longest:.1f} s")
        if callers.refused:
            complaints.append(f"{callers.refused} connections were refused")
        return [*complaints, *here.complaints()]
