"""Calls of the local service to the app: which rules, how they travel, what their answers mean.

``delivery`` makes a call of an event and an answer for the client of what comes back; ``rules`` finds the URL among
``templates``, which may stand in a file (``settings``); ``attempts`` sends it, over ``http_transport`` or, in this
process, ``app_transport``.
"""
