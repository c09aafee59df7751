"""A SignalR service on this machine, so that apps can be developed and tested without Azure."""

from .app import LocalService
from .clock import ManualClock
from .records.entries import RestCall, UpstreamCall
from .records.replay import Difference, replay
from .socketless.in_process_client import DisconnectedError, InProcessClient, NothingCameError, Received
from .socketless.in_process_socket import NotAdmittedError
from .upstream.templates import UpstreamTemplate

__all__ = [
    "Difference",
    "DisconnectedError",
    "InProcessClient",
    "LocalService",
    "ManualClock",
    "NotAdmittedError",
    "NothingCameError",
    "Received",
    "RestCall",
    "UpstreamCall",
    "UpstreamTemplate",
    "replay",
]
