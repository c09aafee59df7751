"""The service that commands without an app speak to: the one of the environment's connection string."""

import os

from ..client import ServiceClient
from ..connection_string import DEFAULT_SETTING
from ..endpoints import Endpoints
from .options import option

connection_option = option(
    "--connection",
    default=DEFAULT_SETTING,
    help="Name of the environment variable with the connection string.",
)

application_option = option(
    "--application", default="", help="The service's application name, a prefix of every hub."
)

hub_option = option("--hub", help="Hub of the client.")

required_hub_option = option("--hub", required=True, help="Hub to speak to.")


def client_from_environment(connection: str, application: str) -> ServiceClient:
    """A client of the service that the environment names.

    Raises:
        ConnectionStringError: the connection string cannot be used.
    """
    endpoints = Endpoints.load(environ=os.environ, name=connection)
    return ServiceClient(endpoints=endpoints, application=application)
