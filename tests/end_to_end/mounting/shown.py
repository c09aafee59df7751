"""The app of the section of docs/mounting.md that ``SECTION`` names; with ``LIFESPAN=raises`` it knows no lifespan."""

import os
import re
from pathlib import Path
from typing import Any

_document = Path(__file__).parents[3] / "docs" / "mounting.md"
_section = _document.read_text().partition(f"\n## {os.environ['SECTION']}\n")[2]
(_code,) = re.findall(r"^```python\n(.*?)^```$", _section.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
_shown: dict[str, Any] = {"__name__": "shown"}
exec(compile(_code, f"{_document}, {os.environ['SECTION']}", "exec"), _shown)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """What servers load."""
    if scope["type"] == "lifespan" and os.environ["LIFESPAN"] == "raises":
        raise RuntimeError("this app knows no lifespan")
    await _shown["app"](scope, receive, send)
