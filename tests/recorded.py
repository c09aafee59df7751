"""Read the recorded exchanges of ``tests/vectors``; ``tests/vectors/compact.py`` says how they are written."""

import base64
import json
import re
from pathlib import Path
from typing import Any

Row = dict[str, Any]

VECTORS = Path(__file__).parent / "vectors"
_RUN = re.compile(r"\{(\d+)×([^{}]+)\}")


def load(name: str) -> tuple[Row, list[Row]]:
    """The first line of a file, and its rows with nothing left out."""
    first, *lines = (VECTORS / name).read_bytes().decode().rstrip("\n").split("\n")
    head: Row = json.loads(first)
    keys, defaults = head["keys"], head.get("defaults", {})
    rows = (json.loads(_whole(line, head["short"])) for line in lines)
    return head, [defaults | {keys[letter]: value for letter, value in row.items()} for row in rows]


def load_plain(name: str) -> list[Row]:
    """The rows of a file in which nothing is abbreviated."""
    return [json.loads(line) for line in (VECTORS / name).read_text("utf-8").splitlines()]


def _whole(line: str, short: dict[str, str]) -> str:
    line = _RUN.sub(lambda match: match[2] * int(match[1]), line)
    for mark, text in short.items():
        line = line.replace(mark, text)
    return line


def raw(text: str | None) -> bytes:
    """A recorded body or message as bytes: text, or ``base64:`` and what is no text."""
    text = text or ""
    return base64.b64decode(text[7:]) if text.startswith("base64:") else text.encode()
