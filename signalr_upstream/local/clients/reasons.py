"""Why a connection ends or an invocation fails: texts for clients and the app, Microsoft's where it has one."""

CLOSED_WITH_ERROR = "Connection closed with an error."
TIMED_OUT = "Client hasn't sent a message/ping within the configured ClientTimeoutInterval."
CUT_SHORT = "Connection terminated while reading a message."
EXPIRED = "The authentication of the connection has expired."
NOT_READING = "The client does not read what is sent to it."
NOT_ACKNOWLEDGING = (
    "The client does not come back, or does not say what has arrived, while much is sent to it."
)
DEFECT = "The local service has a bug; see its log."
NO_STREAMS = (
    "Invocation failed, the local service does not pass stream() on to the app: call invoke() or send(), and let "
    "the app send messages, or start the service with experimental streams."
)
