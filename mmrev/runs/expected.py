"""Results that a config expects of its model, and whether a test gave them."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmrev.console import say
from mmrev.errors import UserError, nearest

__all__ = ["compare_results", "expected_results"]


def expected_results(cfg: Config) -> list[Mapping]:
    """The results that a config expects, which ``--check`` compares with.

    Raises:
        UserError: There are none, or they are malformed.
    """
    stated = cfg.get("expected_results") or []
    stated = stated if isinstance(stated, list) else [stated]
    if not stated:
        raise UserError(
            f"--check: config {cfg.filename} has no expected_results; add for example "
            "expected_results = dict(metric='coco/bbox_mAP', value=0.49, "
            "tolerance=0.002)."
        )
    for one in stated:
        if not _is_expectation(one):
            raise UserError(
                f"config {cfg.filename}: expected_results: expected dict(metric='...', "
                f"value=..., tolerance=...) or a list of such, got {one}."
            )
    return stated


def compare_results(expected: list[Mapping], metrics: Mapping[str, float]) -> None:
    """Say of each expected result whether a test gave it.

    Args:
        expected: As of `expected_results`.
        metrics: What the test gave, by name.

    Raises:
        UserError: A metric is missing, or results are outside their tolerance.
    """
    outside = 0
    for one in expected:
        if one["metric"] not in metrics:
            raise UserError(
                f"expected_results: there is no metric '{one['metric']}'; "
                f"{nearest(one['metric'], metrics)}"
            )
        found = metrics[one["metric"]]
        # Not a number is outside, too.
        sound = abs(found - one["value"]) <= one["tolerance"]
        outside += not sound
        say(
            f"{one['metric']}: {found:.6g}, expected {one['value']:g} "
            f"+- {one['tolerance']:g}: {'as expected' if sound else 'OUTSIDE'}"
        )
    if outside:
        raise UserError(f"--check: {outside} of {len(expected)} results are outside.")


def _is_expectation(one: Any) -> bool:
    if not isinstance(one, Mapping) or set(one) != {"metric", "value", "tolerance"}:
        return False
    numbers = one["value"], one["tolerance"]
    if not all(isinstance(number, int | float) for number in numbers):
        return False
    return isinstance(one["metric"], str) and one["tolerance"] >= 0
