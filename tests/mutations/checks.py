"""The list of checks: a file for each group.

::

    tests: tests/test_auth.py tests/test_security.py

    a wrong one | auth.py
    - if hmac.compare_digest(expected, item):
    + if True:

First the tests that have to notice. Then, for each check, what is let through without it, the file below
``signalr_upstream``, the lines that make it, which stand there once, and the lines without it.
"""

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class Check(NamedTuple):
    """One check: ``new`` is written in place of ``old`` to take it away."""

    name: str
    file: str
    old: str
    new: str


class Group(NamedTuple):
    """Checks that the same tests hold."""

    name: str
    tests: list[str]
    checks: list[Check]


def load() -> list[Group]:
    """All groups, by name."""
    return [_parse(path) for path in sorted(FOLDER.glob("*.txt"))]


def _parse(path: Path) -> Group:
    head, *blocks = path.read_text().strip().split("\n\n")
    tests = [test for line in head.splitlines() for test in line.removeprefix("tests: ").split()]
    return Group(path.stem, tests, [_check(block.splitlines()) for block in blocks])


def _check(lines: list[str]) -> Check:
    name, file = lines[0].split(" | ")
    old, new = ("\n".join(line[2:] for line in lines[1:] if line[0] == sign) for sign in "-+")
    return Check(name, file, old, new)
