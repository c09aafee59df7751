"""The REST API of the local service.

``api`` lets a call in and finds its operation, which gets a ``rest_call``: those on many connections are in
``rest_members``, those with one client in ``rest_clients``, ``:execute`` in ``execute`` with its ``filter``, those
that hand out tokens in ``rest_tokens``. Bodies: ``rest_payloads`` reads them, ``outgoing`` encodes them once a
protocol, by ``conversion`` where that is another one. ``signing_keys`` are what tokens are checked with.
"""
