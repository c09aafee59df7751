"""What became of calls: how many, how fast, what was wrong."""

import math
import time
from collections import Counter

STEP = 1.02
"""Two durations within this factor are counted as one: hours of calls fit into a few hundred numbers."""
SHOWN = 5
"""Wrong and lost calls of a kind that are kept to be shown."""


class Tally:
    """The calls of one kind."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()  # by status
        self.wrong = 0
        self.lost: list[tuple[float, int, str]] = []  # when (Unix seconds), the worker if that is known, why
        self.examples: list[str] = []
        self.said: Counter[bytes] = Counter()  # which of the answers that are right
        self._durations: Counter[int] = Counter()
        self._begun = self._ended = 0.0

    @property
    def count(self) -> int:
        """Calls that were answered."""
        return self.answers.total()

    def answered(self, seconds: float, status: int, *, said: bytes = b"", mistake: str = "") -> None:
        """An answer has come, after so many seconds: what it said, or what is wrong with it."""
        self._ended = time.perf_counter()
        if not self.answers:
            self._begun = self._ended - seconds
        self.answers[status] += 1
        self.said[said] += 1
        self._durations[round(math.log(max(seconds, 1e-6), STEP))] += 1
        if mistake:
            self.wrong += 1
            self._keep(mistake)

    def no_answer(self, reason: str, *, worker: int = 0) -> None:
        """The connection has gone before there was an answer."""
        self.lost.append((time.time(), worker, reason))
        self._keep(reason)

    def _keep(self, example: str) -> None:
        if len(self.examples) < SHOWN:
            self.examples.append(example)

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the answers came."""
        due = share * self.count
        for step, count in sorted(self._durations.items()):
            due -= count
            if due <= 0:
                return float(STEP**step)
        return 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.count / (self._ended - self._begun) if self.count else 0.0

    @property
    def longest(self) -> float:
        """Seconds."""
        return self.quantile(1.0)


class Tallies(dict[str, Tally]):
    """By kind of call."""

    def __missing__(self, kind: str) -> Tally:
        self[kind] = Tally()
        return self[kind]

    @property
    def lost(self) -> list[tuple[float, int, str]]:
        return [loss for tally in self.values() for loss in tally.lost]

    def complaints(self) -> list[str]:
        """What no drill expects: wrong answers, and statuses other than 200 and 204."""
        found = []
        for kind, tally in self.items():
            if tally.wrong:
                found.append(f"{tally.wrong} wrong answers to {kind}, such as {tally.examples}")
            if odd := {status: n for status, n in tally.answers.items() if status not in (200, 204)}:
                found.append(f"{kind}: answers by status {odd}")
            if not tally.count:
                found.append(f"{kind}: no answer at all")
        return found

    def complaints_of_losses(self) -> list[str]:
        """The same of calls that have no answer, where none may be lost."""
        return [f"{len(t.lost)} calls of {k} lost: {t.examples}" for k, t in self.items() if t.lost]

    def show(self) -> None:
        """Print a line a kind."""
        print(
            f"\n{'calls':38}{'answers':>10}{'a second':>10}{'p50 ms':>9}{'p99 ms':>9}{'longest':>9}{'lost':>6}"
        )
        for kind, tally in self.items():
            times = [f"{tally.quantile(share) * 1000:>9.1f}" for share in (0.5, 0.99, 1.0)]
            print(f"{kind:38}{tally.count:>10,}{tally.rate:>10,.0f}{''.join(times)}{len(tally.lost):>6}")
