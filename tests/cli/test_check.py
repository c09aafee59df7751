"""``signalr-upstream check``: everything it can find is provoked here, and says what to do."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from signalr_upstream import Hub, Identity, UpstreamApp
from signalr_upstream.cli.diagnosis import MAX_SKEW, examine
from signalr_upstream.cli.findings import NOBODY, NOTE, OK, PROBLEM, Finding
from signalr_upstream.cli.public_url import CONTENT_TYPE, ESCAPED_EVENT
from signalr_upstream.entra import EntraUpstream
from signalr_upstream.errors import ConnectError, DeliveryUnknown
from signalr_upstream.local import LocalService
from signalr_upstream.transports.transport import Answer
from tests.service import EAST, KEY, OTHER_KEY, WEST, Reply, Service

from .conftest import CONNECTION_STRING, Programs, Start, is_open

NOW = 1_700_000_000.0
URL = "https://public.example/prefix"
ABSENT = (404, "Warning.Connection.NotExisted")
SOMEBODY = "11111111-2222-3333-4444-555555555555"
SEAL_KEY = "s" * 44
ENTRA = "Endpoint=https://east.example;AuthType=azure.msi;"
KEYLESS = "Endpoint=https://east.example;Version=1.0;"


def anybody() -> Identity:
    return Identity.anonymous()


def app_of(connection_string: Any = EAST, *, hub: Hub | None = None, **options: Any) -> UpstreamApp:
    """An app with one handler, and negotiate, so that there is nothing to note."""
    if hub is None:
        hub = Hub("chat")
        hub.negotiate(anybody)
        hub.on("say")(lambda: None)
    return UpstreamApp(hub, connection_string=connection_string, **options)


async def look(
    app: UpstreamApp,
    *,
    reply: int | tuple[int, str] | Exception = ABSENT,
    at: float = NOW,
    date: str | None = None,
    public: Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
    | httpx.AsyncBaseTransport
    | None = None,
    url: str = URL,
) -> list[Finding]:
    """Look at an app whose service and public address are played."""
    status, code = reply if isinstance(reply, tuple) else (reply, "") if isinstance(reply, int) else (0, "")
    headers = [
        (b"date", (date or formatdate(NOW, usegmt=True)).encode()),
        (b"x-ms-error-code", code.encode()),
    ]
    answer: Reply = reply if isinstance(reply, Exception) else Answer(status, headers, b"")
    service = Service(lambda method, url: answer)
    transport = public if isinstance(public, httpx.AsyncBaseTransport | None) else httpx.MockTransport(public)
    http = httpx.AsyncClient(transport=transport) if transport is not None else None
    found = await examine([app], url if public else None, transport=service, http=http, clock=lambda: at)
    assert service.closed
    for finding in found:
        assert KEY not in repr(finding)
        assert bool(finding.advice) == (finding.outcome != OK) or finding.outcome == NOTE
    return found


def of(found: list[Finding], outcome: str = PROBLEM) -> list[str]:
    return [f"{finding.subject}: {finding.text}" for finding in found if finding.outcome == outcome]


def only_problem(found: list[Finding]) -> Finding:
    problems = [finding for finding in found if finding.outcome == PROBLEM]
    assert len(problems) == 1, found
    return problems[0]


def in_process(app: Any) -> httpx.ASGITransport:
    return httpx.ASGITransport(app)


# --- all is well ------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_app_that_is_well_has_no_problem() -> None:
    ran = []
    hub = Hub("chat")
    hub.negotiate(anybody)
    hub.on("*")(lambda: ran.append("*"))
    app = app_of(hub=hub)

    found = await look(app, public=in_process(app), url="https://public.example/")

    assert of(found) == []
    assert of(found, OK) == [
        "names of hub chat: 1 handlers",
        "configuration of hub chat: https://east.example (1 key)",
        "service https://east.example: it takes our token",
        "clock: within 60 seconds of the service's",
        "public address of hub chat: a call that is not signed is refused",
        "public address of hub chat: a signed call reaches the app",
        "public address of hub chat: an event that has to be escaped ('a/b c') reaches the app",
    ]
    assert found[-1].subject == "log of the app"
    assert ran == []  # no handler is run


@pytest.mark.anyio
async def test_a_family_and_an_application_are_called_by_whole_names() -> None:
    app = app_of(
        [EAST, f"Endpoint=https://east.example;AccessKey={OTHER_KEY};"], hub=Hub("t_*"), application="shop"
    )

    found = await look(app, public=in_process(app))

    assert of(found) == []
    assert "configuration of hub t_*: https://east.example (2 keys)" in of(found, OK)
    assert [finding.text for finding in found if finding.outcome == NOTE] == [
        "it has no handler",
        "it has no negotiate",
        "its warnings about connection 'signalr-upstream-check' are of these calls: they were answered 401 (not "
        "signed), and 404 or 415 (no handler takes them)",
    ]


@pytest.mark.anyio
async def test_what_it_leaves_in_the_log_names_its_connection_and_shows_no_handler_to_paste(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = app_of()

    await look(app, public=in_process(app))

    assert [record.getMessage().partition(" answered ")[2][:3] for record in caplog.records] == [
        "401",
        "404",
        "404",
    ]
    assert all(repr(NOBODY) in record.getMessage() for record in caplog.records)


@pytest.mark.anyio
async def test_each_endpoint_is_asked_once() -> None:
    hubs = [Hub("a"), Hub("b")]
    service = Service(lambda method, url: ABSENT)
    app = UpstreamApp(*hubs, connection_string=[EAST, WEST])

    found = await examine([app], None, transport=service)

    assert len(service.requests) == 2
    assert "public address: not looked at" in of(found, NOTE)
    assert not any("clock" in finding.subject for finding in found)  # no Date, no comparison


# --- configuration ----------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("connection_string", "says"),
    [
        ("", "No connection string is configured"),
        ("Endpoint=https://east.example;AccessKey=${KEY};", "is an unexpanded placeholder"),
        ("https://east.example", "missing required properties"),
        (ENTRA, "There is no usable access key"),
        ([EAST, "Endpoint=https://west.example;AccessKey=;"], "is empty"),
        (f"Endpoint=http://east.example;AccessKey={KEY};", "is not encrypted"),
    ],
)
async def test_a_connection_string_that_cannot_be_used(connection_string: Any, says: str) -> None:
    found = only_problem(await look(app_of(connection_string)))

    assert found.subject == "configuration of hub chat"
    assert says in found.text
    assert "into AzureSignalRConnectionString" in found.advice or "https://" in found.advice


def gives_none() -> str:
    return ""


@pytest.mark.anyio
async def test_a_function_that_gives_no_connection_string() -> None:
    found = only_problem(await look(app_of(gives_none)))
    assert found.text == "the function that gives the connection string gives none"
    assert "the function of connection_string=" in found.advice

    named = Hub("chat", connection="OtherConnection")
    named.negotiate(anybody)
    named.on("say")(lambda: None)
    found = only_problem(await look(app_of(gives_none, hub=named)))
    assert "set OtherConnection" in found.text
    assert "into OtherConnection" in found.advice


@pytest.mark.anyio
async def test_tokens_of_an_endpoint_that_the_app_does_not_have() -> None:
    trusted = EntraUpstream(
        tenant=SOMEBODY, audience="api://a", identities=[SOMEBODY], endpoint="https://eats.example"
    )

    found = only_problem(await look(app_of(entra=trusted)))

    assert "no endpoint of this app: https://eats.example" in found.text
    assert "arguments of UpstreamApp" in found.advice


@pytest.mark.anyio
async def test_insecure_is_a_problem() -> None:
    assert "insecure=True" in only_problem(await look(app_of(insecure=True))).text


@pytest.mark.anyio
@pytest.mark.parametrize("event", [" say", "say ", "a\nb", "a\x7f"])
async def test_an_event_that_no_header_can_hold(event: str) -> None:
    hub = Hub("chat")
    hub.negotiate(anybody)
    hub.on(event)(lambda: None)

    found = only_problem(await look(app_of(hub=hub)))

    assert f"no call can have the event {event!r}" in found.text
    assert "test_check.py:" in found.text


# --- the service ------------------------------------------------------------------------------------------


class Credential:
    """Gives a token, or does not."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def get_token(self, *scopes: str) -> Any:
        if self.token is None:
            raise RuntimeError("no identity here")
        return type("Token", (), {"token": self.token, "expires_on": NOW * 2})


def entra_app(token: str | None = "t") -> UpstreamApp:
    return app_of(KEYLESS, credential=Credential(token), upstream_keys=[KEY], seal_key=SEAL_KEY)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "says", "advice"),
    [
        (401, "401", "copy the connection string anew"),
        (403, "403", "allow this machine in the resource's Networking"),
        (404, "404", "something else answers"),
        (500, "500", "look at the resource's health"),
        (ConnectError("no such host"), "no such host", "look at the name in Endpoint="),
        (DeliveryUnknown("no answer in time"), "no answer", "it does not answer in time"),
    ],
)
async def test_a_service_that_does_not_take_our_call(reply: Any, says: str, advice: str) -> None:
    found = only_problem(await look(app_of(), reply=reply))

    assert found.subject == "service https://east.example"
    assert says in found.text
    assert advice in found.advice


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("token", "reply", "advice"),
    [
        ("t", 403, "the role 'SignalR Service Owner'"),
        ("t", 401, "the identity's tenant"),
        (None, 202, "give the app an identity"),
    ],
)
async def test_an_identity_that_may_not_call(token: str | None, reply: int, advice: str) -> None:
    assert advice in only_problem(await look(entra_app(token), reply=reply)).advice


@pytest.mark.anyio
async def test_an_identity_that_may_call() -> None:
    app = entra_app()

    found = await look(app, public=in_process(app))

    assert of(found) == []
    assert "configuration of hub chat: https://east.example (Entra ID)" in of(found, OK)
    # The key that calls are signed with is in upstream_keys=.
    assert "public address of hub chat: a signed call reaches the app" in of(found, OK)
    assert any("has to be escaped" in text for text in of(found, OK))


@pytest.mark.anyio
async def test_negotiate_of_an_identity_needs_a_seal_key() -> None:
    found = only_problem(await look(app_of(ENTRA, upstream_keys=[KEY])))

    assert found.text.startswith("seal_key is missing")
    assert "arguments of UpstreamApp" in found.advice


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("off", "word"), [(MAX_SKEW + 1, "61 seconds ahead of"), (-3600, "3600 seconds behind")]
)
async def test_a_clock_that_is_wrong(off: float, word: str) -> None:
    found = only_problem(await look(app_of(), at=NOW + off))

    assert (found.subject, found.text) == ("clock", f"this machine is {word} the service")


@pytest.mark.anyio
async def test_a_date_that_is_none_is_not_compared() -> None:
    assert "clock" not in [finding.subject for finding in await look(app_of(), date="yesterday")]


@pytest.mark.anyio
@pytest.mark.parametrize("setting", [EAST, KEYLESS])
async def test_an_app_that_wants_tokens_is_not_called_with_a_signature_alone(setting: str) -> None:
    trusted = EntraUpstream(tenant=SOMEBODY, audience="api://a", identities=[SOMEBODY])
    app = app_of(setting, entra=trusted, credential=Credential("t"), seal_key=SEAL_KEY)

    found = await look(app, public=in_process(app))

    assert of(found) == []
    assert any("which only the service is given" in text for text in of(found, NOTE))


# --- the public address -----------------------------------------------------------------------------------


def always(
    status: int, *, ours: str | None = None
) -> Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]:
    """Something that answers every call like this; ``ours`` is the detail of a problem as the app writes it."""

    async def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["content-type"] == CONTENT_TYPE
        if ours is None:
            return httpx.Response(status, text="<html>")
        content = json.dumps({"status": status, "detail": ours})
        return httpx.Response(status, content=content, headers={"content-type": "application/problem+json"})

    return answer


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("public", "says", "advice"),
    [
        (always(204), "a call that is not signed is answered 204", "anybody can call its handlers"),
        (
            always(404, ours="x"),
            "is answered 404, as if it were",
            "remove insecure=True from what is deployed",
        ),
        (
            always(503, ours="set the key"),
            "the app serves nothing: set the key",
            "give it a connection string",
        ),
        (always(301), "something in between answers 301", "without a redirect"),
        (always(308), "something in between answers 308", "without a redirect"),
        (always(401), "something in between answers 401", "the platform's own login"),
        (always(403), "something in between answers 403", "service tag AzureSignalR"),
        (always(404), "something in between answers 404", "compare prefix and path"),
        (always(405), "something in between answers 405", "takes no POST"),
        (always(418), "something in between answers 418", "in the app's place"),
        (always(503), "something in between answers 503", "the app does not run"),
    ],
)
async def test_an_answer_that_is_not_the_apps_refusal(public: Any, says: str, advice: str) -> None:
    found = only_problem(await look(app_of(), public=public))

    assert says in found.text
    assert advice in found.advice


@pytest.mark.anyio
async def test_an_address_that_cannot_be_reached() -> None:
    async def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert "no answer: ConnectError" in only_problem(await look(app_of(), public=refuse)).text


@pytest.mark.anyio
async def test_an_insecure_app_behind_the_address_is_found() -> None:
    deployed = app_of(insecure=True)

    assert (
        "is answered 404, as if it were"
        in only_problem(await look(app_of(), public=in_process(deployed))).text
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("deployed", "says", "advice"),
    [
        ({"connection_string": WEST}, "the signature is missing or wrong", "the deployed app has other keys"),
        ({"code": "secret-of-the-url"}, "does the upstream URL have its code=?", "another code="),
        ({"path": "/{hub}/api/{category}/{event}"}, "path", "a proxy rewrites the path"),
    ],
)
async def test_a_signed_call_that_the_deployed_app_refuses(
    deployed: dict[str, Any], says: str, advice: str
) -> None:
    found = only_problem(await look(app_of(), public=in_process(app_of(**deployed))))

    assert says in found.text
    assert advice in found.advice


@pytest.mark.anyio
async def test_a_gateway_that_answers_signed_calls_is_found() -> None:
    app = in_process(app_of())

    async def gateway(request: httpx.Request) -> httpx.Response:
        if "x-asrs-signature" in request.headers:
            return httpx.Response(200)
        return await app.handle_async_request(request)

    found = only_problem(await look(app_of(), public=gateway))

    assert "a signed call is answered 200, as the app would not" in found.text


@pytest.mark.anyio
async def test_a_gateway_that_fails_at_the_second_call_is_found() -> None:
    app = in_process(app_of())

    async def gateway(request: httpx.Request) -> httpx.Response:
        if "x-asrs-signature" in request.headers:
            raise httpx.ReadTimeout("")
        return await app.handle_async_request(request)

    assert "no answer: ReadTimeout" in only_problem(await look(app_of(), public=gateway)).text


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer", [httpx.Response(400, text="Bad Request"), httpx.Response(404, text="<html>")]
)
async def test_a_proxy_that_takes_no_escaped_slash_is_found(answer: httpx.Response) -> None:
    app = in_process(app_of())

    async def proxy(request: httpx.Request) -> httpx.Response:
        if b"%2F" in request.url.raw_path:
            return answer
        return await app.handle_async_request(request)

    found = only_problem(await look(app_of(), public=proxy))

    assert (
        f"the event {ESCAPED_EVENT!r}, escaped as a%2Fb%20c, does not: status {answer.status_code}"
        in found.text
    )
    assert "nginx" in found.advice


# --- the command ------------------------------------------------------------------------------------------

APP = """\
from signalr_upstream import Hub, UpstreamApp
chat = Hub("chat")
@chat.on("say")
async def say() -> None: ...
app = UpstreamApp(chat)
"""


def test_a_problem_is_an_exit_status_for_people_and_programs(programs: Programs) -> None:
    text = programs.run_on("check", APP)
    parsed = programs.run_on("check", APP, "--json")

    assert (text.exit_code, parsed.exit_code) == (1, 1)
    assert "PROBLEM  configuration of hub chat: No connection string is configured" in text.output
    assert "\n         -> copy a connection string of the resource" in text.output
    findings = json.loads(parsed.output)
    assert [finding["outcome"] for finding in findings] == ["note", "ok", "PROBLEM", "note"]
    assert list(findings[0]) == ["outcome", "subject", "text", "advice"]


@pytest.mark.parametrize("url", ["https://public.example/\na", "https://xn--/"])
def test_an_address_that_only_a_call_shows_to_be_none_is_refused(programs: Programs, url: str) -> None:
    connection_string = "Endpoint=http://127.0.0.1:1;AccessKey=" + KEY

    result = programs.run_on("check", APP, "--url", url, AzureSignalRConnectionString=connection_string)

    assert result.exit_code == 2
    assert "--url" in result.output


@pytest.mark.anyio
async def test_an_app_that_runs_beside_a_service_is_well(start: Start, port: int) -> None:
    async with LocalService(upstream=f"http://127.0.0.1:{port}/{{hub}}/{{category}}/{{event}}") as service:
        environment = {"AzureSignalRConnectionString": service.connection_string}
        server = start("run", "app:app", "--port", str(port), **environment)
        server.read_until("Uvicorn running on")
        assert is_open(port)

        command = start("check", "app:app", "--url", f"http://127.0.0.1:{port}", **environment)
        status = await asyncio.to_thread(command.wait)

    assert status == 0, command.output
    assert command.output.count("ok ") == 7
    assert CONNECTION_STRING not in command.output
