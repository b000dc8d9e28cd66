"""The states of a backbone, one by one, and the blocks that it runs meanwhile."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmrev.measure.magnitude import Magnitude
from mmrev.models.backbones.base import Backbone, StagedBackbone
from mmrev.models.backbones.revcol import RevCol
from mmrev.models.stitching import StitchedBackbone
from mmrev.reversible import run_columns

__all__ = ["Block", "State", "keep_activations", "layer_scales", "states_of", "watched"]

# Factors of a branch: of ConvNeXt, NFNet, and LayerScale of mmpretrain and timm.
_SCALE = re.compile(r"(^|\.)(gamma(_?\d)?|skip_gain|(ls|gamma)\d?\.weight)$")


class State(NamedTuple):
    """What a backbone has computed at one resolution.

    Attributes:
        column: whose it is; None of a backbone without columns.
        level: 0 is the finest of a backbone of the suite; of others, the one of their
            ``out_indices``.
        values: (N, C, H, W).
    """

    column: int | None
    level: int
    values: Tensor


def states_of(backbone: nn.Module, images: Tensor) -> Iterator[State]:
    """Run a backbone, and look at what it computes.

    Of RevCol every level of every column, with what the gain keeps of the column
    before; of other backbones of the suite every stage; neither with ``out_norm``. Of a
    stitched one, and of those of other toolboxes, the levels that they return.

    Args:
        backbone: in evaluation mode.
        images: (N, 3, H, W).

    Yields:
        The states, in the order of computation.

    Raises:
        ValueError: if it returns something else than levels.
    """
    if isinstance(backbone, RevCol):
        x, states = backbone.embed(images), None
        for column in range(backbone.num_columns):
            states, _ = run_columns(backbone.columns[column : column + 1], x, states)
            for level, values in enumerate(states):
                yield State(column, level, values)
    elif isinstance(backbone, StagedBackbone):
        x = backbone.stem(images)
        for level in range(len(backbone.stages)):
            x = backbone.run_blocks(x, level)
            yield State(None, level, backbone.level(x))
    else:
        levels = _levels(backbone, images)
        indices = getattr(backbone, "out_indices", None)
        if not isinstance(indices, Sequence) or len(indices) != len(levels):
            indices = range(len(levels))
        for level, values in zip(indices, levels, strict=True):
            yield State(None, level, values)


def _levels(backbone: nn.Module, images: Tensor) -> Sequence[Tensor]:
    found = backbone(images)
    levels = found if isinstance(found, tuple | list) else [found]
    for level in levels:
        if not isinstance(level, Tensor) or level.dim() != 4:
            got = tuple(getattr(level, "shape", ())) or type(level).__name__
            raise ValueError(
                f"{type(backbone).__name__}: expected levels, (N, C, H, W), got {got}. "
                "What returns tokens or averages has to return maps (in mmpretrain "
                "out_type=featmap, of ConvNeXt gap_before_final_norm=False)."
            )
    return levels


def keep_activations(model: nn.Module) -> None:
    """Let the graph of one forward pass serve several backward passes."""
    for module in model.modules():
        if isinstance(module, Backbone):
            module.set_memory("store")
        elif isinstance(module, StitchedBackbone):
            module.memory = "store"


@dataclass
class Block:
    """What a block does to what it reads.

    Attributes:
        module: the block.
        shape: of its last output, without the batch.
        input: of what it read.
        branch: of what it added to that: its output less its input.
    """

    module: nn.Module
    shape: tuple[int, ...] = ()
    input: Magnitude = field(default_factory=Magnitude)
    branch: Magnitude = field(default_factory=Magnitude)


@contextmanager
def watched(model: nn.Module, blocks: dict[str, Block]) -> Iterator[None]:
    """Measure the blocks that run inside.

    A block is a member of a list of modules (``Sequential``, ``ModuleList``) that keeps
    the shape of its input, consists of others, and has no such member itself: of most
    backbones one or two residual branches. It need not add its input (VanillaNet).

    Args:
        model: whose blocks.
        blocks: by name, in the order in which they first ran; grows.
    """

    def look(name: str, module: nn.Module, args: tuple, output: Any) -> None:
        read = args[0] if args else None
        if not isinstance(read, Tensor) or not isinstance(output, Tensor):
            return
        if read.shape != output.shape:
            return
        block = blocks.setdefault(name, Block(module))
        block.shape = tuple(output.shape[1:])
        block.input.add(read)
        block.branch.add(output - read)

    with ExitStack() as stack:
        for name, module in _members(model):
            handle = module.register_forward_hook(partial(look, name))
            stack.callback(handle.remove)
        yield


def _members(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Innermost members of lists that consist of other modules, and their names."""
    is_list = isinstance(module, nn.Sequential | nn.ModuleList)
    for key, child in module.named_children():
        own = f"{name}.{key}" if name else key
        inner = list(_members(child, own))
        yield from inner
        whole = is_list and any(True for _ in child.children())
        if whole and not inner and not isinstance(child, nn.Sequential | nn.ModuleList):
            yield own, child


def layer_scales(block: nn.Module) -> list[Tensor]:
    """The learnt factors of a block's branches."""
    found = block.named_parameters()
    return [value.detach() for name, value in found if _SCALE.search(name)]
