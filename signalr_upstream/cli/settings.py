"""``signalr-upstream settings``: what Azure has to be told, so that it calls an app."""

import re

import click

from .apps import import_apps
from .options import app_argument, app_dir_option, app_epilog, option
from .upstream_settings import as_arm, as_az, as_bicep, as_emulator, as_terraform, rules_for, wants_code

_FORMS = {"az": as_az, "bicep": as_bicep, "arm": as_arm, "terraform": as_terraform, "emulator": as_emulator}


@click.command(short_help="Print the upstream settings that Azure needs.", epilog=app_epilog)
@app_argument
@app_dir_option
@option(
    "--url",
    required=True,
    help="Public address of the app with the prefix it is mounted under: https://host/prefix. A query, such as "
    "?code=..., is kept.",
)
@option(
    "--format",
    default="az",
    type=click.Choice(list(_FORMS)),
    help="A command, a piece of a template, or the settings.json of an emulator.",
)
@option(
    "--managed-identity",
    metavar="RESOURCE",
    help="Let the service bring a token of its managed identity for this application: its id, or its URI api://...",
)
@option("--connection", help="Only for hubs of this setting: Hub(..., connection=...).")
@option(
    "--exact",
    is_flag=True,
    help="Name the handled events of messages, in place of '*'. The service then drops what no handler is for, and "
    "does not answer a client that waits for it.",
)
def settings(  # noqa: PLR0917 - click passes them by name
    app: str,
    app_dir: str,
    url: str,
    format: str,
    managed_identity: str | None,
    connection: str | None,
    exact: bool,
) -> None:
    """Print the upstream templates that bring APP ("module:name") what it has handlers for.

    Hubs, categories and connection events without a handler have no template: the service does not call the app for
    them. Names are compared letter by letter; hubs are in lower case, as negotiate names them.
    """
    apps = import_apps(app, app_dir)
    if any(wants_code(one) for one in apps) and not re.search("[?&]code=", url):
        raise click.UsageError(
            "the app wants ?code=: add it to --url, as a secret of its own or a Key Vault reference "
            "(?code={@Microsoft.KeyVault(SecretUri=...)})"
        )
    if managed_identity is None and any(one.services.wants_tokens for one in apps):
        raise click.UsageError(
            "the app wants Entra ID tokens: name what they are for, its audience, with --managed-identity"
        )
    if managed_identity == "":
        raise click.UsageError(
            "--managed-identity is empty: it is the application's id, or its URI api://..."
        )
    services = sorted({hub.connection for one in apps for hub in one.hubs})
    if connection is None and len(services) > 1:
        raise click.UsageError(
            f"the hubs are at several services: say which with --connection: {', '.join(services)}"
        )
    if connection not in (None, *services):
        raise click.UsageError(f"no hub has the connection {connection!r}, but: {', '.join(services)}")
    rules = rules_for(apps, url, exact=exact, resource=managed_identity, connection=connection)
    if not rules:
        raise click.ClickException("no handler is registered, so there is nothing to call the app for")
    click.echo(_FORMS[format](rules), nl=False)
