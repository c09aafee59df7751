"""Azure SignalR Service in serverless mode: upstream handlers, output client, local service."""

from .app import UpstreamApp
from .auth import verify_signature
from .claims import ClientAccess, Identity
from .client import ServiceClient
from .context import Context, role
from .errors import Forbidden, HubError, SignalRError
from .hubs.depends import Depends
from .hubs.hub import Hub
from .hubs.registering import on

__all__ = [
    "ClientAccess",
    "Context",
    "Depends",
    "Forbidden",
    "Hub",
    "HubError",
    "Identity",
    "ServiceClient",
    "SignalRError",
    "UpstreamApp",
    "on",
    "role",
    "verify_signature",
]
