"""A call that has to be refused."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from ..errors import HubError, SignalRError
from ..local.socketless.in_process_socket import NotAdmittedError

_WRONG_URL = (404, 405)


class Refusal:
    """A block whose call has to be refused; see ``HubTester.refused``.

    Attributes:
        error: what was raised, when the block has ended.
    """

    error: SignalRError

    def __init__(self, text: str, instead: Callable[[], str]) -> None:
        self._text = text
        self._instead = instead

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        __tracebackhide__ = True
        if error is None:
            raise AssertionError(f"nothing was refused, and {self._text!r} was expected{self._instead()}")
        if not (isinstance(error, HubError) or (isinstance(error, NotAdmittedError) and _is_refusal(error))):
            return False
        self.error = error
        if self._text not in str(error):
            lines = [
                "the caller was refused with another text:",
                f"  expected: {self._text!r}",
                f"  told:     {str(error)!r}",
                *getattr(error, "__notes__", ()),
            ]
            raise AssertionError("\n".join(lines)) from None
        return True


def _is_refusal(error: NotAdmittedError) -> bool:
    """Whether the app's negotiate has told its caller no: with 500 it has failed, with 503 it cannot answer at the
    moment, and with 404 it was not asked at all."""
    status = error.status or 0
    return error.by_app and 400 <= status < 500 and status not in _WRONG_URL
