"""``signalr-upstream routes``: what is registered, and where it is written."""

from typing import Any

import click
import msgspec

from ..app import UpstreamApp
from ..hubs.handler import Handler
from ..hubs.hub import Hub
from ..hubs.places import shown
from .apps import import_apps, registered, shown_parameter, shown_type
from .options import app_argument, app_dir_option, app_epilog, json_option


@click.command(short_help="List the registered handlers.", epilog=app_epilog)
@app_argument
@app_dir_option
@json_option
def routes(app: str, app_dir: str, json: bool) -> None:
    """List the handlers of APP ("module:name").

    Hub, category and event of each, the function and its file and line, the arguments it takes with their types, who
    may call it, and the filters around it. Needs no access key.
    """
    found = [describe(*route) for route in registered(import_apps(app, app_dir))]
    if json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    for route in found:
        click.echo(f"{route['hub']}  {route['category']}/{route['event']}")
        click.echo(f"    {route['handler']}({', '.join(route['arguments'])}) -> {route['result']}")
        click.echo(f"    {route['place']}")
        if route["require"]:
            click.echo(f"    require {route['require']}")
        for name in route["filters"]:
            click.echo(f"    filter  {name}")
        if route["timeout"]:
            click.echo(f"    timeout {route['timeout']:g} s")
    if not found:
        click.echo("No handler is registered.")


def describe(app: UpstreamApp, hub: Hub[Any], handler: Handler) -> dict[str, Any]:
    """One handler, in words."""
    binding = handler.binding
    return {
        "hub": app.services.name_of(hub.name),
        "category": handler.category,
        "event": handler.event,
        "handler": _name_of(handler.function),
        "place": binding.where,
        "arguments": [shown_parameter(parameter) for parameter in binding.parameters],
        "result": shown_type(binding.result),
        "stream": binding.is_stream,
        "require": _name_of(handler.require) if handler.require else None,
        "filters": [shown(function) for function in (*app.filters, *hub.filters)],
        "timeout": handler.timeout,
    }


def _name_of(function: Any) -> str:
    # role("admin") is called so; its qualified name is that of what made it.
    name: str = getattr(function, "__name__", None) or type(function).__qualname__
    qualified: str = getattr(function, "__qualname__", name)
    return name if "<locals>" in qualified else qualified
