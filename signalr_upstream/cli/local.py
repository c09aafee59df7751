"""``signalr-upstream local``: a local SignalR service by itself, for an app that runs elsewhere."""

import asyncio
from typing import TYPE_CHECKING

import click

from ..connection_string import EMULATOR_KEY, counts_as_none, is_loopback
from .dev import missing_extra
from .options import loosening_flag, option

if TYPE_CHECKING:
    from ..local import LocalService

# The host, port and key of Microsoft's emulator, so that a project that uses it needs no edit.
EMULATOR_PORT = 8888


@click.command()
@option(
    "--upstream",
    default="http://localhost:8080/{hub}/{category}/{event}",
    help="URL template of the app that takes the upstream calls.",
)
@option("--host", default="127.0.0.1", help="Address to listen on.")
@option("--port", default=EMULATOR_PORT, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option(
    "--access-key",
    default=EMULATOR_KEY,
    show_default="the emulator's well-known key",
    show_envvar=True,
    help="Key that signs tokens and upstream calls, 32 bytes or more. Better given in the environment.",
)
@option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    help="Origin of a page, other than loopback, that may connect.",
)
@option(
    "--record",
    type=click.Path(dir_okay=False),
    help="File to write the session to in the end, as JSON lines; what was said is in it, tokens are not.",
)
@loosening_flag("--allow-remote", help="Listen on an address that others can reach; needs --access-key.")
@loosening_flag("--lenient", help="Check no more than Microsoft's emulator does.")
def local(  # noqa: PLR0917 - click passes them by name
    upstream: str,
    host: str,
    port: int,
    access_key: str,
    cors_origins: tuple[str, ...],
    record: str | None,
    allow_remote: bool,
    lenient: bool,
) -> None:
    """Run a SignalR service on this machine, for development and tests.

    Port, key and connection string are those of Microsoft's emulator.
    """
    try:
        from ..local import LocalService  # noqa: PLC0415 - needs the extra "local"
    except ModuleNotFoundError as exc:
        raise missing_extra(exc) from exc

    if counts_as_none(access_key):
        raise click.ClickException("--access-key must have 32 bytes or more and be no placeholder")
    if not is_loopback(host):
        if not allow_remote:
            raise click.ClickException(f"{host} can be reached by others: say --allow-remote to allow it")
        if access_key == EMULATOR_KEY:
            raise click.ClickException(
                "everybody knows the emulator's key: give your own with --access-key to allow others in"
            )
    service = LocalService(
        upstream=upstream, keys=[access_key], host=host, port=port, cors_origins=cors_origins, lenient=lenient
    )
    try:
        asyncio.run(_serve(service, upstream, record))
    except OSError as exc:
        raise click.ClickException(f"cannot listen on {host}:{port}: {exc.strerror}") from exc


async def _serve(service: "LocalService", upstream: str, record: str | None) -> None:
    from .reloading import stop_on_signals  # noqa: PLC0415 - needs the extra "local"

    stop = stop_on_signals()
    _write(service, record)  # that it cannot be written is to be known now
    async with service:
        click.echo(f"Local SignalR service on {service.url}")
        click.echo(f"  upstream calls go to   {upstream}")
        click.echo(f"  connection string      {service.connection_string}")
        await stop.wait()
        _write(service, record)


def _write(service: "LocalService", record: str | None) -> None:
    if record is not None:
        try:
            service.export(record)
        except OSError as exc:
            raise click.ClickException(f"cannot write {record}: {exc.strerror}") from exc
