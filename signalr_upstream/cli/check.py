"""``signalr-upstream check``: what is wrong with an app's set-up, and what to do."""

import asyncio

import click
import msgspec

from .apps import import_apps
from .diagnosis import examine
from .findings import PROBLEM, Finding
from .options import app_argument, app_dir_option, app_epilog, json_option, option
from .upstream_settings import template_url


@click.command(short_help="Find what is wrong with a set-up.", epilog=app_epilog)
@app_argument
@app_dir_option
@option(
    "--url",
    help="Public address of the app with the prefix it is mounted under, as for `settings`: calls it as the service "
    "does. No handler runs.",
)
@json_option
def check(app: str, app_dir: str, url: str | None, json: bool) -> None:
    """Look for what is wrong with APP ("module:name"), its connection string, its service and its public address.

    Every problem comes with what to do. Exit status 1: there is one. No key, token or claim is printed.
    """
    if url is not None:
        template_url(url, "")  # that it is none is to be known before anybody is asked
    apps = import_apps(app, app_dir)
    findings = asyncio.run(examine(apps, url))
    if json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2))
    else:
        for finding in findings:
            click.echo(_line(finding))
    raise SystemExit(any(finding.outcome == PROBLEM for finding in findings))


def _line(finding: Finding) -> str:
    line = f"{finding.outcome:<8} {finding.subject}: {finding.text}"
    return f"{line}\n         -> {finding.advice}" if finding.advice else line
