"""How REST calls travel: ``transport`` is the protocol.

``direct_transport`` speaks HTTP/1.1 over the ``connection_pool`` of an origin, each an ``http_connection``, and what is
written in one of the event loop's ``rounds`` goes out together; ``httpx_transport`` is for proxies and clients of one's
own, and ``default_transport`` chooses. What belongs to an event loop is ``loop_bound``.
"""
