"""What has happened at a local service: kept, shown as values, exported and played again.

The ``journal`` keeps ``entries`` in a ``ring`` of each kind; ``recording`` notes REST calls as they pass;
``call_values`` decodes what was kept. A ``fixture`` is a session as a file, ``replay`` plays one; ``redaction`` hides
secrets.
"""
