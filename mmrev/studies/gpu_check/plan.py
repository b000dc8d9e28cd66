"""What is checked, the most important first: what comes last may find no time."""

from collections.abc import Callable, Iterator
from functools import partial

from mmrev.studies.gpu_check import correctness, speed, whole
from mmrev.studies.gpu_check.mmcv_ops import mmcv_ops
from mmrev.studies.gpu_check.models import FAMILIES
from mmrev.studies.gpu_check.place import Place
from mmrev.studies.gpu_check.worker import Check, Row

_Rows = Callable[[Place], Iterator[Row]]


def _each(title: str, rows: Callable[..., Iterator[Row]], **settings) -> list[tuple]:
    return [
        (title.format(family), partial(rows, family=family, **settings))
        for family in FAMILIES
    ]


def checks(place: Place) -> list[Check]:
    """All checks of a place, in their order."""
    forms = {"full": ("small", "full"), "tiny": ("small",)}[place.size]
    right: list[tuple[str, _Rows]] = [
        *_each(
            "levels and gradients, small {}",
            correctness.levels_and_gradients,
            form="small",
        ),
        *_each("memory modes, small {}", correctness.memory_modes, form="small"),
        *_each("random numbers again, {}", correctness.replay),
        ("what does not run twice the same is refused", correctness.guard),
        ("the host waits once in reverse", correctness.host_waits),
        *_each("fp16 with GradScaler, {}", correctness.scaled_steps),
        *_each("AGC and SAM, {}", correctness.optimizer_steps),
        ("mmcv's ops", mmcv_ops),
        ("routes of a stitched backbone", correctness.stitches),
        *whole.WHOLE,
        ("no leak of backbones", correctness.no_leak),
        ("no leak of DINO", whole.dino_does_not_leak),
    ]
    if "full" in forms:
        right += [
            *_each(
                "levels and gradients, full {}",
                correctness.levels_and_gradients,
                form="full",
            ),
            *_each("memory modes, full {}", correctness.memory_modes, form="full"),
        ]
    costs = {name: partial(speed.backbone_costs, name=name) for name in speed.SIZES}
    first = ("RevCol-T", "Swin-V2-T", "NFNet-F0")
    fast: list[tuple[str, _Rows]] = [
        *((f"steps of {name}", costs.pop(name)) for name in first),
        ("DINO with RevCol-T", whole.full_dino),
        *_each("torch.compile, small {}", speed.compiled, form="small"),
        *((f"steps of {name}", rows) for name, rows in costs.items()),
        *_each("DINO and Mask2Former steps, {}", whole.full_steps),
        *_each("torch.compile, full {}", speed.compiled, form="full"),
    ]
    if place.is_tiny:  # the same lines again
        fast = [one for one in fast if one[0] not in _REPEATED]
    return [
        *(Check(name, "correctness", rows) for name, rows in right),
        *(Check(name, "speed", rows) for name, rows in fast),
    ]


_REPEATED = {
    *("steps of RevCol-S", "steps of RevCol-B", "steps of Swin-V2-B"),
    "steps of NFNet-F1",
    *(f"torch.compile, full {family}" for family in FAMILIES),
}
