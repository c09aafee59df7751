"""Settings files of Microsoft's emulator and of Azure's resource manager, and what is said of broken ones."""

import asyncio
import contextlib
import logging
import sys
from pathlib import Path

import pytest

from signalr_upstream.errors import ConfigurationError
from signalr_upstream.local import LocalService, UpstreamTemplate
from signalr_upstream.local.upstream.rules import Rules
from signalr_upstream.local.upstream.settings import find_settings, read_settings

# reference/local-service-and-clients 1.1: what `asrs-emulator upstream init` writes
EMULATOR = (
    '{"UpstreamSettings":{"Templates":[{"UrlTemplate":"http://localhost:7071/runtime/webhooks/signalr",'
    '"EventPattern":"*","HubPattern":"*","CategoryPattern":"*"}]}}'
)
ARM = """
{
  "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
  "resources": [
    {"type": "Microsoft.Web/sites", "properties": {"siteConfig": {}}},
    {
      "type": "Microsoft.SignalRService/signalR",
      "name": "[parameters('name')]",
      "properties": {
        "features": [{"flag": "ServiceMode", "value": "Serverless"}],
        "upstream": {
          "templates": [
            {
              "hubPattern": "chat",
              "eventPattern": "connected,disconnected",
              "categoryPattern": "connections",
              "urlTemplate": "https://app.example/{hub}",
              "auth": {"type": "ManagedIdentity", "managedIdentity": {"resource": "api://my-app"}}
            },
            {"urlTemplate": "https://app.example/other", "auth": {"type": "None"}},
            {"urlTemplate": "https://app.example/third", "eventPattern": null, "auth": null}
          ]
        }
      }
    }
  ]
}
"""


def read(folder: Path, text: str) -> tuple[UpstreamTemplate, ...]:
    file = folder / "settings.json"
    file.write_text(text)
    return read_settings(file)


def test_the_emulators_file_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, EMULATOR) == (UpstreamTemplate("http://localhost:7071/runtime/webhooks/signalr"),)


def test_keys_count_in_any_case_and_comments_and_last_commas_do_not_count(tmp_path: Path) -> None:
    text = """\ufeff// for the chat
    {"upstreamsettings": /* all */ {"TEMPLATES": [
        {"urltemplate": "http://localhost/a,]//b", "EVENTPATTERN": "a",}, // first
        {"UrlTemplate": "http://localhost/\\"c,}", } /* second */,
    ]},}
    """

    assert read(tmp_path, text) == (
        UpstreamTemplate("http://localhost/a,]//b", event="a"),
        UpstreamTemplate('http://localhost/"c,}'),
    )


TEMPLATES_OF_ARM = (
    UpstreamTemplate(
        "https://app.example/{hub}",
        hub="chat",
        category="connections",
        event="connected,disconnected",
        resource="api://my-app",
    ),
    UpstreamTemplate("https://app.example/other"),
    UpstreamTemplate("https://app.example/third", event=None),
)


def test_an_arm_template_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, ARM) == TEMPLATES_OF_ARM


def test_a_resource_by_itself_and_one_with_a_symbolic_name_are_read(tmp_path: Path) -> None:
    resource = '{"Properties": {"Upstream": {"Templates": [{"UrlTemplate": "http://x"}]}}}'

    assert read(tmp_path, resource) == (UpstreamTemplate("http://x"),)
    # Bicep's newer output names the resources.
    assert read(tmp_path, f'{{"resources": {{"signalr": {resource}}}}}') == (UpstreamTemplate("http://x"),)


def test_no_templates_are_no_error(tmp_path: Path) -> None:
    assert read(tmp_path, '{"UpstreamSettings": {"Templates": []}}') == ()


TEMPLATE = '{"UpstreamSettings":\n {"Templates": [\n  {"UrlTemplate": "http://x"},\n  %s\n]}}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{\n  'a': 1}", "line 2, column 3: Expecting property name"),
        ("{}\nx", "line 2, column 1: Extra data"),
        ("\n[]", "line 2: there is neither UpstreamSettings.Templates nor properties.upstream.templates"),
        ('{"UpstreamSettings": {}}', "there is neither"),
        ('{"Templates": []}', "there is neither"),
        (
            '{"UpstreamSettings": {"Templates": []},\n"properties": {"upstream": {"templates": []}}}',
            "line 2, properties.upstream.templates: these are the templates of a second service",
        ),
        ('{"UpstreamSettings": {"Templates": {}}}', "UpstreamSettings.Templates: this has to be a list"),
        (TEMPLATE % "7", "line 4, UpstreamSettings.Templates[1]: this has to be an object"),
        (TEMPLATE % '{"HubPattern": "x"}', "line 4, UpstreamSettings.Templates[1]: a template needs a UrlTemplate"),
        (TEMPLATE % '{"UrlTemplate": null}', "needs a UrlTemplate"),
        (TEMPLATE % '{"UrlTemplate": 7}', "line 4, UpstreamSettings.Templates[1].UrlTemplate: this has to be a str"),
        (
            TEMPLATE % '{"HubPattern": "*",\n "UrlTemplate": "not a url/{hub}"}',
            "line 5, UpstreamSettings.Templates[1].UrlTemplate: the URL template of an upstream is no http",
        ),
        (TEMPLATE % '{"UrlTemplate": "http://x", "EventPattern": ["a"]}', "Templates[1].EventPattern: this has"),
        (TEMPLATE % '{"UrlTemplate": "http://x", "Auth": "None"}', "Templates[1].Auth: this has to be an object"),
        (
            TEMPLATE % '{"UrlTemplate": "http://x", "Auth": {\n"Type": "Basic"}}',
            "line 5, UpstreamSettings.Templates[1].Auth.Type: the type is None or ManagedIdentity",
        ),
        (TEMPLATE % '{"UrlTemplate": "http://x", "Auth": {"Type": "managedidentity"}}', "needs a Resource"),
        (
            TEMPLATE
            % '{"UrlTemplate": "http://x", "Auth": {"Type": "ManagedIdentity", "ManagedIdentity": {"Resource": ""}}}',
            "Templates[1].Auth: a ManagedIdentity needs a Resource",
        ),
        ("[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, text)

    assert str(refused.value).startswith(str(tmp_path / "settings.json"))
    assert said in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe9"}')

    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_settings(tmp_path / "latin.json")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_settings(tmp_path)


def test_a_key_that_is_not_known_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(tmp_path, TEMPLATE % '{"UrlTemplate": "http://x",\n "EvenPattern": "a"}')

    assert "line 5, UpstreamSettings.Templates[1].EvenPattern: the key is not known" in caplog.text


def test_a_folder_stands_for_the_settings_in_it(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(EMULATOR)

    assert find_settings(tmp_path) == file
    assert find_settings(file) == file
    assert len(Rules(tmp_path).templates) == 1
    with pytest.raises(
        ConfigurationError, match=r"no settings file .*nowhere and no .*nowhere/settings\.json"
    ):
        Rules(tmp_path / "nowhere")


def test_without_the_extra_the_way_to_install_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.json").write_text(EMULATOR)
    monkeypatch.setitem(sys.modules, "watchfiles", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'signalr-upstream\[local\]'"):
        Rules(tmp_path).start()


class Said(logging.Handler):
    """Waits for a line of the service's log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put_nowait(record.getMessage())

    async def until(self, text: str) -> str:
        while text not in (line := await self.lines.get()):
            pass
        return line


@pytest.mark.anyio
async def test_a_file_that_changes_is_read_again_and_one_that_breaks_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "signalr_upstream.local")
    said = Said()
    logger = logging.getLogger("signalr_upstream.local")
    logger.addHandler(said)
    file = tmp_path / "settings.json"
    file.write_text(EMULATOR)

    async with LocalService(upstream=file) as service:
        current = "Current Upstream Settings:\n"
        while not service.upstream_templates[0].url.endswith("7072/runtime/webhooks/signalr"):
            # Until the system's watch is set up, changes are not seen.
            (tmp_path / "new").write_text(EMULATOR.replace("7071", "7072"))
            (tmp_path / "new").replace(file)
            with contextlib.suppress(TimeoutError):
                line = await asyncio.wait_for(said.lines.get(), 1.0)
                pattern = "(event:'*',hub:'*',category:'*')"
                assert line == f"{current}[0]http://localhost:7072/runtime/webhooks/signalr{pattern}"
        file.write_text("{")
        broken = await said.until("stay in force")
        assert f"{file}, line 1, column 2" in broken
        assert [template.event for template in service.upstream_templates] == ["*"]
        file.write_text('{"UpstreamSettings": {"Templates": []}}')
        assert await said.until("No upstream") == f"{current}No upstream is set."
        assert not service.upstream_templates
    logger.removeHandler(said)
