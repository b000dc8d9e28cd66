"""Heads that compute again what the backward pass needs, instead of keeping it.

For any head of mmdet and mmseg that is made of their transformer layers: a layer keeps
what it reads and runs again, by `mmrev.reversible.recompute`, and so does each loss of
sampled points. Nothing is copied, names of weights stay, and gradients are the same,
bit for bit on a CPU.
"""

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial

from torch import nn

from mmrev.errors import shortened
from mmrev.reversible import recompute

__all__ = ["HEAD_MEMORY", "head_parts", "recompute_head", "store_head"]

HEAD_MEMORY = ("store", "recompute")
"""Values of a config's ``head_memory``."""

# By name, so that no toolbox has to be installed: mmdet's layers, which mmseg's heads
# have, too, and mmcv's, of older heads.
_LAYERS = {
    "DetrTransformerEncoderLayer",
    "DetrTransformerDecoderLayer",
    "BaseTransformerLayer",
}
# Of MaskFormer and Mask2Former, for what one layer of the decoder predicts.
_POINT_LOSS = "_loss_by_feat_single"


def head_parts(model: nn.Module) -> list[str]:
    """Names of every transformer layer outside of the backbone, and of point losses."""
    return [name for name, owner, _ in _parts(model) if _is_usual(name, owner)]


def recompute_head(
    model: nn.Module, patterns: Sequence[str] | None = None
) -> list[str]:
    """Let parts of a model run again in the backward pass.

    Evaluation is as before, and so is what runs again already.

    Args:
        model: changed in place.
        patterns: of the parts' names, as `fnmatch` has them: those of `named_modules`,
            and of a head with losses of sampled points its name and
            ``._loss_by_feat_single``. Of modules inside one another the outermost
            counts. None for `head_parts`.

    Returns:
        The names of the parts.

    Raises:
        ValueError: a pattern matches nothing, or a model has no such part.
    """
    parts = {name: part for name, *part in _parts(model)}
    usual = head_parts(model)
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in parts):
            raise ValueError(
                "recompute_head: expected patterns of what can run again in "
                f"{type(model).__name__}, as {shortened(usual or parts)}, got "
                f"{pattern!r}, which matches none."
            )
    if patterns is None and not usual:
        raise ValueError(
            "recompute_head: expected a model with transformer layers of mmdet or mmcv "
            f"outside of its backbone, got {type(model).__name__}, which has none; "
            "leave out head_memory, or name what shall run again by "
            "dict(type='mmrev.RecomputeHook', patterns=[...]) in custom_hooks."
        )
    chosen: list[str] = []
    for name, (owner, method) in parts.items():
        if patterns is None:
            wanted = name in usual
        else:
            wanted = any(fnmatchcase(name, pattern) for pattern in patterns)
        if wanted and not (method == "forward" and _is_inside(name, chosen)):
            chosen.append(name)
            inner = getattr(owner, method)
            if not _runs_again(inner):
                setattr(owner, method, partial(recompute, inner))
    return chosen


def store_head(model: nn.Module) -> None:
    """Take back what `recompute_head` has done to a model."""
    for _, owner, method in _parts(model):
        if _runs_again(getattr(owner, method)):
            delattr(owner, method)


def _runs_again(method: Callable) -> bool:
    return isinstance(method, partial) and method.func is recompute


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Name, module and method of what can run again, the outer before the inner."""
    for name, module in model.named_modules():
        # A list of modules is never called.
        if name and type(module).forward is not nn.Module.forward:
            yield name, module, "forward"
        if hasattr(module, _POINT_LOSS):
            yield f"{name}.{_POINT_LOSS}".lstrip("."), module, _POINT_LOSS


def _is_usual(name: str, owner: nn.Module) -> bool:
    if "backbone" in name.split("."):
        return False
    kinds = {kind.__name__ for kind in type(owner).__mro__}
    return name.endswith(_POINT_LOSS) or bool(kinds & _LAYERS)


def _is_inside(name: str, others: Sequence[str]) -> bool:
    return any(name.startswith(f"{other}.") for other in others)
