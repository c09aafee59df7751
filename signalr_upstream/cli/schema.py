"""``signalr-upstream schema``: what clients can call and are called with, for other programs."""

import click

from .apps import import_apps
from .asyncapi import as_asyncapi
from .contract import contract_of
from .options import app_argument, app_dir_option, app_epilog, option
from .typescript import TAKEN, as_typescript

_FORMS = {"asyncapi": (as_asyncapi, ()), "typescript": (as_typescript, TAKEN)}


@click.command(short_help="Describe hubs: AsyncAPI or TypeScript.", epilog=app_epilog)
@app_argument
@app_dir_option
@option(
    "--format",
    default="asyncapi",
    type=click.Choice(list(_FORMS)),
    help="An AsyncAPI 3.0 document in JSON, or TypeScript interfaces.",
)
def schema(app: str, app_dir: str, format: str) -> None:
    """Describe the hubs of APP ("module:name"): what clients call, and with Hub(client=...) what they are called with.

    Types come from the annotations. Needs no access key. Catch-all handlers have no name to describe and are left out.
    """
    write, taken = _FORMS[format]
    try:
        contract = contract_of(import_apps(app, app_dir), taken)
    except TypeError as exc:
        raise click.ClickException(f"a type cannot be described: {exc}") from exc
    click.echo(write(contract), nl=False)
