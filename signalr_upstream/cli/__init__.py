"""The command line, ``signalr-upstream``: one module a command.

Every flag has an environment variable, ``SIGNALR_UPSTREAM_<COMMAND>_<FLAG>``; only the flags that
loosen a check must be typed. What a command needs is imported when it runs, so that ``run`` pays
nothing for ``dev``.
"""

import click

from .dev import dev
from .local import local
from .run import run

__all__ = ["main"]


@click.group(
    context_settings={"auto_envvar_prefix": "SIGNALR_UPSTREAM", "help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="signalr-upstream")
def main() -> None:
    """Answer the upstream calls of Azure SignalR Service with a Python app."""


main.add_command(run)
main.add_command(dev)
main.add_command(local)
