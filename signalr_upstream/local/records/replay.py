"""Play a recorded session to an app: clients connect and say the same once more, and what comes of it is compared."""

import contextlib
import difflib
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ...errors import HubError
from ...protocol.handshake import PROTOCOLS
from ..socketless.in_process_client import NO_CLIENT_RESULT, DisconnectedError, InProcessClient
from .fixture import Line, frame_of, lines_of, placeholder, read_lines, value_from

if TYPE_CHECKING:
    from ..app import LocalService

_INVOCATION, _COMPLETION = 1, 3  # types of hub messages
_COMPARED = ("receives", "upstream", "rest")  # the rest is what a client does


class Difference(NamedTuple):
    """What is not as it was recorded.

    Attributes:
        recorded: a line of the file; None where it has nothing.
        now: the line that came now; None where nothing came.
    """

    recorded: Line | None
    now: Line | None


async def replay(
    path: str | Path, service: "LocalService", *, ignore: Collection[str] = ()
) -> list[Difference]:
    """Play a file to the app of ``service``, which must have done nothing so far.

    Clients connect, send and leave in the order of the file, each step when the app has answered the one before;
    what the app asks of them they answer as they did. REST calls that did not come from the app are not made.

    Args:
        path: what ``LocalService.export`` has written.
        ignore: names of members that may have any value, wherever they are: ``["time"]``.

    Raises:
        ConfigurationError: it is no recorded session, or cannot be played.
        NothingCameError: the app does not answer.
    """
    recorded = read_lines(path)
    clients: dict[int, InProcessClient] = {}
    protocols: dict[int, str] = {}
    for line in recorded:
        number = line.get("client", 0)
        if "opens" in line:
            protocols[number] = line["opens"]["protocol"]
            clients[number] = await service.connect(**line["opens"])
            _answer(clients[number], [other for other in recorded if other.get("client") == number])
        elif "sends" in line and line["sends"].get("type") != _COMPLETION:
            data = frame_of(_with_ids(line["sends"], clients), PROTOCOLS[protocols[number]])
            with contextlib.suppress(DisconnectedError):  # which is a difference by itself
                await clients[number].send_raw(data)
        elif "closes" in line:
            await clients[number].close()
        await service.settled()
    return _differences(recorded, lines_of(service.journal)[1:], ignore)


def _answer(client: InProcessClient, lines: Sequence[Line]) -> None:
    """Let a client answer as it did when it was recorded."""
    given = {
        line["sends"]["invocationId"]: line["sends"] for line in lines if _is(line, "sends", _COMPLETION)
    }
    answers: defaultdict[str, deque[Line]] = defaultdict(deque)
    for line in lines:
        if _is(line, "receives", _INVOCATION) and line["receives"].get("invocationId") in given:
            answers[line["receives"]["target"]].append(given[line["receives"]["invocationId"]])
    for target, completions in answers.items():
        client.on(target, _Answers(completions))


class _Answers:
    """A client's answers to one target, one after the other."""

    def __init__(self, completions: deque[Line]) -> None:
        self._completions = completions

    def __call__(self, *_: Any) -> Any:
        if not self._completions:
            raise HubError(NO_CLIENT_RESULT)
        completion = self._completions.popleft()
        if "error" in completion:
            raise HubError(completion["error"])
        return value_from(completion.get("result"))


def _is(line: Line, verb: str, kind: int) -> bool:
    return verb in line and line[verb].get("type") == kind


def _with_ids(document: Line, clients: dict[int, InProcessClient]) -> Line:
    text = msgspec.json.encode(document).decode()
    for number, client in clients.items():
        text = text.replace(placeholder(number), client.connection_id)
    return msgspec.json.decode(text, type=Line)


# --- what is compared --------------------------------------------------------------------------------------------


def _differences(recorded: Sequence[Line], now: Sequence[Line], ignore: Collection[str]) -> list[Difference]:
    """Compared is what each client received, what each told the app, and the REST calls: each in its own order."""
    before, after = _sorted(recorded), _sorted(now)
    found: list[Difference] = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before[key], after[key]
        matcher = difflib.SequenceMatcher(
            None, [_text(line, ignore) for line in old], [_text(line, ignore) for line in new], autojunk=False
        )
        for kind, i, j, k, m in matcher.get_opcodes():
            if kind != "equal":
                pairs = max(j - i, m - k)
                left = [*old[i:j], *[None] * (pairs - (j - i))]
                right = [*new[k:m], *[None] * (pairs - (m - k))]
                found += map(Difference, left, right)
    return found


def _sorted(lines: Sequence[Line]) -> defaultdict[tuple[int, str], list[Line]]:
    found: defaultdict[tuple[int, str], list[Line]] = defaultdict(list)
    for line in lines:
        for verb in _COMPARED:
            if verb in line:
                found[line.get("client", 0), verb].append(line)
    return found


def _text(line: Line, ignore: Collection[str]) -> bytes:
    return msgspec.json.encode(_without(line, ignore), order="deterministic")


def _without(value: Any, ignore: Collection[str]) -> Any:
    match value:
        case dict():
            return {key: None if key in ignore else _without(item, ignore) for key, item in value.items()}
        case list():
            return [_without(item, ignore) for item in value]
        case _:
            return value
