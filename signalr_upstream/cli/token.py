"""``signalr-upstream token``: make a token, or say what is wrong with one."""

import asyncio
import sys
import time
from collections.abc import Sequence

import click
import msgspec

from ..auth import TokenCache
from ..claims import Identity
from ..errors import SignalRError
from .connecting import application_option, client_from_environment, connection_option, hub_option
from .explaining import explain
from .options import Seconds, json_option, option


@click.command(short_help="Make a token, or explain one.")
@click.option(
    "--explain",
    "explained",
    metavar="TOKEN",
    help="Say what is wrong with this token, in place of making one. '-' reads it from standard input, which no "
    "history of a shell and no list of processes shows.",
    envvar="SIGNALR_UPSTREAM_TOKEN_EXPLAIN",
    show_envvar=True,
)
@hub_option
@option("--user", help="User id of the client; none for an anonymous one.")
@option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    help="A claim of the client; again for another one, or another value of one.",
)
@option("--lifetime", default=3600.0, type=Seconds(min=1), help="Seconds that the client can connect in.")
@option(
    "--rest", metavar="PATH", help="Make a token for this path of the REST API, e.g. /api/hubs/chat/:send."
)
@connection_option
@application_option
@json_option
def token(  # noqa: PLR0917 - click passes them by name
    explained: str | None,
    hub: str | None,
    user: str | None,
    claims: Sequence[str],
    lifetime: float,
    rest: str | None,
    connection: str,
    application: str,
    json: bool,
) -> None:
    """Make a token for a client of HUB, as negotiate does, or for the REST API (--rest), or explain one (--explain).

    The connection string comes from the environment; no key is ever printed. Exit status 1 of --explain: something is
    wrong with the token.
    """
    if [explained, hub, rest].count(None) != 2:
        raise click.UsageError(
            "say one of --hub (a client's token), --rest (a token of the REST API), --explain"
        )
    if rest is not None and not rest.startswith("/api/"):
        raise click.UsageError("--rest is a path of the REST API, without the host: /api/...")
    try:
        client = client_from_environment(connection, application)
        if explained is not None:
            text = sys.stdin.read() if explained == "-" else explained
            found = explain(text.strip(), client.endpoints, now=time.time())
            click.echo(found.as_json() if json else found.as_text())
            raise SystemExit(1 if found.problems else 0)
        if rest is not None:
            endpoint = client.endpoints.for_sending[0]
            # Without the query: the audience is a path.
            made = TokenCache().rest_token(endpoint, rest.partition("?")[0], now=time.time())
            result = {"url": endpoint.server_url + rest, "accessToken": made}
        else:
            identity = _identity(user, claims, lifetime)
            access = asyncio.run(client.client_access(str(hub), identity))
            result = {"url": access.url, "accessToken": access.access_token}
    except (SignalRError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(msgspec.json.encode(result).decode() if json else "\n".join(result.values()))


def _identity(user: str | None, given: Sequence[str], lifetime: float) -> Identity:
    claims: dict[str, list[str]] = {}
    for claim in given:
        name, equals, value = claim.partition("=")
        if not equals:
            raise click.UsageError("--claim is NAME=VALUE")
        claims.setdefault(name, []).append(value)
    if user is None:
        return Identity.anonymous(claims=claims, lifetime=lifetime)
    return Identity(user, claims=claims, lifetime=lifetime)
