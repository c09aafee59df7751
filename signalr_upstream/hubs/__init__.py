"""Hubs as they are written: what their authors register, compiled once.

``hub`` is the registry; ``registering`` takes what stands beside handlers. ``handler`` is one of them, its arguments
decoded as ``binding`` compiled them, and what it depends on made as ``depends`` found out. Plain functions run in
``threads``; ``places`` tell authors where things are written.
"""
