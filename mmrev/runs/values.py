"""Reading the values of ``--cfg-options``; mistakes are found without mmengine."""

import ast
import re
from contextlib import suppress
from typing import Any

from mmrev.errors import UserError

__all__ = ["read_value"]


def read_value(text: str) -> Any:
    """Read a value: a literal of Python, or mmengine's short form of one.

    Raises:
        UserError: It looks like a dict, and is none.
        ValueError: Its brackets are not balanced.
    """
    if text[:1] in tuple("[({'\""):
        with suppress(ValueError, SyntaxError):
            return ast.literal_eval(text)
    if re.match(r"[\[(\s]*(\{.*:|dict\()", text):
        raise UserError(
            "--cfg-options: expected a dict as Python's literal, for example "
            f"\"[{{'type': 'EMAHook'}}]\" in quotes, got {text}."
        )
    if any(text.count(one) != text.count(other) for one, other in ("()", "[]")):
        raise ValueError(f"expected balanced brackets, got {text}.")
    from mmengine.config import DictAction  # not before: it takes a while

    if not set(text) & set(",[]()"):
        # mmengine would remove the spaces, of a path for example.
        return DictAction._parse_int_float_bool(text)
    try:
        return DictAction._parse_iterable(text)
    except AssertionError as error:
        raise ValueError(str(error)) from None
