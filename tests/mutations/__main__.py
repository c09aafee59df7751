"""Take each check of ``checks`` away, in a copy of the project, and see which test fails.

::

    python -m tests.mutations             # all of them: half an hour
    python -m tests.mutations signature   # those whose group or name has this word

A check without which all tests pass is named at the end, and the exit code is 1.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from .checks import Check, load

ROOT = Path(__file__).parents[2]
COPIED = ("signalr_upstream", "tests", "examples", "pyproject.toml", "pytest_signalr_upstream.py")
IGNORED = shutil.ignore_patterns("node_modules", "__pycache__", ".venv")
TESTS_FAILED = 1
"""pytest's exit code; another one says that the tests did not run, which shows nothing."""


class Run(NamedTuple):
    """How the tests of a group went: pytest's exit code, and the first test that failed."""

    code: int
    failed: str


def main(words: list[str]) -> int:
    """Run those checks that have one of ``words`` in their name or group, or all."""
    left: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=IGNORED)
            else:
                shutil.copy(source, copy / name)
        for group, tests, checks in load():
            wanted = [c for c in checks if not words or any(word in f"{group}: {c.name}" for word in words)]
            if wanted and (run := _run(copy, tests)).code:
                left.append(f"{group}: its tests do not pass as things are ({run.failed or run.code})")
                continue
            left += [
                f"{group}: {check.name}" for check in wanted if not _is_caught(copy, group, check, tests)
            ]
    print(f"\n{len(left)} not caught" + "".join(f"\n  {name}" for name in left))
    return 1 if left else 0


def _is_caught(copy: Path, group: str, check: Check, tests: list[str]) -> bool:
    path = copy / "signalr_upstream" / check.file
    before = path.read_text()
    _write(path, before.replace(check.old, check.new))
    run = _run(copy, tests)
    _write(path, before)
    caught = run.code == TESTS_FAILED
    print(
        f"{'caught' if caught else 'NOT CAUGHT'}  {group}: {check.name}  {run.failed or run.code}", flush=True
    )
    return caught


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    # Python goes by the time in seconds and the size, which may both be those of the text before.
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def _run(copy: Path, tests: list[str]) -> Run:
    options = ["-x", "-q", "-rfE", "--no-header", "-p", "no:cacheprovider", "-o", "timeout=30"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return Run(done.returncode, failed[1] if failed else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
