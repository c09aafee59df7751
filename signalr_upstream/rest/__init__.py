"""The output client's calls of the REST API.

``targets`` and ``memberships`` are what users call; ``typed_clients`` give targets methods. ``hub_calls`` know to which
endpoints a call goes, and ``delivery`` makes it: signed, repeated by the rules of ``repeating``, and not sent where
``health`` knows that an endpoint is down. ``paging`` and ``results`` read what comes back, ``turns`` hold back who
waits for clients, ``access_keys`` sign their tokens.
"""
