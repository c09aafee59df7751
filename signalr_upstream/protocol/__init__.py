"""The wire forms: what is said between clients, service and app. No I/O, no clock.

``messages`` are what clients and hubs say, as ``json_hub`` or ``msgpack_hub`` write it, in ``framing``, after a
``handshake``. ``upstream`` is one call of the service, posted to a ``path``. ``rest`` is the table of the REST API's
operations: ``rest_paths``, ``rest_bodies`` and ``rest_errors`` are a caller's, ``rest_decoding`` is the service's.
``nesting`` and ``surrogates`` look for what decoders cannot take.
"""
