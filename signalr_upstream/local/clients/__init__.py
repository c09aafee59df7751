"""The clients of the local service: transports, sessions, and what lies between.

``client_endpoint`` lets a client in by what negotiate gave it (``negotiated``); ``websocket``, ``sse`` and
``long_polling`` carry its bytes, the first two over an ``asgi_writer``; ``client_connection`` does what its
``session`` asks for. The session does no I/O: its ``states``, its ``inbox``, its ``resumption``, and the ``actions``
that it asks for.
"""
