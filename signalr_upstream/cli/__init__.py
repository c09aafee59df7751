"""The command line, ``signalr-upstream``: one module a command.

Every flag has an environment variable, ``SIGNALR_UPSTREAM_<COMMAND>_<FLAG>``; only the flags that
loosen a check must be typed. What a command needs is imported when it runs, so that ``run`` pays
nothing for ``dev``.
"""

import click

from .check import check
from .dev import dev
from .invoke import invoke
from .local import local
from .routes import routes
from .run import run
from .schema import schema
from .send import send
from .settings import settings
from .token import token

__all__ = ["main"]


@click.group(
    context_settings={"auto_envvar_prefix": "SIGNALR_UPSTREAM", "help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="signalr-upstream")
def main() -> None:
    """Answer the upstream calls of Azure SignalR Service with a Python app."""


for command in (run, dev, local, routes, settings, check, token, send, invoke, schema):
    main.add_command(command)
