"""``signalr-upstream settings``: every form is read by something that is not its writer."""

import shlex
from pathlib import Path
from typing import Any

import hcl2
import pytest
from pycep import BicepParser

from signalr_upstream.local.upstream.settings import read_settings
from signalr_upstream.local.upstream.templates import UpstreamTemplate

from .conftest import Programs

APP = """\
from collections.abc import AsyncIterator

from signalr_upstream import Hub, UpstreamApp

chat, news, tenants = Hub("Chat"), Hub("news"), Hub("tenant_*")


@chat.on("connected")
@chat.on("sendMessage")
@chat.on("leave it's ${here}")
async def handler() -> None: ...


@news.on("disconnected")
async def gone() -> None: ...


@tenants.on("room.*")
async def room() -> None: ...


app = UpstreamApp(chat, news, Hub("quiet"), tenants)
"""
URL = "https://host.example/prefix"
TEMPLATE = "https://host.example/prefix/{hub}/{category}/{event}"
APPLICATION = "11111111-2222-3333-4444-555555555555"

EXPECTED = [
    UpstreamTemplate(TEMPLATE, hub="chat", category="connections", event="connected"),
    UpstreamTemplate(TEMPLATE, hub="chat", category="messages", event="*"),
    UpstreamTemplate(TEMPLATE, hub="news", category="connections", event="disconnected"),
    UpstreamTemplate(TEMPLATE, hub="*", category="messages", event="*"),
]


def settings(programs: Programs, form: str, *arguments: str, code: str = APP, url: str = URL) -> str:
    result = programs.run_on("settings", code, "--url", url, "--format", form, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("form", ["emulator", "arm"])
@pytest.mark.parametrize("identity", [None, "api://my-app"])
def test_the_local_service_reads_what_is_written(
    programs: Programs, tmp_path: Path, form: str, identity: str | None
) -> None:
    file = tmp_path / "settings.json"
    file.write_text(settings(programs, form, *(["--managed-identity", identity] if identity else [])))

    assert read_settings(file) == tuple(
        UpstreamTemplate(t.url, hub=t.hub, category=t.category, event=t.event, resource=identity)
        for t in EXPECTED
    )


def test_the_command_of_az_names_every_template(programs: Programs) -> None:
    words = shlex.split(settings(programs, "az").replace("\\\n", ""))

    assert words[:4] == ["az", "signalr", "upstream", "update"]
    given = " ".join(words).split(" --template ")[1:]
    assert given == [
        f"url-template={t.url} hub-pattern={t.hub} category-pattern={t.category} event-pattern={t.event}"
        for t in EXPECTED
    ]


def test_with_an_identity_az_sends_the_properties_themselves(programs: Programs, tmp_path: Path) -> None:
    words = shlex.split(settings(programs, "az", "--managed-identity", "api://my-app"))

    assert words[:4] == ["az", "rest", "--method", "patch"]
    assert "Microsoft.SignalRService/signalR/" in words[words.index("--url") + 1]
    file = tmp_path / "body.json"
    file.write_text(words[words.index("--body") + 1])
    assert [template.resource for template in read_settings(file)] == ["api://my-app"] * 4


def test_terraform_reads_its_blocks(programs: Programs) -> None:
    text = settings(programs, "terraform", "--managed-identity", APPLICATION, "--exact")

    blocks = [plain(block) for block in hcl2.loads(text)["upstream_endpoint"]]
    assert blocks == [
        {
            "category_pattern": [category],
            "event_pattern": events,
            "hub_pattern": [hub],
            "url_template": TEMPLATE,
            "user_assigned_identity_id": APPLICATION,
        }
        for hub, category, events in (
            ("chat", "connections", ["connected"]),
            ("chat", "messages", ["leave it's $${here}", "sendMessage"]),
            ("news", "connections", ["disconnected"]),
            ("*", "messages", ["*"]),
        )
    ]


def plain(value: Any) -> Any:
    """What python-hcl2 gives, without the quotes and marks it keeps."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.strip('"')


def test_without_an_identity_there_is_none_in_terraform_and_bicep(programs: Programs) -> None:
    assert "user_assigned_identity_id" not in settings(programs, "terraform")
    assert "auth" not in settings(programs, "bicep")


def test_an_app_that_wants_tokens_has_to_be_given_an_identity(programs: Programs) -> None:
    code = APP.replace(
        "from signalr", "from signalr_upstream.entra import EntraUpstream\nfrom signalr", 1
    ).replace(
        "tenants)\n",
        f"tenants, entra=EntraUpstream(tenant='{APPLICATION}', audience='api://a', identities=['{APPLICATION}']))\n",
    )

    result = programs.run_on("settings", code, "--url", URL)

    assert result.exit_code == 2, result.output
    assert "with --managed-identity" in result.output
    assert "resource: 'api://a'" in settings(programs, "bicep", "--managed-identity", "api://a", code=code)


def test_bicep_has_every_template_in_its_own_quotes(programs: Programs) -> None:
    text = settings(programs, "bicep", "--managed-identity", "api://it's", "--exact")

    resource = BicepParser().parse(text=f"resource a 'b@1' = {{\n{text}}}\n")["resources"]["a"]
    templates = resource["config"]["upstream"]["templates"]
    strings = [
        template[f"{name}Pattern"].replace("\\", "")
        for template in templates
        for name in ("hub", "category", "event")
    ]
    assert strings == [
        *("chat", "connections", "connected"),
        *("chat", "messages", "leave it's ${here},sendMessage"),
        *("news", "connections", "disconnected"),
        *("*", "messages", "*"),
    ]
    assert {template["auth"]["type"] for template in templates} == {"ManagedIdentity"}
    assert {template["auth"]["managedIdentity"]["resource"] for template in templates} == {"api://it\\'s"}
    assert text.count("'leave it\\'s \\${here},sendMessage'") == 1


def test_a_name_that_no_pattern_can_hold_takes_all(programs: Programs, tmp_path: Path) -> None:
    code = """\
from signalr_upstream import Hub, UpstreamApp
chat = Hub("chat")
@chat.on("a,b")
@chat.on("plain")
async def handler() -> None: ...
app = UpstreamApp(chat, application="Shop", path="/{hub}/api/{event}")
"""
    file = tmp_path / "settings.json"
    file.write_text(settings(programs, "emulator", "--exact", code=code, url="http://localhost:8080/"))

    assert read_settings(file) == (
        UpstreamTemplate("http://localhost:8080/{hub}/api/{event}", hub="shop_chat", category="messages"),
    )


def test_a_stream_is_to_end_with_its_client(programs: Programs) -> None:
    code = """\
from collections.abc import AsyncIterator
from signalr_upstream import Hub, UpstreamApp
chat = Hub("chat")
@chat.on("count")
async def count() -> AsyncIterator[int]:
    yield 1
app = UpstreamApp(chat, experimental_streams=True)
"""

    assert "hub-pattern=chat category-pattern=connections event-pattern=disconnected" in settings(
        programs, "az", code=code
    )


@pytest.mark.parametrize(
    "url",
    [
        *(
            "host.example",
            "ftp://host.example",
            "https://",
            "https://host.example/#x",
            "https://[::1",
            "https://[x]",
        ),
        *("https://host.example:x", "https://host.example:0", "https://[::1]:99999/"),
    ],
)
@pytest.mark.parametrize("command", ["settings", "check"])
def test_an_address_that_is_none_is_refused(programs: Programs, command: str, url: str) -> None:
    result = programs.run_on(command, APP, "--url", url)

    assert result.exit_code == 2
    assert "--url is the app's public address" in result.output


def test_terraform_takes_no_other_resource_than_an_id(programs: Programs) -> None:
    result = programs.run_on(
        "settings", APP, "--url", URL, "--format", "terraform", "--managed-identity", "api://my-app"
    )

    assert result.exit_code == 2
    assert "takes the application's id only, a UUID" in result.output


WITH_CODE = APP.replace("tenants)\n", "tenants, code='a-secret-of-the-url')\n")


def test_the_code_that_the_app_wants_has_to_be_in_the_address(programs: Programs) -> None:
    result = programs.run_on("settings", WITH_CODE, "--url", f"{URL}?zipcode=1")

    assert result.exit_code == 2
    assert "the app wants ?code=" in result.output
    assert "a-secret-of-the-url" not in result.output


def test_a_query_of_the_address_is_kept(programs: Programs) -> None:
    query = "?code={@Microsoft.KeyVault(SecretUri=https://v.example/secrets/s/)}"

    assert f"{TEMPLATE}{query}" in settings(programs, "emulator", code=WITH_CODE, url=URL + query)


def test_an_app_without_handlers_needs_no_call(programs: Programs) -> None:
    code = "from signalr_upstream import Hub, UpstreamApp\napp = UpstreamApp(Hub('chat'))\n"

    result = programs.run_on("settings", code, "--url", URL)

    assert result.exit_code == 1
    assert "no handler is registered" in result.output


def test_a_resource_that_is_empty_is_refused(programs: Programs) -> None:
    result = programs.run_on("settings", APP, "--url", URL, "--managed-identity", "")

    assert result.exit_code == 2
    assert "--managed-identity is empty" in result.output


def test_a_connection_that_no_hub_has_is_refused(programs: Programs) -> None:
    result = programs.run_on("settings", APP, "--url", URL, "--connection", "Nope")

    assert result.exit_code == 2
    assert "no hub has the connection 'Nope', but: AzureSignalRConnectionString" in result.output


def test_hubs_of_another_service_have_settings_of_their_own(programs: Programs) -> None:
    code = """\
from signalr_upstream import Hub, UpstreamApp
here, there = Hub("here"), Hub("there", connection="Other")
@here.on("say")
@there.on("say")
async def say() -> None: ...
app = UpstreamApp(here, there)
"""
    result = programs.run_on("settings", code, "--url", URL)

    assert result.exit_code == 2
    assert "say which with --connection: AzureSignalRConnectionString, Other" in result.output
    text = settings(programs, "az", "--connection", "Other", code=code)
    assert "hub-pattern=there" in text
    assert "hub-pattern=here" not in text
