"""How large a file of others may be before anybody parses it.

The limits are far above what is in use. ``MMREV_LIMITS=10`` makes all of them ten times
as large, for whoever has a file that needs it and trusts it.
"""

import os

__all__ = ["ANNOTATIONS", "PIXELS", "PREDICTIONS", "TABLE", "limit", "refuse_larger"]

ANNOTATIONS = 16_000_000_000
"""Bytes of a file of annotations; the largest in use, Objects365's, has 6e9."""
PREDICTIONS = 8_000_000_000
"""Bytes of an array of stored predictions, as it is unpacked; one is read at a time."""
PIXELS = 2**30
"""Of an image, as OpenCV's own limit."""
TABLE = 100_000_000
"""Bytes of a table, key or signature."""


def limit(most: int) -> int:
    """A limit as the user has it.

    Args:
        most: as the suite has it.

    Raises:
        ValueError: ``MMREV_LIMITS`` is no positive number.
    """
    stated = os.environ.get("MMREV_LIMITS", "1")
    try:
        factor = float(stated)
        return int(most * factor)
    except (ValueError, OverflowError):
        raise ValueError(
            "MMREV_LIMITS: expected a number by which limits are multiplied, got "
            f"{stated!r}."
        ) from None


def refuse_larger(what: str, size: int, most: int, unit: str = "bytes") -> None:
    """Refuse what exceeds a limit.

    Args:
        what: it is, for the message.
        size: it has, or says it has.
        most: limit of the suite.
        unit: of both.

    Raises:
        ValueError: with the limit, and how to raise it.
    """
    if size > limit(most):
        raise ValueError(
            f"{what}: expected at most {limit(most):,} {unit}, got {size:,}; if it is "
            "to be trusted, set MMREV_LIMITS=10 in the environment, which makes every "
            "such limit ten times as large."
        )
