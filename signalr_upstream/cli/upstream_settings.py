"""Upstream templates for what an app handles, in the forms in which Azure and the local service are told of them.

Spec: https://learn.microsoft.com/azure/azure-signalr/concept-upstream,
https://learn.microsoft.com/azure/templates/microsoft.signalrservice/signalr
"""

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import click
from msgspec import Struct

from ..app import UpstreamApp
from ..hubs.hub import Hub
from ..protocol.upstream import CONNECTIONS, DISCONNECTED, MESSAGES

API_VERSION = "2024-03-01"
"""Of Microsoft.SignalRService/signalR."""

EVERYTHING = "*"


class Rule(Struct, frozen=True):
    """One upstream template; the patterns are ``*`` or names with commas between."""

    url: str
    hub: str
    category: str
    event: str
    resource: str | None = None


def rules_for(
    apps: Sequence[UpstreamApp], url: str, *, exact: bool, resource: str | None, connection: str | None = None
) -> list[Rule]:
    """The rules that bring an app what it handles, and nothing else where patterns can say so.

    Args:
        url: where the app is reached, with the prefix it is mounted under; a query is kept.
        exact: name the events of messages, too. Without a rule that fits, the service drops a client's ``invoke()``
            without an answer, so that is not the default.
        resource: what a managed identity's token is wanted for; None for no token.
        connection: only hubs of this connection setting; None for all.
    """
    rules = [
        Rule(template_url(url, path_of(app)), _hub_pattern(app, hub), category, events, resource)
        for app in apps
        for hub in app.hubs
        if connection in (None, hub.connection)
        for category in (CONNECTIONS, MESSAGES)
        if (events := _event_pattern(hub, category, exact=exact))
    ]
    # A family of hubs is no pattern that Azure knows: its rule takes every hub, so it comes last.
    return sorted(dict.fromkeys(rules), key=lambda rule: rule.hub == EVERYTHING)


def path_of(app: UpstreamApp) -> str:
    """Where calls come to, without the secret of ``code=``."""
    return app.upstream_path.partition("?")[0]


def wants_code(app: UpstreamApp) -> bool:
    """Whether the URL has to carry ``?code=``."""
    return "?" in app.upstream_path


def template_url(url: str, path: str) -> str:
    """The URL template of an app that is reached at ``url``: ``https://host/prefix?code=...``.

    Raises:
        click.UsageError: it is no http or https URL.
    """
    # A Key Vault reference in the query has slashes, and colons: only the first "?" divides.
    base, question_mark, query = url.partition("?")
    if not _is_address(base):
        raise click.UsageError(f"--url is the app's public address, https://host/prefix, not {base!r}")
    return base.rstrip("/") + path + question_mark + query


def _is_address(base: str) -> bool:
    try:
        parts = urlsplit(base)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and not parts.fragment
            and parts.port != 0
        )
    except ValueError:  # brackets that do not fit, a port that cannot be
        return False


def _hub_pattern(app: UpstreamApp, hub: Hub[Any]) -> str:
    if hub.is_family:
        return EVERYTHING
    # Lower case: that is how clients are sent to the service, and it compares letter by letter.
    return app.services.name_of(hub.name).lower()


def _event_pattern(hub: Hub[Any], category: str, *, exact: bool) -> str:
    """ "" where the hub handles none of this category."""
    events = [handler.event for handler in hub.handlers if handler.category == category]
    if category == CONNECTIONS and any(handler.binding.is_stream for handler in hub.handlers):
        events.append(DISCONNECTED)  # ends the streams of a client
    if events and category == MESSAGES and (not exact or any(not _is_pattern(event) for event in events)):
        return EVERYTHING
    named = dict.fromkeys(event.lower() if category == CONNECTIONS else event for event in events)
    return ",".join(named)


def _is_pattern(event: str) -> bool:
    """Whether a pattern can name this one event."""
    return "," not in event and not event.endswith("*") and event == event.strip()


# --- the forms ---


def as_emulator(rules: Iterable[Rule]) -> str:
    """The ``settings.json`` of Microsoft's emulator and of ``signalr-upstream local``."""
    return _json({"UpstreamSettings": {"Templates": [_capitalised(_template(rule)) for rule in rules]}})


def as_arm(rules: Iterable[Rule]) -> str:
    """What belongs into a resource of type Microsoft.SignalRService/signalR; the body of a PATCH."""
    return _json(_properties(rules))


def as_az(rules: Sequence[Rule]) -> str:
    """One command, which puts these templates in the place of those there are."""
    if any(rule.resource is not None for rule in rules):
        # `az signalr upstream` takes no auth.
        address = (
            "https://management.azure.com/subscriptions/{subscriptionId}/resourceGroups/<group>"
            f"/providers/Microsoft.SignalRService/signalR/<name>?api-version={API_VERSION}"
        )
        body = json.dumps(_properties(rules))
        return f"az rest --method patch --url '{address}' --body {shlex.quote(body)}\n"
    lines = ["az signalr upstream update --name '<name>' --resource-group '<group>'"]
    for rule in rules:
        values = {
            "url-template": rule.url,
            "hub-pattern": rule.hub,
            "category-pattern": rule.category,
            "event-pattern": rule.event,
        }
        words = [shlex.quote(f"{name}={value}") for name, value in values.items()]
        lines.append(f"  --template {' '.join(words)}")
    return " \\\n".join(lines) + "\n"


def as_bicep(rules: Iterable[Rule]) -> str:
    """A property of the ``properties`` of a SignalR resource."""
    lines = ["upstream: {", "  templates: ["]
    for rule in rules:
        lines += [
            "    {",
            f"      urlTemplate: {_bicep(rule.url)}",
            f"      hubPattern: {_bicep(rule.hub)}",
            f"      categoryPattern: {_bicep(rule.category)}",
            f"      eventPattern: {_bicep(rule.event)}",
        ]
        if rule.resource is not None:
            lines += [
                "      auth: {",
                "        type: 'ManagedIdentity'",
                "        managedIdentity: {",
                f"          resource: {_bicep(rule.resource)}",
                "        }",
                "      }",
            ]
        lines.append("    }")
    return "\n".join([*lines, "  ]", "}"]) + "\n"


def as_terraform(rules: Iterable[Rule]) -> str:
    """Blocks of an ``azurerm_signalr_service``.

    Raises:
        click.UsageError: azurerm cannot say what a managed identity's token is wanted for, but by an id.
    """
    blocks = []
    for rule in rules:
        values: dict[str, str | list[str]] = {
            "category_pattern": [rule.category],
            "event_pattern": rule.event.split(","),
            "hub_pattern": [rule.hub],
            "url_template": rule.url,
        }
        if rule.resource is not None:
            if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", rule.resource, re.IGNORECASE):
                raise click.UsageError(
                    "--managed-identity: Terraform's azurerm takes the application's id only, a UUID"
                )
            values["user_assigned_identity_id"] = rule.resource
        width = max(map(len, values))
        inside = [f"  {name:<{width}} = {_terraform(value)}" for name, value in values.items()]
        blocks.append("\n".join(["upstream_endpoint {", *inside, "}"]))
    return "\n\n".join(blocks) + "\n"


def _properties(rules: Iterable[Rule]) -> dict[str, Any]:
    return {"properties": {"upstream": {"templates": [_template(rule) for rule in rules]}}}


def _template(rule: Rule) -> dict[str, Any]:
    """One template, its members named as the resource has them."""
    template: dict[str, Any] = {
        "urlTemplate": rule.url,
        "hubPattern": rule.hub,
        "categoryPattern": rule.category,
        "eventPattern": rule.event,
    }
    if rule.resource is not None:
        template["auth"] = {
            "type": "ManagedIdentity",
            "managedIdentity": {"resource": rule.resource},
        }
    return template


def _capitalised(members: dict[str, Any]) -> dict[str, Any]:
    """The same with the names that the emulator's file has: those of the resource, with a capital in front."""
    return {
        name[0].upper() + name[1:]: _capitalised(value) if isinstance(value, dict) else value
        for name, value in members.items()
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _bicep(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${") + "'"


def _terraform(value: str | list[str]) -> str:
    # ${ and %{ begin what Terraform would fill in.
    return re.sub(r"([$%]){", r"\1\1{", json.dumps(value, ensure_ascii=False))
