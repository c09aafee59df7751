"""Load and faults, by hand: ``python -m tests.loads NAME``; ``__main__`` says what there is."""

LIMIT = 1.0
"""Seconds that the app's handlers may take which take longer."""
