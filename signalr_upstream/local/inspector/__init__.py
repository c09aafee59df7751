"""The page on which a person sees what the local service does, and meddles with it.

``routes`` serves the page (the files in ``page/``) and its API: rows and details from ``inspector_entries``, who is
there from ``inspector_state``, values made readable by ``decoded``, a ``curl`` line, and the clients of the
``console``.
"""
