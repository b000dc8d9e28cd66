"""Which modules of a model gather their weights together."""

from collections.abc import Iterator

from torch import nn

from mmrev.models.backbones import FrozenBackbone
from mmrev.models.stitching import anchor_of

__all__ = ["find_units"]


def find_units(model: nn.Module) -> list[nn.Module]:
    """The modules whose weights are gathered, used and let go of together.

    Of a backbone what it names by ``units``, of another toolbox's the blocks that
    stitching knows; elsewhere the members of every list that is called ``layers``, as
    the encoders and decoders of mmdet and mmseg have it.

    Args:
        model: before it is sharded.

    Returns:
        Modules that are called as such, none inside another, each once.
    """
    return list(dict.fromkeys(_below(model)))


def _below(module: nn.Module) -> Iterator[nn.Module]:
    if hasattr(module, "units"):
        yield from module.units()
        return
    for name, child in module.named_children():
        if name == "backbone" and not hasattr(child, "units"):
            frozen = isinstance(child, FrozenBackbone)
            yield from _blocks_of(child.model if frozen else child)
        elif name == "layers" and isinstance(child, nn.ModuleList):
            # Those of a small perceptron are not worth a message of their own.
            yield from (layer for layer in child if list(layer.children()))
        else:
            yield from _below(child)


def _blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """The blocks of another toolbox's backbone; none if it is not known."""
    try:
        return anchor_of(backbone).units()
    except ValueError:
        return []
