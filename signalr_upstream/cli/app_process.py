"""The child process of ``dev``: ``python -m signalr_upstream.cli.app_process APP FOLDER PORT PATH REPORT``.

The connection string of the local service comes in the environment. Every ``UpstreamApp`` of the
process is connected to it, whatever it was built with. Before it listens it writes to the file REPORT
what it serves, at PATH or, where that is empty, where the app turns out to be mounted.
"""

import os
import sys
from pathlib import Path

import msgspec
from starlette.types import ASGIApp

from ..app import UpstreamApp
from ..connection_string import DEFAULT_SETTING
from ..errors import SignalRError
from ..local.socketless.hosted_app import hubs_of, templates_for
from ..local.upstream.rules import Served
from ..local.upstream.templates import UpstreamTemplate, hide_secrets
from ..protocol.path import DEFAULT_PATTERN
from .serving import Serving, load_app, serve


def main(app: str, folder: str, port: str, path: str, report: str) -> int:
    # Python compares the second of a source file's last change with its cache: two saves within one
    # second could run the older code.
    sys.dont_write_bytecode = True
    serving = Serving(
        app=app,
        app_dir=folder,
        port=int(port),
        drain_delay=0.0,
        drain_timeout=1.0,
        log_format="text",
        server_log_level="warning",  # that a server starts and ends is no news here
    )
    try:
        application = load_app(serving)
        for instance in UpstreamApp.instances():
            instance.connected_to(os.environ[DEFAULT_SETTING])
        _report(application, f"http://127.0.0.1:{port}", path, Path(report))
    except SignalRError as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    return serve(serving, parent=os.getppid())


def _report(app: ASGIApp, base: str, path: str, report: Path) -> None:
    templates = [UpstreamTemplate(base + path)] if path else templates_for(app, base=base)
    for template in templates:
        if template.url != base + DEFAULT_PATTERN:
            print(f"Upstream calls go to {hide_secrets(template.url)}", flush=True)
    whole = report.with_suffix(".part")
    whole.write_bytes(msgspec.json.encode(Served(tuple(templates), hubs_of(UpstreamApp.instances()))))
    whole.replace(report)  # at once: it may be read at any time


# Only ever run, never imported.
raise SystemExit(main(*sys.argv[1:]))
