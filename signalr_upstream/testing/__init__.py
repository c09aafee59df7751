"""Tests of hubs: an app beside a SignalR service in the test's own process, and assertions on what it has sent.

Not imported by ``signalr_upstream`` itself. The fixture for pytest is in ``pytest_signalr_upstream``.
"""

from ..local.clock import ManualClock
from ..local.socketless.in_process_client import DisconnectedError, NothingCameError, Received
from ..local.socketless.in_process_socket import NotAdmittedError
from .connected_client import ConnectedClient
from .fixture import StartHubTester
from .handler_errors import HandlerFailedError
from .hub_tester import HubTester
from .refusal import Refusal
from .sends import Send
from .sent import Sent

__all__ = [
    "ConnectedClient",
    "DisconnectedError",
    "HandlerFailedError",
    "HubTester",
    "ManualClock",
    "NotAdmittedError",
    "NothingCameError",
    "Received",
    "Refusal",
    "Send",
    "Sent",
    "StartHubTester",
]
