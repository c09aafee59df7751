"""One upstream call, from its headers to its answer.

``data_path`` is the call from end to end, and asks the others in this order: ``routing`` which handler is meant,
``call_body`` for the bytes, ``running`` for the result, within a ``time_limit`` (``stream_calls`` for a stream).
``refusals`` answer what no handler runs for, ``after`` does what handlers leave for later, and ``call_log`` says how
calls end.
"""
