"""examples/deploy: Kubernetes' own schemas, a parser of Bicep and one of Terraform's language read what is there, and
what it says agrees with the app and with ``signalr-upstream run``.

Nothing here knows Azure's schemas. Attribute names of the Terraform resources were compared by hand with those of the
provider (@cdktf/provider-azurerm 14).
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import hcl2
import httpx
import kubernetes_validate
import pytest
import yaml
from pycep import BicepParser

from signalr_upstream import UpstreamApp
from signalr_upstream.cli import main
from signalr_upstream.cli.apps import import_apps
from signalr_upstream.cli.serving import Serving
from signalr_upstream.cli.upstream_settings import Rule, rules_for
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.local import LocalService

FOLDER = Path(__file__).parent.parent / "examples" / "deploy"
SOMEBODY = "11111111-2222-3333-4444-555555555555"
VERSION = "1.31"
SETTINGS = {
    "AzureSignalRConnectionString",
    "TENANT",
    "AUDIENCE",
    "SIGNALR_IDENTITY",
    "SEAL_KEY_FILE",
    "CORS_ORIGINS",
}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UpstreamApp:
    """The app of the examples, with the environment that they give it."""
    (tmp_path / "seal-key").write_text("s" * 32 + "\n")
    monkeypatch.setenv("SEAL_KEY_FILE", str(tmp_path / "seal-key"))
    for name in ("TENANT", "AUDIENCE", "SIGNALR_IDENTITY"):
        monkeypatch.setenv(name, SOMEBODY)
    monkeypatch.setenv(
        "AzureSignalRConnectionString", "Endpoint=https://a.example;AuthType=azure.msi;ClientId=x;"
    )
    monkeypatch.setenv("CORS_ORIGINS", "https://page.example https://other.example")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "deployed.py").write_text((FOLDER / "app.py").read_text())
    monkeypatch.delitem(sys.modules, "deployed", raising=False)
    [found] = import_apps("deployed:app", str(tmp_path))
    return found


@pytest.fixture
def bicep() -> Any:
    return BicepParser().parse(text=(FOLDER / "container-apps" / "main.bicep").read_text())


@pytest.fixture
def terraform() -> dict[str, Any]:
    """The resources, by type."""
    found = plain(hcl2.loads((FOLDER / "terraform" / "main.tf").read_text()))
    return {kind: one["this"] for resource in found["resource"] for kind, one in resource.items()}


@pytest.fixture
def kubernetes() -> dict[str, Any]:
    documents = list(yaml.safe_load_all((FOLDER / "kubernetes" / "app.yaml").read_text()))
    return {document["kind"]: document for document in documents}


def plain(value: Any) -> Any:
    """What python-hcl2 gives, without the quotes and marks it keeps."""
    if isinstance(value, dict):
        return {key.strip('"'): plain(item) for key, item in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


def default_of(flag: str) -> Any:
    command = main.commands["run"]
    return next(p.default for p in command.params if isinstance(p, click.Option) and p.name == flag)


# --- the app ----------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_app_works_with_what_it_is_given(app: UpstreamApp) -> None:
    app.check_keys()  # tokens are the proof: there is no key

    async with LocalService(app, port=None) as service:
        ann = await service.connect_via("/chat?name=ann")
        await ann.send("sendMessage", "hello")

        assert await ann.receive() == ("newMessage", ["ann", "hello"])


@pytest.mark.anyio
async def test_no_unsigned_and_no_tokenless_call_is_taken(app: UpstreamApp) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="https://app.example"
    ) as client:
        answer = await client.post("/chat/messages/sendMessage", headers={"X-ASRS-Connection-Id": "c1"})

    assert answer.status_code == 401


# --- what the examples say of the service -----------------------------------------------------------------


def expected(app: UpstreamApp, host: str) -> list[Rule]:
    return rules_for([app], f"https://${{{host}}}", exact=False, resource="audience")


def test_bicep_has_the_upstream_settings_of_the_app(app: UpstreamApp, bicep: Any) -> None:
    properties = bicep["resources"]["signalr"]["config"]["properties"]

    found = [
        Rule(
            template["urlTemplate"],
            template["hubPattern"],
            template["categoryPattern"],
            template["eventPattern"],
            template["auth"]["managedIdentity"]["resource"],
        )
        for template in properties["upstream"]["templates"]
    ]
    assert found == expected(app, "host")
    assert properties["features"] == [{"flag": "ServiceMode", "value": "Serverless"}]
    assert properties["disableLocalAuth"] is True


def test_terraform_has_the_upstream_settings_of_the_app(app: UpstreamApp, terraform: dict[str, Any]) -> None:
    service = terraform["azurerm_signalr_service"]

    found = [
        Rule(
            block["url_template"],
            ",".join(block["hub_pattern"]),
            ",".join(block["category_pattern"]),
            ",".join(block["event_pattern"]),
            block["user_assigned_identity_id"].removeprefix("${var.").removesuffix("}"),
        )
        for block in service["upstream_endpoint"]
    ]
    assert found == expected(app, "local.host")
    assert service["service_mode"] == "Serverless"
    assert service["local_auth_enabled"] is False


# --- what they say of the app -----------------------------------------------------------------------------


def check_connection_string(text: str) -> None:
    endpoint = parse_connection_string(re.sub(r"\$\{[^}]*\}|<[^>]*>", "x", text))
    assert endpoint.keys == ()
    assert endpoint.credential is not None


def check_grace(seconds: float) -> None:
    assert (
        seconds
        >= Serving(
            app="", drain_delay=default_of("drain_delay"), drain_timeout=default_of("drain_timeout")
        ).longest_end
    )


def test_the_container_app_of_bicep(bicep: Any) -> None:
    properties = bicep["resources"]["app"]["config"]["properties"]
    template = properties["template"]
    [container] = template["containers"]

    settings = {setting["name"]: setting["value"] for setting in container["env"]}
    assert set(settings) == SETTINGS
    check_connection_string(settings["AzureSignalRConnectionString"])
    check_grace(template["terminationGracePeriodSeconds"])
    assert {probe["type"]: probe["httpGet"]["path"] for probe in container["probes"]} == {
        "Startup": "/healthz",
        "Liveness": "/healthz",
        "Readiness": "/readyz",
    }
    assert bicep["variables"]["port"]["value"] == default_of("port")
    [mount], [volume] = container["volumeMounts"], template["volumes"]
    [secret] = volume["secrets"]
    assert mount["volumeName"] == volume["name"]
    assert f"{mount['mountPath']}/{secret['path']}" == settings["SEAL_KEY_FILE"]
    assert [one["name"] for one in properties["configuration"]["secrets"]] == [secret["secretRef"]]
    assert "secure" in [decorator["type"] for decorator in bicep["parameters"]["sealKey"]["decorators"]]


def test_the_container_app_of_terraform(terraform: dict[str, Any]) -> None:
    resource = terraform["azurerm_container_app"]
    [template] = resource["template"]
    [container] = template["container"]

    settings = {setting["name"]: setting["value"] for setting in container["env"]}
    assert set(settings) == SETTINGS
    check_connection_string(settings["AzureSignalRConnectionString"])
    check_grace(template["termination_grace_period_seconds"])
    probes = {name: container[f"{name}_probe"][0] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {default_of("port")}
    assert resource["ingress"][0]["target_port"] == default_of("port")
    [mount], [volume], [secret] = container["volume_mounts"], template["volume"], resource["secret"]
    assert mount["name"] == volume["name"]
    assert f"{mount['path']}/{secret['name']}" == settings["SEAL_KEY_FILE"]


def documents() -> Iterator[Any]:
    for document in yaml.safe_load_all((FOLDER / "kubernetes" / "app.yaml").read_text()):
        yield pytest.param(document, id=document["kind"])


@pytest.mark.parametrize("document", list(documents()))
def test_kubernetes_takes_every_document(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document | {"unknown": 1}, VERSION, strict=True)


def test_the_deployment_of_kubernetes(kubernetes: dict[str, Any]) -> None:
    template = kubernetes["Deployment"]["spec"]["template"]
    pod = template["spec"]
    [container] = pod["containers"]
    settings = kubernetes["ConfigMap"]["data"]

    assert set(settings) == SETTINGS
    check_connection_string(settings["AzureSignalRConnectionString"])
    check_grace(pod["terminationGracePeriodSeconds"])
    assert (
        container["livenessProbe"]["httpGet"]["path"]
        == container["startupProbe"]["httpGet"]["path"]
        == "/healthz"
    )
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["ports"] == [{"name": "http", "containerPort": default_of("port")}]
    [mount], [volume] = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]
    assert f"{mount['mountPath']}/seal-key" == settings["SEAL_KEY_FILE"]
    assert pod["serviceAccountName"] == kubernetes["ServiceAccount"]["metadata"]["name"]
    assert template["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    assert kubernetes["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    backend = kubernetes["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == kubernetes["Service"]["metadata"]["name"]


def test_the_readiness_probe_notices_a_drain_in_time(kubernetes: dict[str, Any], bicep: Any) -> None:
    [container] = kubernetes["Deployment"]["spec"]["template"]["spec"]["containers"]
    [of_bicep] = bicep["resources"]["app"]["config"]["properties"]["template"]["containers"]

    for probe in (container["readinessProbe"], of_bicep["probes"][2]):
        assert probe["periodSeconds"] * probe["failureThreshold"] < default_of("drain_delay")
