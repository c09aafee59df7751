"""Users' code is checked by mypy and by pyright: what is right passes in both, and what is wrong does not."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from .processes import HERE

ROOT = HERE.parent.parent
RIGHT = [HERE / "typed_sends.py", *sorted((ROOT / "examples").glob("*/app.py"))]

# Each line has one mistake, and is the only one of a checker's findings that it may have.
WRONG = """
from signalr_upstream import ServiceClient, Identity
from signalr_upstream.commands import JoinGroup

hub = ServiceClient().hub("chat")
player = hub.clients.connection("c")


async def send() -> None:
    {}
"""
MISTAKES = [
    'number: int = await player.invoke("ask", result_type=str)',
    'await player.invoke("ask", result_type="int")',
    "await player.invoke()",
    'await hub.clients.all.invoke("ask")',
    'await hub.clients.all.send(1, "t")',
    "await hub.clients.users(1).send('t')",
    'await hub.groups.add("g", "c")',
    'await hub.users.add_to_group("ann", group="g", ttl="1")',
    "await hub.execute([JoinGroup(1)])",
    'await hub.execute("JoinGroup")',
    'await hub.client_access("ann")',
    'Identity("ann", {"role": "admin"})',
    'missing = hub.connections.exists("c") and hub.connections.exist("c")',
    "ServiceClient(router=1)",
]

Check = Callable[..., list[int]]


def mypy(*files: Path) -> list[int]:
    """The lines of its errors."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--no-pretty",
        "--cache-dir",
        "/dev/null",
    ]
    out = subprocess.run(
        [*command, *files], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert out.returncode in (0, 1), out.stderr
    print(out.stdout)
    return [int(line.split(":")[1]) for line in out.stdout.splitlines() if ": error: " in line]


def pyright(*files: Path) -> list[int]:
    """The lines of its errors."""
    command: list[str | Path] = [
        "node",
        HERE / "node_modules" / "pyright" / "index.js",
        "--outputjson",
        "--pythonpath",
        sys.executable,
    ]
    out = subprocess.run(
        [*command, *files], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert out.returncode in (0, 1), out.stderr
    print(out.stdout)
    found = json.loads(out.stdout)
    assert found["summary"]["filesAnalyzed"] == len(files)
    return [
        each["range"]["start"]["line"] + 1
        for each in found["generalDiagnostics"]
        if each["severity"] == "error"
    ]


@pytest.mark.parametrize("check", [mypy, pyright])
def test_sends_results_and_the_examples_have_the_types_that_they_say(check: Check) -> None:
    assert check(*RIGHT) == []


@pytest.mark.parametrize("check", [mypy, pyright])
def test_mistakes_are_found(check: Check, tmp_path: Path) -> None:
    text = WRONG.format("\n    ".join(MISTAKES))
    first = text[: text.index(MISTAKES[0])].count("\n") + 1
    file = tmp_path / "wrong.py"
    file.write_text(text)

    found = Counter(check(file))

    assert sorted(found) == list(range(first, first + len(MISTAKES)))
