"""The clients of the local service: transports, sessions, and what lies between."""
