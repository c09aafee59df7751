"""What README and docs show is true: their code runs, their commands exist, their links lead somewhere."""

import inspect
import json
import logging
import os
import re
import shlex
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import click
import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry

from signalr_upstream import (
    Context,
    ServiceClient,
    UpstreamApp,
    app,
    claims,
    duplicates,
    endpoints,
    entra,
    redis_duplicates,
)
from signalr_upstream.calls import after, stream_calls
from signalr_upstream.cli import main
from signalr_upstream.errors import ConfigurationError
from signalr_upstream.local import LocalService
from signalr_upstream.local.clients import (
    asgi_writer,
    client_connection,
    long_polling,
    negotiated,
    resumption,
    session,
)
from signalr_upstream.local.rest import api as local_rest
from signalr_upstream.local.upstream import delivery as local_upstream
from signalr_upstream.local.upstream.settings import read_settings
from signalr_upstream.prometheus import Prometheus
from signalr_upstream.protocol import rest, upstream
from signalr_upstream.protocol.path import DEFAULT_PATTERN
from signalr_upstream.rest import delivery, health, repeating, turns
from signalr_upstream.telemetry import Outcome
from signalr_upstream.testing import HubTester, StartHubTester
from signalr_upstream.transports import connection_pool

from .support import invoke, serve

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
EXAMPLES = sorted((ROOT / "examples").glob("*/README.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/ABCDE="

# Commands that no test runs, and what stands in for them.
NOT_RUN = {
    "az": "needs an Azure account",
    "docker": "needs an engine; the Dockerfile's steps are done by hand before a release",
    "curl": "needs the app in Azure; that an unsigned call is answered 401 is tested with the app",
    "python -m pip install": "scripts/chat does it, and .ci/run from nothing",
    "terraform": "needs an Azure account; tests/test_deploy_examples.py reads the file",
    "openssl": "makes a secret of a cluster",
    "kubectl": "needs a cluster; tests/test_deploy_examples.py reads the file",
    "cd": "goes to a folder, which exists",
    "npm ci": "scripts/chat does it",
}


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    for document in [*DOCUMENTS, *EXAMPLES]:
        for number, (language, code) in enumerate(BLOCK.findall(document.read_text()), start=1):
            if language in languages:
                yield f"{document.relative_to(ROOT)} #{number}", code


def named(found: Iterable[tuple[str, str]]) -> list[object]:
    return [pytest.param(code, id=name) for name, code in found]


def commands() -> Iterator[tuple[str, str]]:
    for name, code in blocks("sh"):
        for line in code.splitlines():
            yield f"{name}: {line[:60]}", line


@pytest.fixture
def _a_project(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the code of docs/mounting.md imports: its hub, and a project of Django."""
    modules = ("chat", "mysite", "mysite.settings", "mysite.urls")
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]  # which Litestar sets as it likes
    monkeypatch.syspath_prepend(ROOT / "tests" / "end_to_end" / "mounting")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "mysite.settings")
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    for name in modules:
        sys.modules.pop(name, None)


@pytest.fixture
def _hub_of_the_mounting_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module ``chat`` of docs/mounting.md."""
    module = ModuleType("chat")
    monkeypatch.setitem(sys.modules, "chat", module)
    code = next(code for name, code in blocks("python") if name.startswith("docs/mounting.md"))
    exec(compile(code, "chat.py", "exec"), module.__dict__)


@pytest.fixture
def _app_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module ``app`` that tests import: what the README says to save as ``app.py``."""
    module = ModuleType("app")
    monkeypatch.setitem(sys.modules, "app", module)
    code = next(code for _, code in blocks("python"))
    exec(compile(code, "app.py", "exec"), module.__dict__)


@pytest.mark.usefixtures("_a_project", "_app_of_the_readme")
@pytest.mark.parametrize("code", named(blocks("python")))
def test_python_code_runs(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AzureSignalRConnectionString", f"Endpoint=https://a.example;AccessKey={KEY};")
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)

    exec(compile(code, "shown.py", "exec"), module.__dict__)

    for value in vars(module).values():
        if isinstance(value, UpstreamApp):
            value.check_keys()


@pytest.mark.anyio
@pytest.mark.usefixtures("_app_of_the_readme", "_hub_of_the_mounting_guide")
@pytest.mark.parametrize("code", named(block for block in blocks("python") if "def test_" in block[1]))
async def test_tests_that_are_shown_pass(
    code: str, tmp_path: Path, hub_tester: StartHubTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixtures = {"tmp_path": tmp_path, "hub_tester": hub_tester}
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)
    exec(compile(code, "shown.py", "exec"), module.__dict__)
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]

    for test in tests:
        await test(**{name: fixtures[name] for name in inspect.signature(test).parameters})

    assert tests


@pytest.mark.anyio
@pytest.mark.usefixtures("_a_project", "_hub_of_the_mounting_guide")
@pytest.mark.parametrize(
    ("section", "is_found"),
    [
        ("Alone", True),
        ("Starlette", True),
        ("FastAPI", True),
        ("Litestar", False),
        ("Quart", False),
        ("Beside Django", True),
    ],
)
async def test_an_app_that_can_be_looked_into_is_tested_with_its_prefix_and_lifespan(
    section: str, is_found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "mounting.md").read_text().partition(f"\n## {section}\n")[2]
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)
    exec(compile(BLOCK.findall(text)[0][1], "shown.py", "exec"), module.__dict__)

    if not is_found:
        with pytest.raises(ConfigurationError, match="give the UpstreamApp itself"):
            HubTester(module.app)
        return
    async with HubTester(module.app) as hub:
        client = await hub.connect_via("/chat" if section == "Alone" else "/signalr/chat")

        assert await client.invoke("greeting") == "hello"


@pytest.mark.anyio
async def test_the_app_of_the_readme_sends_clients_to_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AzureSignalRConnectionString", f"Endpoint=https://a.example;AccessKey={KEY};")
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)
    code = next(code for _, code in blocks("python"))
    exec(compile(code, "shown.py", "exec"), module.__dict__)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(module.app), base_url="http://app.example"
    ) as client:
        answer = await client.post("/chat/negotiate?name=ann")

    assert answer.json()["url"] == "https://a.example/client/?hub=chat"


@pytest.mark.anyio
async def test_the_client_of_the_readme_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("shown")
    code = next(code for _, code in blocks("python") if "ServiceClient" in code)
    exec(compile(code, "shown.py", "exec"), module.__dict__)

    async with LocalService() as service:
        monkeypatch.setenv("AzureSignalRConnectionString", service.connection_string)
        await module.announce("Tea is ready.")


@pytest.mark.anyio
async def test_the_calls_of_the_clients_guide_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", shown)
    for name, code in blocks("python"):
        if name.startswith("docs/client.md"):
            exec(compile(code, "shown.py", "exec"), shown.__dict__)

    async with LocalService() as service, ServiceClient(service.connection_string) as client:
        monkeypatch.setenv("AzureSignalRConnectionString", service.connection_string)
        hub = client.hub("chat")
        await shown.announce("Tea is ready.")
        await shown.send(hub, shown.Message("lobby", "hello"))
        assert await shown.ask(hub, "nobody") is None
        await shown.merge_rooms(hub)

    assert {call.status for call in service.rest_calls} == {202, 404}
    assert service.rest_calls[1].body["arguments"] == [{"roomName": "lobby", "text": "hello"}]


@pytest.mark.parametrize(
    "text",
    [
        f"at most {delivery.MAX_IN_FLIGHT} requests under way",
        f"`timeout={delivery.TIMEOUT:g}` seconds",
        f"`total_timeout={delivery.TOTAL_TIMEOUT:g}`",
        f"up to {'four' if repeating.ATTEMPTS == 4 else ''} attempts",
        f"every {endpoints.ASK_EVERY:g} seconds",
        f"at most {'once' if endpoints.ASK_AT_MOST_EVERY == 1 else ''} a second",
        f"after {'two' if health.FAILURES == 2 else ''} calls in a row",
        f"every {'five' if health.LOOK_AGAIN_EVERY == 5 else ''} seconds",
        f"{'five' if entra.EARLY == 300 else ''} minutes before its end",
        f"tokens up to {claims.MAX_TOKEN_LENGTH:,} characters",
        f"at most {rest.MAX_BODY // 1_000_000} MB",
    ],
)
def test_limits_of_the_client_are_the_real_ones(text: str) -> None:
    assert text in " ".join((ROOT / "docs" / "client.md").read_text().split())


@pytest.mark.parametrize("line", named(commands()))
def test_shell_commands_exist(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)
    if words[0] == "signalr-upstream":
        command = main.commands[words[1]]
        # Parses every flag, and fails for one that does not exist; does not run the command.
        command.make_context(words[1], words[2:], parent=click.Context(main, **main.context_settings))
    elif words[0].startswith("scripts/"):
        assert (ROOT / words[0]).stat().st_mode & stat.S_IXUSR
    else:
        assert any(line.startswith(f"{known} ") or line == known for known in NOT_RUN), "who runs this?"


@pytest.mark.parametrize("text", named(blocks("json")))
def test_json_that_is_shown_is_json_and_settings_can_be_read(text: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(text)

    if "UpstreamSettings" in json.loads(text):
        assert read_settings(file)


@pytest.mark.anyio
async def test_the_guide_to_hubs_lists_all_that_a_context_has() -> None:
    async def go(ctx: Context) -> list[str]:
        return [name for name in dir(ctx) if not name.startswith("_")]

    has = (await invoke(serve(go), "go"))["result"]
    guide = (ROOT / "docs" / "hubs.md").read_text()
    table = guide.partition("## What `ctx` has\n")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\|(.*?) \| ", table, re.MULTILINE)
    listed = re.findall(r"`ctx\.(\w+)", "".join(first_cells))

    assert sorted(listed) == sorted(has)


def test_every_option_of_the_local_service_is_in_its_guide() -> None:
    text = (ROOT / "docs" / "local-service.md").read_text()

    for option in [*inspect.signature(LocalService).parameters][1:]:
        assert f"`{option}=" in text, option


@pytest.mark.parametrize("document", [*DOCUMENTS, *EXAMPLES], ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_a_file(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", [*DOCUMENTS, *EXAMPLES], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_a_document_lead_to_a_heading(document: Path) -> None:
    text = document.read_text()
    headings = [
        re.sub(r"[^\w -]", "", heading).replace(" ", "-").lower()
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    ]

    for target in re.findall(r"\]\(#([^)]+)\)", text):
        assert target in headings, target


@pytest.mark.parametrize("text", named(blocks("yaml")))
def test_alert_rules_and_the_table_name_metrics_and_outcomes_that_exist(text: str) -> None:
    registry = CollectorRegistry()
    Prometheus(registry)
    names = {sample.name for family in registry.collect() for sample in family.samples} | {
        f"{family.name}{end}"
        for family in registry.collect()
        for end in ("", *(("_total",) if family.type == "counter" else ()), "_bucket")
    }
    rules = yaml.safe_load(text)["groups"][0]["rules"]
    table = (ROOT / "docs" / "production.md").read_text()
    outcomes = {*Outcome, "failed", "unavailable"}

    assert len(rules) > 5
    for expression in [*(rule["expr"] for rule in rules), table]:
        assert set(re.findall(r"signalr_upstream_[a-z_]*[a-z]", expression)) <= names
        for choice in re.findall(r'outcome=~?"([^"]+)"', expression):
            assert outcomes.issuperset(choice.split("|"))


def test_every_outcome_is_explained() -> None:
    table = (ROOT / "docs" / "production.md").read_text().partition("\n| `outcome` of a call |")[2]
    rows = table.partition("\n\n")[0].splitlines()

    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(Outcome)


def test_the_guarantees_say_the_real_limits_of_duplicates() -> None:
    text = " ".join((ROOT / "docs" / "guarantees.md").read_text().split())

    assert f"the last {duplicates.KEEP:g} seconds" in text
    assert f"At most {duplicates.MAX_ENTRIES:,} answers and {duplicates.MAX_BYTES >> 20} MiB" in text
    assert f"takes over after {'ten' if redis_duplicates.LEASE == 10 else ''} seconds" in text
    assert f"does not answer a command within {redis_duplicates.TIMEOUT:g} seconds" in text
    assert f"for the next {redis_duplicates.PAUSE:g} seconds" in text


def test_azure_is_shown_the_default_path() -> None:
    text = (ROOT / "docs" / "azure.md").read_text()

    assert f"https://<app>{DEFAULT_PATTERN}" in text


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("message of a client", f"{session.MAX_MESSAGE >> 20} MiB"),
        (
            "body of a REST call",
            f"{rest.MAX_BODY // 1_000_000} MB, lenient {local_rest.LENIENT_MAX_BODY // 1_000_000} MB",
        ),
        ("answer of the app", f"{upstream.MAX_ANSWER >> 20} MiB, within {local_upstream.TIMEOUT:g} s"),
        (
            "handshake",
            f"{session.HANDSHAKE_TIMEOUT:g} s; then a ping after {session.KEEP_ALIVE_INTERVAL:g} s",
        ),
        ("handshake", f"gone after {session.CLIENT_TIMEOUT:g} s"),
        ("unread by a client", f"{asgi_writer.MAX_UNSENT >> 20} MiB"),
        (
            "from negotiate to connecting",
            f"{negotiated.NEGOTIATED_LIFETIME:g} s, lenient {negotiated.LENIENT_NEGOTIATED_LIFETIME:g} s",
        ),
        (
            "stateful reconnect",
            f"{resumption.RETURN_WINDOW:g} s to come back, {resumption.MAX_KEPT >> 20} MiB kept",
        ),
        (
            "long polling",
            f"after {long_polling.POLL_TIMEOUT:g} s; a client without a poll for "
            f"{long_polling.DISCONNECT_TIMEOUT:g} s",
        ),
        ("answer of a client to the app", f"{client_connection.INVOKE_TIMEOUT / 60:g} minutes"),
    ],
)
def test_limits_of_the_local_service_are_the_real_ones(row: str, value: str) -> None:
    text = (ROOT / "docs" / "local-service.md").read_text().partition("\n## Limits\n")[2]

    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row}")]
    assert value in line


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("calls at a time", f"{app.MAX_CONCURRENT_CALLS} (`max_concurrent_calls=`)"),
        ("time of a handler", f"{app.HANDLER_TIMEOUT:g} s"),
        ("time of a negotiate function", f"{app.HANDLER_TIMEOUT:g} s"),
        (
            "body of a call",
            f"{app.MAX_BODY_SIZE >> 20} MiB (`max_body_size=`), {app.BODY_TIMEOUT:g} s (`body_timeout=`)",
        ),
        ("calls with work behind", f"{after.MAX_AFTER:,}"),
        (
            "streams of generators",
            f"{stream_calls.MAX_STREAMS:,}, of one client {stream_calls.MAX_STREAMS_OF_CLIENT}",
        ),
        (
            "requests to the service",
            f"{connection_pool.MAX_CONNECTIONS}; clients that are asked {turns.MAX_ASKED}",
        ),
    ],
)
def test_limits_of_a_worker_are_the_real_ones(row: str, value: str) -> None:
    text = (ROOT / "docs" / "production.md").read_text().partition("\n## What a worker takes\n")[2]

    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row}")]
    assert value in line


def test_every_setting_that_is_named_is_a_flag() -> None:
    flags = {
        parameter.envvar or f"SIGNALR_UPSTREAM_{name}_{parameter.name}".upper()
        for name, command in main.commands.items()
        for parameter in command.params
    }

    for file in [ROOT / "Dockerfile", *DOCUMENTS]:
        for setting in re.findall(r"SIGNALR_UPSTREAM_(?:RUN|DEV|LOCAL)_\w+", file.read_text()):
            assert setting in flags


def test_the_dockerfile_copies_only_what_exists() -> None:
    for line in re.findall(r"^COPY (?!--from)(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        *sources, _ = line.replace("${APP_DIR}", "examples/chat").split()
        for source in sources:
            assert (ROOT / source).exists(), source


def test_the_lock_names_exact_versions_and_no_place_of_one_machine() -> None:
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
    ]

    assert len(lines) > 20
    for line in lines:
        assert re.match(r"^[a-z0-9-]+==[0-9][\w.]*( ;.*)?$", line), line
    assert os.sep not in "".join(lines)
