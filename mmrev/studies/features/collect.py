"""Everything that is measured of a backbone's features, batch by batch."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrev.measure.magnitude import Magnitude
from mmrev.measure.receptive_field import area, contributions
from mmrev.measure.similarity import Alignment, gram
from mmrev.models.backbones.revcol import RevCol
from mmrev.reversible import effective_gains
from mmrev.studies.features import report
from mmrev.studies.features.states import (
    Block,
    State,
    keep_activations,
    layer_scales,
    states_of,
    watched,
)

__all__ = ["Features"]

# Cells of a map of contributions along its longer side, at most.
_CELLS = 64


@dataclass
class _Found:
    """Of one state so far."""

    shape: tuple[int, int, int]
    image: Alignment = field(default_factory=Alignment)
    label: Alignment = field(default_factory=Alignment)
    magnitude: Magnitude = field(default_factory=Magnitude)
    contributions: Tensor | None = None


class Features:
    """What the features of a backbone are like.

    A batch is forgotten once it was added; what is kept grows with the number of states
    and blocks, and by a few numbers a batch.

    Args:
        backbone: is set to evaluation, and its parameters to need no gradients.
        levels: of the states that are looked at; None looks at all.
        seed: of the random signs of receptive fields.
    """

    def __init__(
        self, backbone: nn.Module, levels: Collection[int] | None = None, seed: int = 0
    ):
        self.backbone = backbone
        self.levels = levels
        backbone.eval()
        backbone.requires_grad_(False)
        keep_activations(backbone)
        self._signs = torch.Generator().manual_seed(seed)
        self._found: dict[tuple[int | None, int], _Found] = {}
        self._blocks: dict[str, Block] = {}

    @torch.no_grad()
    def add(self, images: Tensor, labels: Tensor | None) -> None:
        """Take a batch for CKA and sizes.

        Args:
            images: as they enter the backbone, (N, 3, H, W).
            labels: (N, K), or None for images without.

        Raises:
            ValueError: if the backbone returns no levels, or not those that were asked
                for.
        """
        pixels = gram(images)
        classes = None if labels is None else gram(labels.to(images.device))
        seen = set()
        with watched(self.backbone, self._blocks):
            for state in states_of(self.backbone, images):
                seen.add(state.level)
                if not self._wants(state):
                    continue
                key, shape = (state.column, state.level), tuple(state.values.shape[1:])
                found = self._found.setdefault(key, _Found(shape))
                products = gram(state.values)
                found.image.add(products, pixels)
                if classes is not None:
                    found.label.add(products, classes)
                found.magnitude.add(state.values)
        if unknown := sorted(set(self.levels or ()) - seen):
            raise ValueError(
                f"levels: expected of {', '.join(map(str, sorted(seen)))}, got "
                f"{', '.join(map(str, unknown))}."
            )

    def add_field(self, image: Tensor) -> None:
        """Take an image for receptive fields, after the batch that it was in.

        Args:
            image: as it enters the backbone, (1, 3, H, W); of one size throughout.
        """
        image = image.detach().clone().requires_grad_()
        with torch.enable_grad():
            for state in list(states_of(self.backbone, image)):
                if self._wants(state):
                    own = contributions(state.values, image, self._signs)
                    found = self._found[state.column, state.level]
                    before = found.contributions
                    found.contributions = own if before is None else before + own

    def _wants(self, state: State) -> bool:
        return self.levels is None or state.level in self.levels

    def states(self) -> list[report.StateReport]:
        """What was found of each state."""
        return [
            report.StateReport(
                column=column,
                level=level,
                shape=found.shape,
                image=report.Similarity.of(found.image),
                label=report.Similarity.of(found.label) if found.label.count else None,
                sizes=report.Sizes.of(found.magnitude),
                gain=self._gain(column, level),
                field=_field(found.contributions),
            )
            for (column, level), found in self._found.items()
        ]

    def blocks(self) -> list[report.BlockReport]:
        """What was found of each block."""
        return [
            report.BlockReport(
                name=name,
                level=self._level(block),
                input=report.Sizes.of(block.input),
                branch=report.Sizes.of(block.branch),
                layer_scale=report.Factors.of(layer_scales(block.module)),
            )
            for name, block in self._blocks.items()
        ]

    def _gain(self, column: int | None, level: int) -> report.Factors | None:
        # Nothing precedes the first column.
        if not column or not isinstance(self.backbone, RevCol):
            return None
        gain = self.backbone.columns[column].gains[level]
        return report.Factors.of(effective_gains([gain]))

    def _level(self, block: Block) -> int | None:
        """The level whose states have as many positions as a block's output."""
        levels = {
            level
            for (_, level), found in self._found.items()
            if found.shape[1:] in _maps(block.shape, found.shape[1:])
        }
        return levels.pop() if len(levels) == 1 else None


def _maps(shape: tuple[int, ...], wanted: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """What height and width of an output may be: (C, H, W), (H, W, C) or (H * W, C)."""
    if len(shape) == 3:
        yield shape[1:]
        yield shape[:2]
    elif len(shape) == 2 and shape[0] == wanted[0] * wanted[1]:
        yield wanted


def _field(total: Tensor | None) -> report.Field | None:
    if total is None:
        return None
    pixels = max(1, max(total.shape) / _CELLS)  # along a cell
    cells = [max(1, round(side / pixels)) for side in total.shape]
    small = F.adaptive_avg_pool2d(total[None].double(), cells)[0]
    rows = (small / small.sum().clamp(min=1e-300)).tolist()
    return report.Field(
        area_50=area(total, 0.5),
        area_95=area(total, 0.95),
        map=[[float(f"{cell:.4g}") for cell in row] for row in rows],
    )
