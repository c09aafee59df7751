"""``signalr-upstream local``: a local SignalR service by itself, for an app that runs elsewhere."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..connection_string import EMULATOR_KEY, counts_as_none, is_loopback
from ..errors import ConfigurationError
from .garbage import collect_less_garbage
from .logs import local_service_log
from .options import (
    experimental_streams_option,
    loosening_flag,
    no_local_service,
    option,
    retry_upstream_option,
)

if TYPE_CHECKING:
    from ..local import LocalService

# The host, port, key and settings file of Microsoft's emulator, so that a project that uses it needs no edit.
EMULATOR_PORT = 8888
EMULATOR_SETTINGS = Path("settings.json")

# In place of a key that was given; read as a key, it is an unexpanded placeholder.
OWN_KEY = "<your access key>"

DEFAULT_UPSTREAM = "http://localhost:8080/{hub}/{category}/{event}"


@click.command(short_help="Run a local SignalR service alone.")
@option(
    "--upstream",
    help=f"URL template of the app that takes the upstream calls.  [default: {DEFAULT_UPSTREAM}]",
)
@option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="File with upstream templates, or the folder of a settings.json: Microsoft's emulator's, or JSON of "
    f"ARM or Bicep. Read again when it changes.  [default: {EMULATOR_SETTINGS}, if it is there]",
)
@option("--host", default="127.0.0.1", help="Address to listen on.")
@option("--port", default=EMULATOR_PORT, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option(
    "--access-key",
    "access_keys",
    multiple=True,
    default=(EMULATOR_KEY,),
    show_default="the emulator's well-known key",
    envvar="SIGNALR_UPSTREAM_LOCAL_ACCESS_KEY",
    show_envvar=True,
    help="Key that signs tokens and upstream calls, 32 bytes or more; two of them as on Azure. Better given in the "
    "environment, with a space between.",
)
@option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    help="Origin of a page, other than loopback, that may connect.",
)
@retry_upstream_option
@experimental_streams_option
@option(
    "--record",
    type=click.Path(dir_okay=False),
    help="File to write the session to in the end, as JSON lines; what was said is in it, tokens are not.",
)
@loosening_flag("--allow-remote", help="Listen on an address that others can reach; needs --access-key.")
@loosening_flag("--lenient", help="Check no more than Microsoft's emulator does.")
def local(
    upstream: str | None,
    config: Path | None,
    access_keys: tuple[str, ...],
    allow_remote: bool,
    record: str | None,
    **options: Any,
) -> None:
    """Run a SignalR service on this machine, for development and tests.

    Port, key, settings file and connection string are those of Microsoft's emulator.
    """
    try:
        from ..local import LocalService  # noqa: PLC0415 - needs the extra "local"
        from .reloading import stop_on_signals  # noqa: PLC0415 - as does this
    except ModuleNotFoundError as exc:
        raise no_local_service(exc) from exc

    host = options["host"]
    _check_keys(access_keys, host, allow_remote=allow_remote)
    try:
        # What only concerns the service is called there as it is here.
        service = LocalService(upstream=_templates(upstream, config), keys=access_keys, **options)
        with local_service_log():
            asyncio.run(_serve(service, record, stop_on_signals))
    except ConfigurationError as exc:
        # Why a file was read that nobody named.
        unnamed = config is None and str(exc).startswith(str(EMULATOR_SETTINGS))
        why = ". It is read where neither --upstream nor --config is given." if unnamed else ""
        raise click.ClickException(f"{exc}{why}") from exc
    except OSError as exc:
        raise click.ClickException(f"cannot listen on {host}:{options['port']}: {exc.strerror}") from exc


def _check_keys(keys: tuple[str, ...], host: str, *, allow_remote: bool) -> None:
    if any(counts_as_none(key) for key in keys):
        raise click.ClickException("--access-key must have 32 bytes or more and be no placeholder")
    if not is_loopback(host):
        if not allow_remote:
            raise click.ClickException(f"{host} can be reached by others: say --allow-remote to allow it")
        if EMULATOR_KEY in keys:
            raise click.ClickException(
                "everybody knows the emulator's key: give your own with --access-key to allow others in"
            )


def _templates(upstream: str | None, config: Path | None) -> str | Path:
    if upstream is not None and config is not None:
        raise click.UsageError("--upstream and --config both say where upstream calls go: give one of them")
    if upstream is not None:
        return upstream
    if config is None and EMULATOR_SETTINGS.is_file():
        return EMULATOR_SETTINGS
    return config or DEFAULT_UPSTREAM


async def _serve(
    service: "LocalService", record: str | None, stop_on_signals: Callable[[], asyncio.Event]
) -> None:
    stop = stop_on_signals()
    _write(service, record)  # that it cannot be written is to be known now
    async with service:
        collect_less_garbage()
        click.echo(f"Local SignalR service on {service.url}")
        _announce_upstream(service)
        click.echo(f"  connection string      {_printable(service)}")
        click.echo(f"  inspector              {service.inspector_url or 'none, it is for loopback only'}")
        await stop.wait()
        _write(service, record)


def _printable(service: "LocalService") -> str:
    """The connection string; a key of the user's own is known to the user, and to nobody who reads the log."""
    key = service.keys[0]
    return service.connection_string.replace(key, key if key == EMULATOR_KEY else OWN_KEY)


def _announce_upstream(service: "LocalService") -> None:
    from ..local.upstream.templates import describe, hide_secrets  # noqa: PLC0415 - as the service itself

    templates = service.upstream_templates
    if service.upstream_settings is None:
        click.echo(f"  upstream calls go to   {hide_secrets(templates[0].url)}")
        return
    click.echo(f"  upstream settings      {service.upstream_settings}")
    for line in describe(templates) or ["No upstream is set."]:
        click.echo(f"    {line}")


def _write(service: "LocalService", record: str | None) -> None:
    if record is not None:
        try:
            service.export(record)
        except OSError as exc:
            raise click.ClickException(f"cannot write {record}: {exc.strerror}") from exc
