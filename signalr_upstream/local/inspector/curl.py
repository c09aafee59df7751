"""A call to the app as a line for a shell, without secrets: how to make the signature is part of it."""

import base64
import shlex

from ...protocol import upstream as wire
from ..records.entries import UpstreamCall
from ..records.redaction import HIDDEN, hide_headers, hide_url
from ..upstream.templates import IN_PROCESS

_NOT_SENT = frozenset(("host", "content-length", "connection", "accept-encoding"))
"""What curl writes by itself."""


def why_no_curl_line(call: UpstreamCall) -> str | None:
    """Why no command can make ``call`` again; None where one can."""
    if call.request.url.startswith(f"{IN_PROCESS}/"):
        return "The app runs in the service's process: it has no address for a shell."
    if not call.whole:
        return "The body is too long: only its start was kept."
    return None


def curl_line(call: UpstreamCall) -> str:
    """The command that makes ``call`` again, where ``why_no_curl_line`` knows no reason against it.

    The access key comes from the variable ``ACCESS_KEY`` of the shell.
    """
    request = call.request
    sign = (
        f'printf %s {quoted(call.connection_id)} | openssl dgst -sha256 -hmac "$ACCESS_KEY" -r | cut -c1-64'
    )
    words = [f"curl -i -X {request.method} {quoted(hide_url(request.url))}"]
    for name, value in hide_headers(request.headers):
        if name.lower() == wire.SIGNATURE.decode():
            words.append(f'-H "{name}: sha256=$({sign})"')
        elif name.lower() not in _NOT_SENT:
            words.append(f"-H {quoted(f'{name}: {value}')}")
    try:
        words.append(f"--data-binary {quoted(request.body.decode())}")
    except UnicodeDecodeError:
        encoded = base64.b64encode(request.body).decode()
        words = [f"printf %s {encoded} | base64 -d | {words[0]}", *words[1:], "--data-binary @-"]
    line = " \\\n  ".join(words)
    return f"# Where it says {HIDDEN}, put in your own.\n{line}" if HIDDEN in line else line


def quoted(text: str) -> str:
    """One word of a shell, in which nothing acts: control characters are written as escapes."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(
        character if character.isprintable() and character not in "'\\" else _escape(character)
        for character in text
    )
    return f"$'{escaped}'"


def _escape(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
