"""The real clients, each in its own process, against ``signalr-upstream`` as a user starts it."""
