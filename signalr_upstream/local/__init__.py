"""A SignalR service on this machine, so that apps can be developed and tested without Azure.

``app`` puts it together. A request passes ``admission`` (and ``faults``, what is made to go wrong), then goes to one
of the rooms: ``clients``, ``rest`` or ``inspector``. They meet in ``connections``, who is connected; ``clients``
tells the app by ``upstream``, and everybody writes to ``records``. ``socketless`` does without ``server``, the port.
One ``clock`` times all; ``issuer`` stands for Microsoft Entra ID.
"""

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
