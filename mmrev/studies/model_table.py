"""Parameters and operations of every backbone, beside what was published.

Published counts are of classifiers. A row therefore names the classifier that its
figure includes, if any; it is counted from code as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import torch
from rich.table import Table
from torch import Tensor, nn

from mmrev.measure.flops import count_flops
from mmrev.models.layers.moe import activated_parameters
from mmrev.registry import MODELS

NUM_CLASSES = 1000
PARAMS_TOLERANCE, FLOPS_TOLERANCE = 0.001, 0.02


class _Pooled(nn.Module):
    """What precedes pooling, global average pooling, and what follows."""

    def __init__(self, before: nn.Module, after: nn.Module):
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.before(x).mean((2, 3)))


def linear(channels: int) -> nn.Module:
    """Pooling and a linear layer: VanillaNet deployed."""
    return _Pooled(nn.Identity(), nn.Linear(channels, NUM_CLASSES))


def norm_linear(channels: int) -> nn.Module:
    """LayerNorm and a linear layer around pooling: RevCol, Swin-V2."""
    layers = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, NUM_CLASSES))
    return _Pooled(nn.Identity(), layers)


def conv_linear(channels: int) -> nn.Module:
    """NFNet's final convolution (to twice its last width) and a linear layer."""
    final = nn.Conv2d(channels, 2 * channels, 1)
    final.gain = nn.Parameter(torch.ones(2 * channels))
    return _Pooled(final, nn.Linear(2 * channels, NUM_CLASSES))


@dataclass(frozen=True)
class Published:
    """A published figure and the backbone it is about.

    Attributes:
        model: name in the table.
        config: of the backbone.
        image_size: height and width for the operations, pixels.
        params: millions, as printed: the digits tell the precision; None if unknown.
        flops: billions of multiply-adds, as printed; None if unknown.
        source: where.
        classifier: builds what the figure counts beyond the backbone, from the
            channels of its last level; None if that is nothing.
    """

    model: str
    config: dict
    image_size: int
    params: str | None
    flops: str | None
    source: str
    classifier: Callable[[int], nn.Module] | None = None


@dataclass(frozen=True)
class Count:
    """What our code counts for a row, single units.

    Attributes:
        params: all of them.
        activated: of these, what one token meets, with experts.
        flops: of one image.
    """

    params: int
    activated: int
    flops: int


def count(row: Published) -> Count:
    """Count a row's backbone, with its classifier, on the meta device."""
    size = row.image_size
    with torch.device("meta"):
        backbone = MODELS.build({**row.config, "out_indices": (3,)}).eval()
        image = torch.empty(1, 3, size, size)
        modules = [backbone]
        if row.classifier:
            modules.append(row.classifier(backbone.channels[-1]))
    params = sum(p.numel() for module in modules for p in module.parameters())
    activated = sum(map(activated_parameters, modules))

    def classify() -> None:
        (level,) = backbone(image)
        for classifier in modules[1:]:
            classifier(level)

    return Count(params, activated, count_flops(classify))


def deviation(printed: str | None, unit: float, counted: int) -> float:
    """How far a count is from a printed figure, relative; rounding is no deviation.

    Args:
        printed: the figure, or None.
        unit: what it is given in, as 1e6.
        counted: ours.

    Returns:
        0 if the count, rounded as the figure is, equals it, or there is no figure.
    """
    if printed is None:
        return 0.0
    exponent = Decimal(printed).as_tuple().exponent
    half = 0.5 * 10.0**exponent * unit
    off = counted - float(printed) * unit
    return 0.0 if abs(off) <= half else off / (float(printed) * unit)


def agrees(row: Published, counted: Count) -> bool:
    """Whether both counts lie within the tolerances."""
    return (
        abs(deviation(row.params, 1e6, counted.params)) <= PARAMS_TOLERANCE
        and abs(deviation(row.flops, 1e9, counted.flops)) <= FLOPS_TOLERANCE
    )


def model_table(rows: Sequence[Published]) -> Table:
    """The table, to be printed by rich; rows that differ are red."""
    table = Table(
        title="Backbones: counted from code, beside the published figures",
        caption_justify="left",
    )
    table.add_column("model", no_wrap=True)
    for name in ("px", "params M", "published", "GMACs", "published", "source"):
        table.add_column(name, justify="right")
    sources = list(dict.fromkeys(row.source for row in rows))
    notes = [f"{number}: {text}" for number, text in enumerate(sources, 1)]
    notes.append("*: with the classifier, which is counted, too")
    notes.append("(in parentheses): activated, where experts share the tokens")
    table.caption = "\n".join(notes)
    family = None
    for row in rows:
        if family not in (None, row.config["type"]):
            table.add_section()
        family = row.config["type"]
        counted = count(row)
        table.add_row(
            row.model,
            str(row.image_size),
            _counted(counted),
            _printed(row.params, row),
            f"{counted.flops / 1e9:.2f}",
            _printed(row.flops, row),
            str(sources.index(row.source) + 1),
            style="" if agrees(row, counted) else "red",
        )
    return table


def _counted(counted: Count) -> str:
    total = f"{counted.params / 1e6:.2f}"
    if counted.activated == counted.params:
        return total
    return f"{total} ({counted.activated / 1e6:.2f})"


def _printed(figure: str | None, row: Published) -> str:
    return "- " if figure is None else figure + ("*" if row.classifier else " ")
