"""``signalr-upstream invoke``: ask one client, from the shell."""

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from ..rest.targets import INVOKE_TIMEOUT
from .connecting import application_option, client_from_environment, connection_option, required_hub_option
from .options import Seconds, option
from .send import argument_of, run_call, target_argument, values_argument


@click.command(short_help="Ask one client.")
@required_hub_option
@option("--connection-id", required=True, help="Which client.")
@option(
    "--timeout",
    default=INVOKE_TIMEOUT,
    type=Seconds(min=0.1),
    help="Seconds the client has to answer.",
)
@connection_option
@application_option
@target_argument
@values_argument
def invoke(  # noqa: PLR0917 - click passes them by name
    hub: str,
    connection_id: str,
    timeout: float,
    connection: str,
    application: str,
    target: str,
    values: Sequence[str],
) -> None:
    """Call the method TARGET of one client with ARGUMENTs, and print what it returns, as JSON.

    An ARGUMENT is JSON, or else the text that it is. Exit status 1: there is no such client, or its method failed.
    """

    async def call() -> Any:
        async with client_from_environment(connection, application) as client:
            asked = client.hub(hub).clients.connection(connection_id)
            return await asked.invoke(target, *map(argument_of, values), timeout=timeout)

    click.echo(msgspec.json.encode(run_call(call())).decode())
