"""What a checkpoint layout is."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

AFFINE = r"(weight|bias)"
NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
OWN = (
    r"((?:stem|stages|columns|bottom_up|top_down|norms)\..+|coefficients)",
    r"\1",
)
"""The rename of what is called as in our backbones."""


def count(weights: Iterable[str], part: str) -> int:
    """How many modules the keys number behind a name."""
    numbers = (re.match(rf"{re.escape(part)}\.(\d+)\.", key) for key in weights)
    return 1 + max((int(match[1]) for match in numbers if match), default=-1)


def norms(weights: Iterable[str]) -> dict:
    """The settings of our backbones' output norms, where the keys have them."""
    levels = [level for level in range(4) if f"norms.{level}.weight" in weights]
    return {"out_norm": "layer_norm", "out_indices": levels} if levels else {}


def _as_they_are(weights: dict[str, Tensor], _: Mapping[str, Tensor]) -> dict:
    return weights


def _nothing(_: str) -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True)
class Layout:
    """The parameter names of one code base, and how they become ours.

    Attributes:
        name: what ``layout=`` selects it by.
        marker: pattern of a key that every checkpoint of this layout has and no other
            layout's.
        renames: pattern and replacement, as of ``re``; the first pattern that matches
            a whole key renames it.
        heads: prefixes of keys that do not belong to the backbone.
        backbone: from our weights, the config of the backbone they fit.
        rebuilt: patterns of keys that the backbone computes itself, as index tables.
        computed: patterns of our keys that our backbone computes and saves.
        adapt: from the renamed weights and all of the checkpoint's, ours: for weights
            that are stored in another order or shape.
        from_name: from the file's name, ours again: what no weight tells.
    """

    name: str
    marker: str
    renames: tuple[tuple[str, str], ...]
    heads: tuple[str, ...]
    backbone: Callable[[Mapping[str, Tensor]], dict]
    rebuilt: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    adapt: Callable[[dict[str, Tensor], Mapping[str, Tensor]], dict] = _as_they_are
    from_name: Callable[[str], dict[str, Tensor]] = _nothing

    def matches(self, keys: Iterable[str]) -> bool:
        """Whether the keys look like this layout's."""
        return any(re.fullmatch(self.marker, key) for key in keys)

    def leaves_out(self, key: str) -> bool:
        """Whether a key is a head's or is computed by the backbone itself."""
        return key.startswith(self.heads) or any(
            re.fullmatch(pattern, key) for pattern in self.rebuilt
        )

    def rename(self, key: str) -> str | None:
        """Our name for a key, or None if the layout has no such key."""
        for pattern, replacement in self.renames:
            if match := re.fullmatch(pattern, key):
                return match.expand(replacement)
        return None
