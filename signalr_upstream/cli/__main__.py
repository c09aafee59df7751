"""``python -m signalr_upstream.cli`` is the same as ``signalr-upstream``."""

from . import main

main(prog_name="signalr-upstream")
