"""The child process of ``dev``: ``python -m signalr_upstream.cli.app_process APP FOLDER PORT``.

The connection string of the local service comes in the environment. Every ``UpstreamApp`` of the
process is connected to it, whatever it was built with.
"""

import os
import sys

from ..app import UpstreamApp
from ..connection_string import DEFAULT_SETTING
from ..errors import SignalRError
from .serving import Serving, load_app, serve


def main(app: str, folder: str, port: str) -> int:
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
        load_app(serving)
        for instance in UpstreamApp.instances():
            instance.connected_to(os.environ[DEFAULT_SETTING])
    except SignalRError as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    return serve(serving, parent=os.getppid())


# Only ever run, never imported.
raise SystemExit(main(*sys.argv[1:]))
