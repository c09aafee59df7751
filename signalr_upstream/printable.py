"""Texts of others, fit for a terminal and a log."""


def printable(text: str) -> str:
    """A text whose characters that are none to see, line breaks among them, are written as Python writes them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
