"""Whether a ``CancelledError`` means the task that it came up in, or only something that the task had awaited."""

import asyncio


def ends_this_task() -> bool:
    """Whether somebody wants the running task to end."""
    current = asyncio.current_task()
    return current is None or current.cancelling() > 0
