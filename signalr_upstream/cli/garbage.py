"""How often a process that serves looks for garbage."""

import gc

NEW_OBJECTS = 10_000
"""Objects between two runs of the garbage collector's first generation: calls and connections under way hold
thousands, and Python's 700 would look through them many times before one ends."""


def collect_less_garbage() -> None:
    """Leave alone what is there, since it stays; look seldom at what comes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)
