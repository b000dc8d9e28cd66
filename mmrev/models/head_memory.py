"""Heads that compute again what the backward pass needs, instead of keeping it.

For any head of mmdet and mmseg that is made of their transformer layers: a layer keeps
what it reads and runs again, by `mmrev.reversible.recompute`, and so does each loss of
sampled points. The masks that each layer of Mask2Former's decoder predicts are kept as
the factors that they are the product of, until their loss. Nothing is copied, names of
weights stay, and gradients are the same, bit for bit on a CPU.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

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
            if _changed(owner, method):
                continue
            if method == _POINT_LOSS and _multiplies(owner):
                owner._forward_head = partial(_forward_head, owner)
                owner._loss_by_feat_single = partial(_loss, owner)
            else:
                setattr(owner, method, partial(recompute, getattr(owner, method)))
    return chosen


def store_head(model: nn.Module) -> None:
    """Take back what `recompute_head` has done to a model."""
    for _, owner, method in _parts(model):
        for one in (method, "_forward_head"):
            if _changed(owner, one):
                delattr(owner, one)


def _changed(owner: nn.Module, method: str) -> bool:
    made = vars(owner).get(method)
    return isinstance(made, partial) and made.func in (recompute, _forward_head, _loss)


class _Factors(NamedTuple):
    """What masks are the product of.

    Attributes:
        embedding: of the queries, (N, Q, C).
        feature: of the pixels, (N, C, H, W).
    """

    embedding: Tensor
    feature: Tensor


def _multiplies(head: nn.Module) -> bool:
    """Whether a head predicts masks as mmdet's Mask2Former does, mmseg's included."""
    method = getattr(type(head), "_forward_head", None)
    return getattr(method, "__qualname__", "") == "Mask2FormerHead._forward_head"


def _forward_head(
    head: nn.Module, decoder_out: Tensor, mask_feature: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor | _Factors, Tensor]:
    """Mask2Former's predictions, in training with factors in the place of masks."""
    predict = partial(type(head)._forward_head, head, decoder_out, mask_feature, size)
    keeping = head.training and torch.is_grad_enabled()
    if not keeping or torch.compiler.is_compiling():  # which decides what is kept
        return predict()
    found: list[Tensor] = []
    embed = head.mask_embed
    with embed.register_forward_hook(lambda *call: found.append(call[-1])):
        scores, _, attention = predict()
    return scores, _Factors(*found, mask_feature), attention


def _loss(
    head: nn.Module, scores: Tensor, masks: Tensor | _Factors, *others: Any
) -> tuple[Tensor, ...]:
    """Mask2Former's loss of what one layer predicts, by what runs again."""
    if isinstance(masks, Tensor):  # as in evaluation mode
        plain = MethodType(type(head)._loss_by_feat_single, head)
        return recompute(plain, scores, masks, *others)
    return recompute(MethodType(_loss_of_factors, head), scores, *masks, *others)


def _loss_of_factors(
    head: nn.Module, scores: Tensor, embedding: Tensor, feature: Tensor, *others: Any
) -> tuple[Tensor, ...]:
    masks = torch.einsum("bqc,bchw->bqhw", embedding, feature)
    return type(head)._loss_by_feat_single(head, scores, masks, *others)


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
