"""A SignalR service on this machine, so that apps can be developed and tested without Azure."""

from .app import LocalService

__all__ = ["LocalService"]
