"""Call an app through its public address, as the service would, without running a handler.

The calls are signed and of a content type that no handler takes, so a good answer is a refusal after all that the
service's calls have to pass: 404 (no such handler) or 415 (a catch-all).
"""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import click
import httpx

from ..app import UpstreamApp
from ..auth import sign_connection
from ..calls.routing import CHECK_EVENTS
from ..hubs.hub import Hub
from ..protocol.path import expand_template
from ..protocol.upstream import MESSAGES
from .findings import NOBODY, NOTE, OK, PROBLEM, Finding
from .upstream_settings import path_of, template_url

PLAIN_EVENT, ESCAPED_EVENT = CHECK_EVENTS

CONTENT_TYPE: Final = "application/x-signalr-upstream-check"
_PASSED: Final = (404, 415)
_OURS: Final = "application/problem+json"

LOGGED: Final = Finding(
    NOTE,
    "log of the app",
    f"its warnings about connection {NOBODY!r} are of these calls: they were answered 401 (not signed), and "
    f"{' or '.join(map(str, _PASSED))} (no handler takes them)",
)
"""What is said when calls have reached the app."""

_NOT_THE_APP: Final = {
    301: "POST has to reach the app without a redirect: write https://, and no slash too many or too few",
    403: "a gateway, an IP restriction or the platform's own login: let the service through (service tag AzureSignalR)",
    404: "compare prefix and path with the app's: something else answers at this address",
    405: "something in between takes no POST at this address",
    502: "the app does not run, or listens elsewhere: its log says why",
}


async def call_as_service(
    app: UpstreamApp, hub: Hub[Any], url: str, caller: httpx.AsyncClient
) -> list[Finding]:
    """An unsigned call, a signed one, and one whose event has to be escaped."""
    name = hub.name[:-1] + "check" if hub.is_family else hub.name.lower()
    wire_name = app.services.name_of(name).lower()
    template = template_url(url, path_of(app))
    subject = f"public address of hub {hub.name}"

    async def call(event: str, key: str | None) -> httpx.Response | Finding:
        target = expand_template(template, hub=wire_name, category=MESSAGES, event=event)
        try:
            return await caller.post(target, headers=dict(_headers(wire_name, event, key)), content=b"{}")
        except (httpx.InvalidURL, UnicodeError) as exc:  # the latter of a name that is no IDNA
            raise click.UsageError(f"--url: {exc}") from exc
        except httpx.HTTPError as exc:
            return Finding(
                PROBLEM,
                subject,
                f"no answer: {type(exc).__name__}",
                "look at the name, its certificate, and whether it can be reached from the internet",
            )

    unsigned = await call(PLAIN_EVENT, None)
    if isinstance(unsigned, Finding):
        return [unsigned]
    found = [_judge_unsigned(subject, unsigned)]
    if not _is_ours(unsigned) or unsigned.status_code != 401:
        return found
    if app.services.wants_tokens:
        why = (
            "calls have to bring an Entra ID token, which only the service is given: none was made that does"
        )
        return [*found, Finding(NOTE, subject, why)]
    # There is one: an app that can prove its calls with neither token nor key has not come so far.
    key = app.services.client_of(hub).endpoints.upstream_keys[0]
    for event, judge in ((PLAIN_EVENT, _judge_signed), (ESCAPED_EVENT, _judge_escaped)):
        answer = await call(event, key)
        found.append(answer if isinstance(answer, Finding) else judge(subject, answer))
        if found[-1].outcome == PROBLEM:
            break
    return found


def _headers(hub: str, event: str, key: str | None) -> Iterator[tuple[str, str]]:
    yield "X-ASRS-Connection-Id", NOBODY
    yield "X-ASRS-Hub", hub
    yield "X-ASRS-Category", MESSAGES
    yield "X-ASRS-Event", event
    yield "Content-Type", CONTENT_TYPE
    if key is not None:
        yield "X-ASRS-Signature", sign_connection(NOBODY, [key])


def _is_ours(answer: httpx.Response) -> bool:
    return str(answer.headers.get("content-type", "")).startswith(_OURS)


def _said(answer: httpx.Response) -> str:
    """What our own problem answers say; nothing of what others do."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _judge_unsigned(subject: str, answer: httpx.Response) -> Finding:
    status = answer.status_code
    if _is_ours(answer):
        if status == 401:
            return Finding(OK, subject, "a call that is not signed is refused")
        if status == 503:
            return Finding(
                PROBLEM, subject, f"the app serves nothing: {_said(answer)}", "give it a connection string"
            )
        return Finding(
            PROBLEM,
            subject,
            f"a call that is not signed is answered {status}, as if it were",
            "remove insecure=True from what is deployed: anybody can call its handlers",
        )
    if 200 <= status < 300:
        return Finding(
            PROBLEM,
            subject,
            f"a call that is not signed is answered {status}",
            "is it this app that answers? If it is, it runs with insecure=True, and anybody can call its handlers",
        )
    kind = 301 if 300 <= status < 400 else 502 if status >= 500 else 403 if status == 401 else status
    advice = _NOT_THE_APP.get(kind, "something in between answers in the app's place")
    return Finding(PROBLEM, subject, f"not the app but something in between answers {status}", advice)


def _judge_signed(subject: str, answer: httpx.Response) -> Finding:
    status = answer.status_code
    if _is_ours(answer) and status in _PASSED:
        return Finding(OK, subject, "a signed call reaches the app")
    if _is_ours(answer) and status == 401:
        return Finding(
            PROBLEM,
            subject,
            f"a signed call is refused: {_said(answer)}",
            "the deployed app has other keys, or another code=, than the environment of this command and --url; or a "
            "gateway in between takes X-ASRS-Signature away",
        )
    if _is_ours(answer) and status == 400:
        return Finding(
            PROBLEM,
            subject,
            f"a signed call is refused: {_said(answer)}",
            "a proxy rewrites the path or the X-ASRS headers, or path= of the deployed app is another",
        )
    return Finding(
        PROBLEM,
        subject,
        f"a signed call is answered {status}, as the app would not",
        "a gateway in between drops or answers it: let the X-ASRS headers and every content type through",
    )


def _judge_escaped(subject: str, answer: httpx.Response) -> Finding:
    if _is_ours(answer) and answer.status_code in _PASSED:
        return Finding(OK, subject, f"an event that has to be escaped ({ESCAPED_EVENT!r}) reaches the app")
    return Finding(
        PROBLEM,
        subject,
        f"the event {ESCAPED_EVENT!r}, escaped as {quote(ESCAPED_EVENT, safe='')}, does not: {_said(answer)}",
        "a proxy decodes or refuses %2F: let it pass the path as it comes (nginx: proxy_pass without a path; Apache: "
        "AllowEncodedSlashes NoDecode), or use plain event names",
    )
