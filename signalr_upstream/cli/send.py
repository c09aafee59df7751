"""``signalr-upstream send``: a message to clients, from the shell."""

import asyncio
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from ..client import HubClient
from ..errors import SignalRError
from ..rest.targets import Target
from .connecting import application_option, client_from_environment, connection_option, required_hub_option
from .options import option

target_argument = click.argument("target")
values_argument = click.argument("values", nargs=-1, metavar="[ARGUMENT]...")


@click.command(short_help="Send a message to clients.")
@required_hub_option
@option("--all", "to_all", envvar="SIGNALR_UPSTREAM_SEND_ALL", is_flag=True, help="Send to everybody.")
@option("--group", "groups", multiple=True, help="Send to a group; again for another.")
@option("--user", "users", multiple=True, help="Send to a user; again for another.")
@option("--connection-id", "connection_ids", multiple=True, help="Send to one connection; again for another.")
@option("--excluding", multiple=True, help="Connection id that gets nothing, with --all and one --group.")
@connection_option
@application_option
@target_argument
@values_argument
def send(  # noqa: PLR0917 - click passes them by name
    hub: str,
    to_all: bool,
    groups: Sequence[str],
    users: Sequence[str],
    connection_ids: Sequence[str],
    excluding: Sequence[str],
    connection: str,
    application: str,
    target: str,
    values: Sequence[str],
) -> None:
    """Call the method TARGET of clients, with ARGUMENTs.

    An ARGUMENT is JSON ('{"text": "hello"}', 42, true), or else the text that it is. The connection string comes from
    the environment.
    """
    if [to_all, bool(groups), bool(users), bool(connection_ids)].count(True) != 1:
        raise click.UsageError("say to whom: one of --all, --group, --user, --connection-id")
    if excluding and not (to_all or len(groups) == 1):
        raise click.UsageError("--excluding goes with --all and with one --group")

    def whom(of: HubClient) -> Target:
        if to_all:
            return of.clients.all_except(excluding) if excluding else of.clients.all
        if len(groups) == 1:
            return of.clients.group(groups[0], excluding=excluding)
        if groups:
            return of.clients.groups(groups)
        return of.clients.users(users) if users else of.clients.connections(connection_ids)

    async def call() -> None:
        async with client_from_environment(connection, application) as client:
            await whom(client.hub(hub)).send(target, *map(argument_of, values))

    run_call(call())


def argument_of(text: str) -> Any:
    """JSON, or else the text itself.

    Raises:
        click.UsageError: it is no text at all.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    except UnicodeEncodeError:  # bytes of the shell that are not UTF-8
        raise click.UsageError("an argument is no text") from None


def run_call(call: Any) -> Any:
    """What a call to the service gives; its errors as those of a command."""
    try:
        return asyncio.run(call)
    except SignalRError as exc:
        raise click.ClickException(str(exc)) from exc
