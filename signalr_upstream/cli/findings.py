"""What ``check`` finds."""

from typing import Final

from msgspec import Struct

OK: Final = "ok"
NOTE: Final = "note"
PROBLEM: Final = "PROBLEM"

NOBODY: Final = "signalr-upstream-check"
"""A connection that does not exist."""


class Finding(Struct, frozen=True):
    """What one look has shown.

    Attributes:
        outcome: ``OK``, ``NOTE`` (may be meant so) or ``PROBLEM``.
        subject: what was looked at.
        advice: what to do about a problem.
    """

    outcome: str
    subject: str
    text: str
    advice: str = ""
