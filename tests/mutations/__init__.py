"""Every check that keeps somebody out or a secret in, taken away by itself: some test fails each time.

``python -m tests.mutations`` runs them, by hand; ``checks`` is the list.
"""
