"""What the flags of all commands have in common."""

import math
from functools import partial
from typing import Any

import click

from ..errors import MissingExtraError

# The help text names the environment variable and the default of every flag.
option = partial(click.option, show_default=True, show_envvar=True)


class Seconds(click.FloatRange):
    """A time that something ends after: neither infinite nor NaN, which Python reads, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or a usage error."""
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no time that ends.", param, ctx)
        return seconds


# A flag that loosens a check: it must be typed, an environment variable cannot set it.
loosening_flag = partial(click.option, is_flag=True, allow_from_autoenv=False)

app_argument = click.argument("app", envvar="SIGNALR_UPSTREAM_APP", metavar="APP")


def no_local_service(exc: ModuleNotFoundError) -> click.ClickException:
    """What to say when the local service's packages are not installed."""
    return click.ClickException(str(MissingExtraError("the local service", exc.name, extra="local")))


# Help says of an argument nothing that every supported click shows.
app_epilog = "APP is left out where the environment names it: SIGNALR_UPSTREAM_APP."

app_dir_option = option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False),
    default=".",
    help="Folder to import APP from.",
)

retry_upstream_option = option(
    "--retry-upstream",
    is_flag=True,
    help="Try a failed call to the app again after 1, 3 and 5 seconds, as Azure does: it may come twice.",
)

experimental_streams_option = option(
    "--experimental-streams",
    is_flag=True,
    help="Pass stream() on to the app, as proposed for Azure SignalR Service, instead of refusing it.",
)

json_option = option("--json", is_flag=True, help="Print JSON.")
