"""``signalr-upstream run``: serve an app in production."""

import socket
from typing import TYPE_CHECKING

import click

from ..connection_string import bare_host
from ..errors import SignalRError
from .options import Seconds, app_argument, app_dir_option, app_epilog, option

if TYPE_CHECKING:
    from .serving import Serving


@click.command(short_help="Serve an app in production.", epilog=app_epilog)
@app_argument
@app_dir_option
@option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 in a container.")
@option("--port", default=8080, type=click.IntRange(0, 65535), help="Port to listen on.")
@option("--workers", default=1, type=click.IntRange(min=1), help="Processes that share the port.")
@option(
    "--forwarded-allow-ips",
    default="",
    help="Addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; '*' for all.",
)
@option(
    "--keep-alive",
    default=130.0,
    type=Seconds(min=1),
    # .NET pools reuse a connection for 60 to 120 s and never send a POST again: the client has to be
    # the one who closes.
    help="Seconds an idle connection is kept open; longer than the callers keep theirs.",
)
@option(
    "--drain-delay",
    default=5.0,
    type=Seconds(min=0),
    help="Seconds between SIGTERM and closing the port: /readyz says 503, calls are still taken.",
)
@option(
    "--drain-timeout",
    default=25.0,
    type=Seconds(min=0),
    help="Seconds that running calls then have before they are answered like a time-out.",
)
@option(
    "--slow-after",
    default=None,
    type=click.FloatRange(min=0),
    help="Seconds after which a call is logged as a warning; default: what the app says, or 1.",
)
@option("--log-format", default="json", type=click.Choice(["json", "text"]), help="Form of a log line.")
@option(
    "--log-level",
    default="info",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Least important lines that are logged. Successful calls are 'debug'.",
)
def run(app: str, host: str, workers: int, **settings: object) -> None:
    """Serve APP ("module:name") in production, with /healthz and /readyz.

    APP is an UpstreamApp, or any ASGI app that one is mounted in. Nothing is served, and no port is
    opened, when there is no access key to check upstream calls with.
    """
    from .metrics_folder import prepare_metrics_folder  # noqa: PLC0415 - see the package
    from .serving import Serving, check_app, load_app  # noqa: PLC0415

    serving = Serving(app=app, host=bare_host(host), **settings)  # type: ignore[arg-type] # click has checked the types
    try:
        prepare_metrics_folder()
        application = load_app(serving)
        check_app(application, serving.host)
    except SignalRError as exc:
        raise click.ClickException(str(exc)) from exc
    try:
        socket.getaddrinfo(serving.host or None, serving.port)
    except (OSError, UnicodeError) as exc:
        raise click.ClickException(f"--host {host!r} is no address: {exc}") from exc
    raise SystemExit(_serve(serving, workers) != 0)


def _serve(serving: "Serving", workers: int) -> object:
    """The exit status, of which uvicorn has more than one for what cannot be served."""
    from .serving import serve  # noqa: PLC0415 - see the package

    try:
        if workers == 1:
            return serve(serving)
        from .workers import Workers  # noqa: PLC0415 - one process has no use for multiprocessing

        return Workers(serving, workers).run()
    except SystemExit as exc:
        return exc.code
