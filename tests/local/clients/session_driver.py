"""Drive a session by hand: what it wrote, what it told the app, and a clock that is only a number."""

from typing import Any

from signalr_upstream.local.clients.actions import Action, Call, HangUp, Join, Leave, Result, Send
from signalr_upstream.local.clients.session import Session
from signalr_upstream.protocol.messages import Completion, UpstreamMessage

JSON_HANDSHAKE = b'{"protocol":"json","version":1}\x1e'
MESSAGEPACK_HANDSHAKE = b'{"protocol":"messagepack","version":1}\x1e'


class Driver:
    """A client at one end, an app at the other."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.session = Session(now=self.now, **options)
        self.written: list[bytes] = []
        self.calls: list[UpstreamMessage] = []
        self.results: list[Completion] = []
        self.joined = False
        self.hung_up = False

    def client_sends(self, data: bytes) -> None:
        self._perform(self.session.receive(data, self.now))

    def client_leaves(self) -> None:
        self._perform(self.session.disconnect(self.now))

    def transport_breaks(self) -> None:
        self._perform(self.session.lose(self.now))

    def client_returns(self) -> None:
        self._perform(self.session.resume(self.now))

    def service_sends(self, frame: bytes) -> None:
        self._perform(self.session.deliver(frame, self.now))

    def app_answers(self, completion: Completion | bytes | None = None) -> None:
        self._perform(self.session.answered(completion, self.now))

    def service_closes(self, reason: str | None = None) -> None:
        self._perform(self.session.close(reason, self.now))

    def time_passes(self, seconds: float) -> None:
        """Tick whenever the session wants to, up to ``seconds`` from now."""
        until = self.now + seconds
        while (deadline := self.session.deadline) is not None and deadline <= until:
            self.now = deadline
            self._perform(self.session.tick(self.now))
        self.now = until

    def take_written(self) -> list[bytes]:
        written, self.written = self.written, []
        return written

    def take_calls(self) -> list[UpstreamMessage]:
        calls, self.calls = self.calls, []
        return calls

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    assert not self.hung_up
                    self.written.append(action.data)
                case Call():
                    self.calls.append(action.message)
                case Result():
                    self.results.append(action.completion)
                case Join():
                    self.joined = True
                case Leave():
                    assert self.joined
                    self.joined = False
                case HangUp():
                    self.hung_up = True


def connected(handshake: bytes = JSON_HANDSHAKE, **options: Any) -> Driver:
    """A client whose ``connected`` the app has answered."""
    driver = Driver(**options)
    driver.client_sends(handshake)
    driver.app_answers()
    driver.take_written()
    driver.take_calls()
    return driver
