"""Secrets that are planted in every call of the tests, and how to recognise them, however they are written.

``support`` puts them where the service, a client or a proxy puts theirs. Beside them, anything that looks like a token,
a signature or an access key counts: local services make their own. ``canary_watch`` looks for them in all that the
tests bring forth.
"""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from urllib.parse import unquote

from signalr_upstream.auth import encode_token, sign_connection

KEY = "ThisIsAnAccessKeyForTests_0123456789ABCDEFGH"
OTHER_KEY = "AnotherAccessKeyForTests_0123456789ABCDEFGHI"
CLAIM = "canary-claim-3f1c"
COOKIE = "canary-cookie-77ab"
CODE = "canary-keyvault-code-19d0"
CONNECTION_TOKEN = "canary-connection-token-c20e"
CLIENT_TOKEN = encode_token({"sub": "canary-client-token", "exp": 4102444800}, KEY)
BEARER_TOKEN = encode_token({"sub": "canary-bearer-token", "exp": 4102444800}, OTHER_KEY)

_DIGESTS = [sign_connection("c1", [key]).removeprefix("sha256=") for key in (KEY, OTHER_KEY)]
_LITERALS = {
    "a key": [KEY],
    "another key": [OTHER_KEY],
    "a claim": [CLAIM],
    "a cookie": [COOKIE],
    "the code of the upstream URL": [CODE],
    "a connection token": [CONNECTION_TOKEN],
    "a token": [token.rpartition(".")[2] for token in (CLIENT_TOKEN, BEARER_TOKEN)],
    "a signature": _DIGESTS,
}
_SHAPES = {
    "a token": r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}",
    "a signature": r"sha256=[0-9A-Fa-f]{64}",
    "an access key": r"AccessKey=[^;\s<&\"'.…]{12,}",
}


def _in_base64(secret: str) -> Iterator[str]:
    """How a secret looks inside of something in base64: one way for each place modulo three that it may begin at."""
    for before in range(3):
        # Without the characters that the neighbours of the secret share.
        start, end = (0, 2, 3)[before], (before + len(secret)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(b"\0" * before + secret.encode()).decode()[start:end]


def _pattern(name: str) -> str:
    literals = _LITERALS.get(name, [])
    encoded = [text for literal in literals for text in _in_base64(literal)]
    escaped = map(re.escape, dict.fromkeys([*literals, *encoded]))
    return "|".join([*escaped, *([_SHAPES[name]] if name in _SHAPES else [])])


PLANTED = {name: _pattern(name) for name in {**_LITERALS, **_SHAPES}}
_SECRET = re.compile("|".join(f"({pattern})" for pattern in PLANTED.values()))
_JSON_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|[/\"\\])")


def secret_in(text: str) -> str | None:
    """Which secret a text holds, if any: as it is, in base64, or escaped for URLs, HTML or JSON."""
    forms = [text]
    if "%" in text:
        forms.append(unquote(text))
    if "&" in text:
        forms.append(html.unescape(text))
    if "\\" in text:
        forms.append(_JSON_ESCAPE.sub(lambda escape: json.loads(f'"{escape.group()}"'), text))
    found = next((found for form in forms if (found := _SECRET.search(form))), None)
    return None if found is None else list(PLANTED)[(found.lastindex or 1) - 1]
