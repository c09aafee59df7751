"""The upstream apps of a program, imported and not served: what ``routes``, ``settings``, ``schema`` and ``check``
look at."""

from collections.abc import Iterator
from typing import Any

import click

from ..app import UpstreamApp
from ..errors import SignalRError
from ..hubs.binding import Parameter
from ..hubs.handler import Handler
from ..hubs.hub import Hub
from .serving import Serving, load_app


def import_apps(app: str, app_dir: str) -> list[UpstreamApp]:
    """The ``UpstreamApp`` that is named, or those that were made while a program around them was imported.

    Raises:
        click.ClickException: it cannot be imported, or there is none.
    """
    before = set(UpstreamApp.instances())
    try:
        found = load_app(Serving(app=app, app_dir=app_dir))
    except SignalRError as exc:
        raise click.ClickException(str(exc)) from exc
    if isinstance(found, UpstreamApp):
        return [found]
    made = [instance for instance in UpstreamApp.instances() if instance not in before]
    if not made:
        raise click.ClickException(f"{app} is no UpstreamApp, and importing it makes none")
    return sorted(made, key=lambda instance: instance.hubs[0].name)


def registered(apps: list[UpstreamApp]) -> Iterator[tuple[UpstreamApp, Hub[Any], Handler]]:
    """Every handler, in the order of registration."""
    for app in apps:
        for hub in app.hubs:
            for handler in hub.handlers:
                yield app, hub, handler


def shown_type(annotation: Any) -> str:
    """A type as its author would write it."""
    if annotation is Any or annotation is type(None):
        return "None" if annotation is not Any else "Any"
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__qualname__
    return repr(annotation).replace("typing.", "")


def shown_parameter(parameter: Parameter) -> str:
    """``name: type``, with ``= ...`` where there is a default."""
    star = "*" if parameter.is_rest else ""
    default = "" if parameter.is_required or parameter.is_rest else " = ..."
    return f"{star}{parameter.name}: {shown_type(parameter.annotation)}{default}"
