"""How the ``select_*.py`` scripts write their files; ``tests/recorded.py`` reads them.

One JSON object a line. The first says where the rows come from, and what was taken out of them to make them short:

* ``keys``: the names of the rows' one-letter keys;
* ``defaults``: what a row has where it says nothing else;
* ``short``: marks that stand for a piece of a line's text (of the JSON, before it is read);
* ``{40×y}`` in a line is ``y``, forty times.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_RUN = re.compile(r'((?:%[0-9A-F]{2})+?|[^"\\{}])\1{15,}')
# Lone surrogates have no UTF-8, and the others would end a line for some readers.
_ESCAPED = re.compile("[\x7f\x85\u2028\u2029\ud800-\udfff]")


def write(
    name: str,
    rows: Iterable[dict[str, Any]],
    *,
    source: str,
    keys: Mapping[str, str],
    short: Mapping[str, str],
    defaults: Mapping[str, Any] | None = None,
    **more: Any,
) -> None:
    """Write ``rows`` beside this file; ``more`` goes into the first line as it is."""
    used = {"keys": keys, "short": short} | ({"defaults": defaults} if defaults else {})
    lines = [_text({"source": source, **used, **more})]
    lines += [_abbreviated(_text(_with_short_keys(row, keys, defaults or {})), short) for row in rows]
    data = ("\n".join(lines) + "\n").encode()
    (Path(__file__).parent / name).write_bytes(data)
    print(f"{name}: {len(lines) - 1} rows, {len(data)} bytes")


def _with_short_keys(
    row: dict[str, Any], keys: Mapping[str, str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    letters = {name: letter for letter, name in keys.items()}
    assert defaults.keys() <= row.keys(), row
    return {letters[name]: value for name, value in row.items() if value != defaults.get(name, ...)}


def _text(row: Any) -> str:
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _abbreviated(line: str, short: Mapping[str, str]) -> str:
    assert not any(mark in line for mark in (*short, "×")), line
    for mark, text in short.items():
        line = line.replace(text, mark)
    return _RUN.sub(lambda match: f"{{{len(match[0]) // len(match[1])}×{match[1]}}}", line)
