"""What memory and import time are compared with: a Starlette app that does nothing."""

from starlette.applications import Starlette

app = Starlette()
