"""Events that are nearly one of the two connection events: ``@hub.on("conected")`` waits for a client's message."""

import difflib
import re
from typing import Final

from ..protocol.upstream import CONNECTED, DISCONNECTED

_LIKENESS: Final = 0.93
"""A letter too many or too few. ``disconnect`` has 0.91, ``reconnected`` 0.9, ``connect`` 0.88: words of their own."""


def meant_by(event: str) -> str | None:
    """The connection event that is meant by a misspelt one, or by the name that it has in .NET; None for others."""
    if event.lower() in (CONNECTED, DISCONNECTED) or event.endswith("*"):
        return None
    word = re.sub(r"[\W_]", "", event.lower()).removeprefix("on").removesuffix("async")
    for known in (CONNECTED, DISCONNECTED):
        likeness = difflib.SequenceMatcher(None, word, known).ratio()
        # Of the first letter nobody misses the key: isConnected is another word.
        if word[:1] == known[0] and (likeness > _LIKENESS or sorted(word) == sorted(known)):
            return known
    return None
