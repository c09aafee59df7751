"""What a process holds: written down by the app under load, and judged when the load is over."""

import asyncio
import gc
import json
import os
import statistics
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

WARM_UP = 5.0
"""Seconds in which caches and pools are filled."""
FEWEST = 9
"""Samples of a process, without those of the warm-up, that can be judged."""
SHOWN = 10
"""Processes that are shown."""
SHARE = 0.05
SLACK = {"objects": 3_000, "tasks": 32, "traced": 512 * 1024}
"""What counts as growth: more than this share of what there was in the first third, and more than this slack, which is
what 64 connections make up that have come from another process, and calls that happen to be under way."""


class Sample(NamedTuple):
    """One look at a process. Sizes in bytes.

    Attributes:
        at: Unix seconds.
        objects: those that the garbage collector knows, after it has run.
        tasks: of the event loop.
        traced: what tracemalloc counts; 0 where it does not run.
        rss: resident memory.
    """

    at: float
    objects: int
    tasks: int
    traced: int
    rss: int


class Recorder:
    """Writes what this process holds to a file in ``folder``, named by the process, every so many seconds."""

    def __init__(self, folder: str, *, every: float) -> None:
        self._path = Path(folder) / f"{os.getpid()}.vitals"
        self._every = every

    def __enter__(self) -> Self:
        self._file = self._path.open("a", buffering=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    async def run(self) -> None:
        """Until it is cancelled. The first sample says when the process began to serve."""
        while True:
            self._file.write(json.dumps(_look()) + "\n")
            await asyncio.sleep(self._every)


def _look() -> Sample:
    gc.collect()
    return Sample(
        at=time.time(),
        objects=len(gc.get_objects()),
        tasks=len(asyncio.all_tasks()),
        traced=tracemalloc.get_traced_memory()[0],
        rss=resident(os.getpid()),
    )


def resident(pid: int, what: str = "VmRSS") -> int:
    """Bytes of memory of a process: now, or with ``VmHWM`` at its peak."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) * 1024


def recorded(folder: Path) -> dict[int, list[Sample]]:
    """What every process has written so far, those that began first first."""
    found = {}
    for path in folder.glob("*.vitals"):
        lines = path.read_text().splitlines(keepends=True)
        # The last line may be half written, by a process that lives or was killed.
        found[int(path.stem)] = [Sample(*json.loads(line)) for line in lines if line.endswith("\n")]
    return dict(sorted(((pid, all_) for pid, all_ in found.items() if all_), key=lambda item: item[1][0].at))


def thirds(samples: Sequence[Sample], figure: str) -> tuple[float, float]:
    """What there was of ``figure`` in the first third and in the last one: the medians."""
    values = [getattr(sample, figure) for sample in samples]
    third = len(values) // 3
    return statistics.median(values[:third]), statistics.median(values[-third:])


def growth(samples: Sequence[Sample], figure: str) -> str | None:
    """How much more of ``figure`` there was in the last third than in the first; None if it is flat."""
    first, last = thirds(samples, figure)
    if last <= first * (1 + SHARE) + SLACK[figure]:
        return None
    return f"{figure} grew from {first:,.0f} to {last:,.0f}"


def judge(folder: Path, *, warm_up: float = WARM_UP) -> list[str]:
    """Print what processes held, some of them if they are many; what has grown, of all of them."""
    complaints, lines = [], []
    for pid, samples in recorded(folder).items():
        warm = [sample for sample in samples if sample.at >= samples[0].at + warm_up]
        if len(warm) < FEWEST:
            continue
        complaints += [f"process {pid}: {grown}" for figure in SLACK if (grown := growth(warm, figure))]
        shown = [
            _row(warm, figure, unit)
            for figure, unit in (("objects", 1), ("tasks", 1), ("traced", 1024), ("rss", 1024 * 1024))
        ]
        lines.append(f"{pid:>9}{warm[-1].at - samples[0].at:>9.0f}  {'; '.join(shown)}")
    if len(lines) > SHOWN:
        between = len(lines) - SHOWN
        lines[SHOWN // 2 : -SHOWN // 2] = [f"          and {between} more between these, judged as well"]
    print(
        f"\n{'process':>9}{'seconds':>9}  objects, tasks, tracemalloc KiB, RSS MiB: first third → last third, most"
    )
    print("\n".join(lines) or "          none lived long enough to be judged")
    return complaints


def _row(samples: Sequence[Sample], figure: str, unit: int) -> str:
    first, last = thirds(samples, figure)
    most = max(getattr(sample, figure) for sample in samples)
    return f"{first / unit:,.0f} → {last / unit:,.0f}, {most / unit:,.0f}"
