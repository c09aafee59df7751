"""Secrets that are planted in every call of the tests, and a watch that no log, output or error text holds one.

``support`` puts them where the service, a client or a proxy puts theirs. Beside them, anything that looks like a token,
a signature or an access key counts: local services make their own.

It is a pytest plugin: ``conftest`` takes its hook and its fixture.
"""

import re
from collections.abc import Generator
from typing import Any

import pytest

from signalr_upstream.auth import encode_token
from signalr_upstream.errors import SignalRError

KEY = "ThisIsAnAccessKeyForTests_0123456789ABCDEFGH"
OTHER_KEY = "AnotherAccessKeyForTests_0123456789ABCDEFGHI"
CLAIM = "canary-claim-3f1c"
COOKIE = "canary-cookie-77ab"
CODE = "canary-keyvault-code-19d0"
CONNECTION_TOKEN = "canary-connection-token-c20e"
CLIENT_TOKEN = encode_token({"sub": "canary-client-token", "exp": 4102444800}, KEY)
BEARER_TOKEN = encode_token({"sub": "canary-bearer-token", "exp": 4102444800}, OTHER_KEY)

PLANTED = {
    "a key": re.escape(KEY),
    "another key": re.escape(OTHER_KEY),
    "a claim": CLAIM,
    "a cookie": COOKIE,
    "the code of the upstream URL": CODE,
    "a connection token": CONNECTION_TOKEN,
    "a token": r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}",
    "a signature": r"sha256=[0-9A-Fa-f]{64}",
    "an access key": r"AccessKey=[^;\s<&\"'.…]{12,}",
}
_SECRET = re.compile("|".join(f"({pattern})" for pattern in PLANTED.values()))


def secret_in(text: str) -> str | None:
    """Which secret a text holds, if any."""
    found = _SECRET.search(text)
    return None if found is None else list(PLANTED)[(found.lastindex or 1) - 1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test whose log or output holds a secret."""
    report = yield
    if report.when == "teardown" and report.passed:
        for name, text in report.sections:
            if secret := secret_in(text):
                report.outcome = "failed"
                report.longrepr = f"{secret} stands in the {name.lower()} of this test"
    return report


@pytest.fixture(autouse=True, scope="session")
def no_error_text_holds_a_secret() -> Generator[None, None, None]:
    """Fail where an error of ours is made with a secret in its text."""

    def make(cls: type[SignalRError], *args: Any, **options: Any) -> SignalRError:
        secret = secret_in(repr((args, options)))
        assert secret is None, f"{secret} stands in the text of a {cls.__name__}"
        return super(SignalRError, cls).__new__(cls, *args)

    SignalRError.__new__ = make  # type: ignore[assignment]
    yield
    del SignalRError.__new__
