"""Texts of foreign files, where they are shown."""

__all__ = ["printable", "printable_lines"]


def printable(text: str) -> str:
    """What a foreign file says, without what would steer the terminal."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def printable_lines(text: str) -> str:
    """The same of several lines, which stay so."""
    return "\n".join(map(printable, text.split("\n")))
