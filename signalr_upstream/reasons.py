"""Why a value of a client's is not what it has to be, in words that never hold the value."""

_REASONS = {
    "Number out of range": "number out of range",
    "Integer value out of range": "number out of range",
    "Timestamp is out of range ": "timestamp out of range",
    "Invalid MessagePack timestamp": "invalid timestamp",
    "Invalid MessagePack timestamp: nanoseconds out of range": "invalid timestamp",
    "Invalid UUID": "invalid UUID",
    "Invalid RFC3339 encoded datetime": "invalid RFC3339 encoded datetime",
    "Invalid base64 encoded string": "invalid base64 encoded string",
}


def safe_reason(what: str) -> str:
    """What is wrong with a value, without the value.

    Args:
        what: msgspec's text, without its place.
    """
    # msgspec quotes the input in some of its texts; only those that never do are passed on.
    if what.startswith("Expected"):
        return what.replace("`", "").replace("Expected", "expected", 1)
    if what.startswith("Object missing required field"):
        return what.replace("Object missing", "missing", 1)
    if what.startswith("Invalid enum value"):
        return "not one of the allowed values"
    return _REASONS.get(what, "not accepted")
