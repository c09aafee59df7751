"""``signalr-upstream dev``: the app and a local SignalR service, restarted when code changes."""

import asyncio

import click
from click.core import ParameterSource

from ..errors import ConfigurationError
from ..protocol.path import DEFAULT_PATTERN
from .logs import local_service_log
from .options import (
    app_argument,
    app_dir_option,
    app_epilog,
    experimental_streams_option,
    no_local_service,
    option,
    retry_upstream_option,
)


@click.command(short_help="Run an app with a local SignalR service.", epilog=app_epilog)
@app_argument
@app_dir_option
@option("--port", default=8080, type=click.IntRange(0, 65535), help="Port of the app.")
@option("--service-port", default=8888, type=click.IntRange(0, 65535), help="Port of the local service.")
@option(
    "--path",
    default=None,
    help="Where the app takes upstream calls, with the prefix it is mounted under; default: found out where an app "
    f"of Starlette or FastAPI mounts it, else {DEFAULT_PATTERN}.",
)
@option(
    "--reload-dir",
    "reload_dirs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="Folder whose Python files restart the app when they change, besides the folder of APP.",
)
@option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    help="Origin of a page, other than loopback, that may connect to the local service.",
)
@retry_upstream_option
@experimental_streams_option
@click.pass_context
def dev(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    app: str,
    app_dir: str,
    port: int,
    service_port: int,
    path: str | None,
    reload_dirs: tuple[str, ...],
    cors_origins: tuple[str, ...],
    retry_upstream: bool,
    experimental_streams: bool,
) -> None:
    """Run APP ("module:name") with a local SignalR service, for development.

    Everything listens on loopback, with keys made for this run. Saving a Python file restarts the
    app; clients stay connected meanwhile.
    """
    try:
        from .reloading import Development, develop, pick_port  # noqa: PLC0415 - needs the extra "local"
    except ModuleNotFoundError as exc:
        raise no_local_service(exc) from exc

    def fixed(name: str) -> bool:
        return ctx.get_parameter_source(name) is not ParameterSource.DEFAULT

    development = Development(
        app=app,
        app_dir=app_dir,
        port=pick_port("the app", port, fixed=fixed("port")),
        service_port=pick_port("the local service", service_port, fixed=fixed("service_port")),
        path=path,
        reload_dirs=(app_dir, *reload_dirs),
        cors_origins=cors_origins,
        retry_upstream=retry_upstream,
        experimental_streams=experimental_streams,
    )
    try:
        with local_service_log():
            asyncio.run(develop(development))
    except ConfigurationError as exc:
        raise click.ClickException(str(exc)) from exc
