"""The journal as the inspector shows it: a row for each message and call, and the details of one of them."""

import re
from collections.abc import Iterable
from itertools import islice, takewhile
from typing import assert_never

from msgspec import Struct

from ...errors import ProtocolError
from ...protocol import upstream as wire
from ...protocol.rest_decoding import decode_message
from ..records.entries import Answer, Frame, Refusal, Request, RestCall, UpstreamCall
from ..records.journal import Journal
from ..records.redaction import hide_headers, hide_tokens, hide_url
from .curl import curl_line, why_no_curl_line
from .decoded import Message, body_texts, message_of, messages_in

MAX_ROWS = 500
"""Rows that are sent at once, and that the page keeps: more than anybody reads."""

MAX_TEXT = 300
"""Characters of a row's text; the details have the rest."""

Entry = Frame | UpstreamCall | RestCall | Refusal


class Row(Struct, frozen=True):
    """One line.

    Attributes:
        key: the entry's number, and behind a dot which message of it, where it is not the first.
        kind: ``opened``, ``received``, ``sent``, ``closed``, ``refused`` of a client; ``upstream``; ``rest``.
        type: of the message, ``Invocation`` and so on.
        name: target, event, or method and path.
        state: the status; ``…`` while a call runs, ``failed`` where no answer came.
        seconds: how long a call took.
        failed: to be marked.
    """

    key: str
    time: float
    kind: str
    connection: str
    user: str
    type: str
    name: str
    text: str
    state: str = ""
    seconds: float | None = None
    failed: bool = False


class Section(Struct, frozen=True):
    """A part of the details: headers, or a text."""

    title: str
    text: str
    headers: list[tuple[str, str]] = []


class Details(Struct, frozen=True):
    """All there is of one entry.

    Attributes:
        facts: names and values, for the head.
        curl: a line for a shell, for calls to the app.
        no_curl: why there is none.
        replay: whether the call can be made again.
    """

    number: int
    title: str
    connection: str
    facts: list[tuple[str, str]]
    sections: list[Section]
    curl: str | None = None
    no_curl: str | None = None
    replay: bool = False


def rows_since(journal: Journal, number: int, limit: int = MAX_ROWS) -> tuple[list[Row], int]:
    """The newest rows of what has come or changed after ``number``; and the number to ask with next time."""
    frames = _newest(journal.newest_frames(), number, limit)
    upstream = [call for call in journal.upstream_calls if call.changed > number]
    rest = _newest(reversed(journal.rest_calls), number, limit)
    refused = _newest(reversed(journal.refused_requests), number, limit)
    entries: list[Entry] = sorted([*frames, *upstream, *rest, *refused], key=lambda entry: entry.number)
    latest = max([number, *(_changed(entry) for entry in entries)])
    rows = [row for entry in entries[-limit:] for row in rows_of(journal, entry)]
    return rows[-limit:], latest


def rows_of(journal: Journal, entry: Entry) -> list[Row]:
    """The rows of one entry: a transport message may hold many messages."""
    match entry:
        case Frame():
            return _frame_rows(journal, entry)
        case UpstreamCall():
            return [_upstream_row(journal, entry)]
        case RestCall():
            return [_rest_row(entry)]
        case Refusal():
            return [_refusal_row(entry)]
        case _:
            assert_never(entry)


def find(journal: Journal, number: int) -> Entry | None:
    """The entry with this number, if it is still kept."""
    kinds = (journal.newest_frames(), journal.upstream_calls, journal.rest_calls, journal.refused_requests)
    for entries in kinds:
        for entry in entries:
            if entry.number == number:
                return entry
    return None


def details_of(journal: Journal, entry: Entry) -> Details:
    """All that can be shown of an entry."""
    match entry:
        case Frame():
            return _frame_details(journal, entry)
        case UpstreamCall():
            return _upstream_details(journal, entry)
        case RestCall():
            return _rest_details(entry)
        case Refusal():
            return _refusal_details(entry)
        case _:
            assert_never(entry)


# --- frames ---


def _frame_rows(journal: Journal, frame: Frame) -> list[Row]:
    user = _user(journal, frame.connection_id)
    if frame.kind in ("opened", "closed"):
        text = hide_tokens(frame.data.decode("utf-8", "replace"))
        return [
            Row(str(frame.number), frame.time, frame.kind, frame.connection_id, user, "", "", text[:MAX_TEXT])
        ]
    return [
        Row(
            key=f"{frame.number}.{index}" if index else str(frame.number),
            time=frame.time,
            kind=frame.kind,
            connection=frame.connection_id,
            user=user,
            type=message.type,
            name=message.name[:MAX_TEXT],
            text=message.values[:MAX_TEXT],
            failed=message.failed,
        )
        for index, message in enumerate(islice(messages_in(frame.data, binary=frame.binary), MAX_ROWS))
    ]


def _frame_details(journal: Journal, frame: Frame) -> Details:
    titles = {
        "opened": "A client opened a transport",
        "closed": "A client's transport ended",
        "received": "From the client",
        "sent": "To the client",
    }
    facts = _client_facts(journal, frame.connection_id)
    sections: list[Section] = []
    if frame.kind in ("opened", "closed"):
        if frame.data:
            facts.append(
                ("Transport" if frame.kind == "opened" else "Reason", hide_tokens(frame.data.decode()))
            )
    else:
        facts.append(("Size", _size(frame.size, len(frame.data), "binary" if frame.binary else "text")))
        sections = [
            Section(_message_title(message), message.text)
            for message in islice(messages_in(frame.data, binary=frame.binary), MAX_ROWS)
        ]
    return Details(frame.number, titles[frame.kind], frame.connection_id, facts, sections)


def _message_title(message: Message) -> str:
    return f"{message.type} {message.name}".strip()


# --- calls to the app ---


def _upstream_row(journal: Journal, call: UpstreamCall) -> Row:
    asked = message_of(call.request.body, binary=_is_messagepack(call.request.headers))
    text, failed = asked.values, call.error is not None
    for answer in _answer_messages(call):
        text += f" → {answer.values or 'no result'}"
        failed = failed or answer.failed
    if call.error is not None:
        text = hide_tokens(call.error)
    status = call.answer.status if call.answer else None
    return Row(
        key=str(call.number),
        time=call.start,
        kind="upstream",
        connection=call.connection_id,
        user=_user(journal, call.connection_id),
        type=call.hub,
        name=call.event[:MAX_TEXT],
        text=text[:MAX_TEXT],
        state=_state(status, call.error),
        seconds=call.seconds,
        failed=failed or (status is not None and status not in (200, 204)),
    )


def _upstream_details(journal: Journal, call: UpstreamCall) -> Details:
    status = call.answer.status if call.answer else None
    no_curl = why_no_curl_line(call)
    facts = [
        ("Hub", call.hub),
        ("Category", call.category),
        ("Event", call.event),
        ("Answer", hide_tokens(call.error) if call.error else _state(status, None)),
        ("Took", _took(call.seconds)),
        *_client_facts(journal, call.connection_id),
    ]
    return Details(
        number=call.number,
        title=f"Call to the app: {call.event}",
        connection=call.connection_id,
        facts=facts,
        sections=_exchange(call.request, call.answer),
        curl=None if no_curl else curl_line(call),
        no_curl=no_curl,
        replay=call.whole,
    )


def _answer_messages(call: UpstreamCall) -> list[Message]:
    if call.answer is None or not call.answer.body or call.answer.status != 200:
        return []
    return messages_in(call.answer.body, binary=_is_messagepack(call.request.headers))


def _is_messagepack(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name.lower() == wire.CONTENT_TYPE and value.startswith(wire.MESSAGEPACK_TYPE.encode())
        for name, value in headers
    )


# --- REST calls ---


def _rest_row(call: RestCall) -> Row:
    path = hide_url(call.request.url).partition("?")[0]
    status = call.answer.status if call.answer else None
    return Row(
        key=str(call.number),
        time=call.start,
        kind="rest",
        connection="",
        user="",
        type=call.request.method,
        name=re.sub(r"^/api/(v1/)?hubs/", "", path)[:MAX_TEXT],
        text=hide_tokens(_called(call.request))[:MAX_TEXT],
        state=_state(status, None if call.answer else "the caller left"),
        seconds=call.seconds,
        failed=status is None or status >= 400,
    )


def _called(request: Request) -> str:
    """Target and arguments of a body that holds some."""
    try:
        message = decode_message(request.body)
    except ProtocolError:
        return ""
    return f"{message.target} {bytes(message.arguments).decode('utf-8', 'replace')}"


def _rest_details(call: RestCall) -> Details:
    status = call.answer.status if call.answer else None
    facts = [
        ("Answer", _state(status, None) if call.answer else "none: the caller left before"),
        ("Took", _took(call.seconds)),
    ]
    title = f"REST call: {call.request.method} {hide_url(call.request.url).partition('?')[0]}"
    return Details(call.number, title, "", facts, _exchange(call.request, call.answer))


# --- refused requests ---


def _refusal_row(refusal: Refusal) -> Row:
    path = hide_url(refusal.url).partition("?")[0]
    return Row(
        key=str(refusal.number),
        time=refusal.time,
        kind="refused",
        connection="",
        user="",
        type=refusal.method,
        name=f"{refusal.method} {path}"[:MAX_TEXT],
        text=hide_tokens(refusal.reason)[:MAX_TEXT],
        state=str(refusal.status),
        failed=True,
    )


def _refusal_details(refusal: Refusal) -> Details:
    facts = [
        ("Answer", str(refusal.status)),
        ("Request", f"{refusal.method} {hide_url(refusal.url)}"),
        ("Reason", hide_tokens(refusal.reason)),
    ]
    return Details(refusal.number, "A request was not let in", "", facts, [])


# --- what all have in common ---


def _exchange(request: Request, answer: Answer | None) -> list[Section]:
    sections = [
        Section("Request", f"{request.method} {hide_url(request.url)}", hide_headers(request.headers)),
        *_body("Request body", request.body, request.size, request.headers),
    ]
    if answer is not None:
        sections.append(Section("Answer", str(answer.status), hide_headers(answer.headers)))
        sections += _body("Answer body", answer.body, answer.size, request.headers)
    return sections


def _body(title: str, body: bytes, size: int, headers: Iterable[tuple[bytes, bytes]]) -> list[Section]:
    if not body:
        return []
    if size != len(body):
        title = f"{title}, {_size(size, len(body), 'cut')}"
    return [Section(title, text) for text in body_texts(body, binary=_is_messagepack(headers))]


def _client_facts(journal: Journal, connection_id: str) -> list[tuple[str, str]]:
    client = journal.client(connection_id)
    user = [("User", client.user_id)] if client is not None and client.user_id else []
    return [("Connection", connection_id), *user]


def _user(journal: Journal, connection_id: str) -> str:
    client = journal.client(connection_id)
    return client.user_id or "" if client is not None else ""


def _state(status: int | None, error: str | None) -> str:
    if status is not None:
        return str(status)
    return "…" if error is None else "failed"


def _took(seconds: float | None) -> str:
    return "still running" if seconds is None else f"{1000 * seconds:.1f} ms"


def _size(size: int, kept: int, kind: str) -> str:
    cut = f", the first {kept:,} of them kept" if kept != size else ""
    return f"{size:,} bytes, {kind}{cut}"


def _newest(entries: Iterable[Entry], number: int, limit: int) -> list[Entry]:
    return list(islice(takewhile(lambda entry: _changed(entry) > number, entries), limit))


def _changed(entry: Entry) -> int:
    return entry.number if isinstance(entry, Frame | Refusal) else entry.changed
