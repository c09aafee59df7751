"""Assertions on what an app has sent."""

import difflib
import pprint
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from ..local.app import LocalService
from .sends import Kind, Send, sends_in

MAX_WIDTH = 100
"""Characters of one line of a failure's list; what differs is shown whole."""


class HasConnection(Protocol):
    """A client, by its connection."""

    @property
    def connection_id(self) -> str: ...


Clients = Iterable[HasConnection | str] | HasConnection | str
"""One client or several, or their connection ids."""


class Sent:
    """What the app has sent to one hub, in its order. Each assertion takes the first send that fits, so that two equal
    sends need two of them, and ``nothing()`` at the end means: no more than that. Iterate over it for all of them.

    Arguments are compared as clients receive them: a Struct, a dataclass or a model equals what it is encoded as.
    ``unittest.mock.ANY`` and ``pytest.approx`` work as arguments.

    Args:
        hub: its whole name.
        received: gives a value as clients receive it.
        hint: what else is wrong, if anything, to be said with a failure.
    """

    def __init__(
        self,
        service: LocalService,
        hub: str,
        *,
        received: Callable[[Any], Any],
        hint: Callable[[], str | None],
    ) -> None:
        self._service = service
        self._hub = hub.lower()
        self._received = received
        self._hint = hint
        self._taken: set[int] = set()

    def __repr__(self) -> str:
        return f"<Sent {len(list(self))}>"

    def __iter__(self) -> Iterator[Send]:
        return sends_in(self._service.rest_calls, self._hub)

    # --- assertions ------------------------------------------------------------------------------------------

    def to_all(self, target: str, *arguments: Any, excluding: Clients = ()) -> None:
        """Everybody was sent this; but the clients ``excluding``, which are none if none are given.

        Raises:
            AssertionError: it was not; the text shows what was sent.
        """
        __tracebackhide__ = True
        self._take("all", "", target, arguments, excluding)

    def to_group(self, group: str, target: str, *arguments: Any, excluding: Clients = ()) -> None:
        """A group was sent this; see ``to_all``."""
        __tracebackhide__ = True
        self._take("group", group, target, arguments, excluding)

    def to_user(self, user: str, target: str, *arguments: Any) -> None:
        """A user was sent this; see ``to_all``."""
        __tracebackhide__ = True
        self._take("user", user, target, arguments)

    def to_connection(self, client: HasConnection | str, target: str, *arguments: Any) -> None:
        """One connection was sent this, the caller for one; see ``to_all``."""
        __tracebackhide__ = True
        self._take("connection", _id_of(client), target, arguments)

    def asked(self, client: HasConnection | str, target: str, *arguments: Any) -> None:
        """One connection was invoked with this; see ``to_all``."""
        __tracebackhide__ = True
        self._take("invoke", _id_of(client), target, arguments)

    def nothing(self) -> None:
        """Nothing was sent, or no more than what other assertions have taken.

        Raises:
            AssertionError: something was.
        """
        __tracebackhide__ = True
        left = [send for send in self if send.is_accepted and send.number not in self._taken]
        if left:
            raise AssertionError("\n".join(["the app was to send nothing more, but it sent:", *self._list()]))

    def forget(self) -> None:
        """Take all that was sent so far, whatever it is."""
        self._taken.update(send.number for send in self)

    # --- finding ---------------------------------------------------------------------------------------------

    def _take(
        self, kind: Kind, name: str, target: str, arguments: tuple[Any, ...], excluding: Clients = ()
    ) -> None:
        __tracebackhide__ = True
        wanted = Send(
            kind=kind,
            name=name,
            target=target,
            arguments=[self._received(argument) for argument in arguments],
            excluding=_ids_of(excluding),
            status=None,
            number=0,
        )
        for send in self:
            if send.is_accepted and send.number not in self._taken and _is_same(send, wanted):
                self._taken.add(send.number)
                return
        raise AssertionError(self._failure(wanted))

    # --- failures --------------------------------------------------------------------------------------------

    def _failure(self, wanted: Send) -> str:
        lines = [f"the app has not sent {self._whom(wanted)}: {_call(wanted)}"]
        hint = self._hint()
        if hint is not None:
            lines += ["", hint]
        sends = list(self)
        if not sends:
            return "\n".join([*lines, "", "It has sent nothing at all."])
        closest = max(sends, key=lambda send: _likeness(send, wanted))
        lines += ["", "It has sent, in this order:", *self._list()]
        if any(_likeness(closest, wanted)[:2]):
            lines += ["", f"What differs from {sends.index(closest) + 1}. (- expected, + sent):"]
            lines += difflib.ndiff(self._pieces(wanted), self._pieces(closest))
        return "\n".join(line.rstrip("\n") for line in lines)

    def _list(self) -> list[str]:
        lost = ["  (and earlier ones, which are not remembered)"] if self._service.journal.lost else []
        return lost + [
            f"  {number}. {self._whom(send)}: {_shortened(_call(send))}{self._fate(send)}"
            for number, send in enumerate(self, start=1)
        ]

    def _fate(self, send: Send) -> str:
        if not send.is_accepted:
            return f"   (not taken by the service: {send.status})"
        return "   (asserted already)" if send.number in self._taken else ""

    def _whom(self, send: Send) -> str:
        match send.kind:
            case "all":
                whom = "to all"
            case "execute":
                whom = "by commands"
            case "connection":
                whom = f"to connection {self._shown(send.name)}"
            case "invoke":
                whom = f"(and waited for an answer) to connection {self._shown(send.name)}"
            case _:
                whom = f"to {send.kind} {send.name!r}"
        if send.excluding:
            whom += f" excluding {', '.join(sorted(map(self._shown, send.excluding)))}"
        return whom

    def _pieces(self, send: Send) -> list[str]:
        """Its parts, a line each."""
        pieces = [self._whom(send), repr(send.target)]
        for argument in send.arguments:
            pieces += pprint.pformat(argument, width=MAX_WIDTH, sort_dicts=True).splitlines()
        return pieces

    def _shown(self, connection_id: str) -> str:
        client = self._service.journal.client(connection_id)
        if client is None:
            return f"{connection_id!r} (unknown)"
        return f"{connection_id!r} ({'no user' if client.user_id is None else client.user_id})"


def _is_same(send: Send, wanted: Send) -> bool:
    return (send.kind, send.name, send.target, send.excluding) == (
        wanted.kind,
        wanted.name,
        wanted.target,
        wanted.excluding,
    ) and wanted.arguments == send.arguments  # the expected ones decide: ANY, approx


def _likeness(send: Send, wanted: Send) -> tuple[bool, bool, int]:
    """To find what was meant: the greater the more alike."""
    same = sum(mine == other for mine, other in zip(wanted.arguments, send.arguments, strict=False))
    return (
        send.target == wanted.target,
        (send.kind, send.name) == (wanted.kind, wanted.name),
        same + (send.excluding == wanted.excluding),
    )


def _call(send: Send) -> str:
    if send.target is None:
        return "a message that was not kept as a whole: look at what a client has received"
    return f"{send.target}({', '.join(map(repr, send.arguments))})"


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_WIDTH else f"{text[:MAX_WIDTH]}…"


def _id_of(client: HasConnection | str) -> str:
    return client if isinstance(client, str) else client.connection_id


def _ids_of(clients: Clients) -> frozenset[str]:
    if isinstance(clients, str) or not isinstance(clients, Iterable):
        return frozenset([_id_of(clients)])
    return frozenset(map(_id_of, clients))
