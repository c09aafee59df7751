"""A local service, its app and its clients in one process, without a socket.

``in_process`` is how a test connects: it makes an ``in_process_client`` over an ``in_process_socket``, and carries
the REST calls of the app. ``hosted_app`` is the app, as a server hosts it.
"""
