"""The families in a small and a full form, all branches awake, and their gradients."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmrev.datasets.batches import seeded
from mmrev.registry import MODELS
from mmrev.studies.memory_modes.networks import awake

CHANNELS = (16, 32, 64, 128)
SCALES = (1024.0, 32.0, 1.0)
"""Of losses in fp16: the largest at which no gradient passes its range."""
# A parameter's error counts against its largest gradient, or this share of the largest
# of all: what should be 0, as before a norm, is rounding and nothing else.
LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Family:
    """A backbone to check.

    Attributes:
        type: in the registry.
        small: settings of a form that a CPU runs in a moment.
        full: settings of a published size.
        memories: memory modes.
        shared: settings of both.
        coupling: that 'reverse' needs, or None.
    """

    type: str
    small: dict
    full: dict
    memories: tuple[str, ...] = ("store", "recompute", "reverse")
    shared: dict = field(default_factory=dict)
    coupling: str | None = "dual"

    def config(self, form: str, **settings) -> dict:
        """Of the registry; `form` is 'small' or 'full'."""
        return {"type": self.type, **self.shared, **getattr(self, form), **settings}

    def coupled(self, form: str, **settings) -> dict:
        """The same in the form that has every memory mode."""
        if self.coupling:
            settings["coupling"] = self.coupling
        return self.config(form, memory="store", **settings)


FAMILIES = {
    "revcol": Family(
        "mmrev.RevCol",
        small={
            "arch": {"channels": CHANNELS, "depths": (1, 1, 2, 1), "num_columns": 4}
        },
        full={"arch": "tiny"},
        shared={"layer_scale_init_value": 1.0},
        coupling=None,
    ),
    "swinv2": Family(
        "mmrev.SwinTransformerV2",
        small={
            "arch": {
                "embed_dims": CHANNELS[0],
                "depths": (2, 2, 2, 2),
                "num_heads": (1, 1, 2, 2),
            },
            "window_size": 4,
        },
        full={"arch": "tiny", "window_size": 16},
    ),
    "nfnet": Family(
        "mmrev.NFNet",
        small={
            "arch": {"channels": CHANNELS, "depths": (1, 1, 5, 1), "group_width": 8}
        },
        full={"arch": "F0"},
        shared={"skip_gain_init_value": 1.0},
    ),
    "vanillanet": Family(
        "mmrev.VanillaNet",
        small={"arch": {"channels": (16, *CHANNELS), "strides": (1, 2, 2, 2)}},
        full={"arch": "13"},
        memories=("store", "recompute"),
        coupling=None,
    ),
    "reducenet": Family(
        "mmrev.ReduceNet",
        small={"arch": {"channels": CHANNELS, "depths": (1, 1, 5, 1), "expansion": 2}},
        full={"arch": "50"},
    ),
}


def stitched(**settings) -> dict:
    """A stitched backbone of two small NFNets."""
    anchors = [
        FAMILIES["nfnet"].config(
            "small", arch={"channels": CHANNELS, "depths": depths, "group_width": 8}
        )
        for depths in ((1, 1, 2, 1), (1, 2, 3, 2))
    ]
    routes = {"stages": (1, 2, 3), "monotone": True}
    return {
        "type": "mmrev.StitchedBackbone",
        "anchors": anchors,
        "routes": routes,
        **settings,
    }


def build(config: dict) -> nn.Module:
    """Build on the CPU, the same weights each time, with every branch awake."""
    with seeded(0):
        model = MODELS.build(copy.deepcopy(config))
        model.init_weights()
        awake(model)
    couple_evenly(model)
    return model


def couple_evenly(model: nn.Module) -> None:
    """Move coefficients that begin as those of the ordinary network: a = b = 1/2."""
    if getattr(model, "coupling", None) == "dual":
        model.coefficients.fill_(0.5)


def picture(form: str, batch: int = 2) -> Tensor:
    """A seeded image of sides that no stride or window divides, (N, 3, H, W)."""
    height, width = (67, 93) if form == "small" else (141, 173)
    with seeded(1):
        return torch.randn(batch, 3, height, width)


def add_dropout(model: nn.Module, rate: float = 0.3) -> None:
    """Put a dropout behind every level, or a stage's last link or block."""

    def drop(module: nn.Module, _: tuple, output: Tensor) -> Tensor:
        return F.dropout(output, rate, module.training)

    parts = [
        level for column in getattr(model, "columns", ()) for level in column.levels
    ]
    for stage in getattr(model, "stages", ()):
        parts.append((model.links(stage[-1]) or [stage[-1]])[-1])
    for part in parts:
        part.register_forward_hook(drop)


def levels_of(
    model: nn.Module, image: Tensor, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """The levels, without gradients, in fp64 on the CPU.

    Args:
        model: a backbone.
        image: (N, 3, H, W) on its device.
        dtype: of autocast; None without.
    """
    with torch.no_grad(), cast(image.device, dtype):
        return [_kept(level) for level in model(image)]


def gradients_of(
    model: nn.Module, image: Tensor, dtype: torch.dtype | None = None, seed: int = 2
) -> dict[str, Tensor]:
    """The gradients of a loss that weighs every pixel of every level at random.

    Args:
        model: a backbone.
        image: (N, 3, H, W) on its device.
        dtype: of autocast; None without.
        seed: of what the model draws, on every device.

    Returns:
        By the name of the parameter, in fp64 on the CPU.
    """
    found: dict[str, Tensor] = {}
    for scale in SCALES if dtype == torch.float16 else (1.0,):
        model.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        with cast(image.device, dtype):
            levels = model(image)
        (scale * weighed(levels)).backward()
        found = {
            name: _kept(parameter.grad) / scale
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        if all(gradient.isfinite().all() for gradient in found.values()):
            break
    model.zero_grad(set_to_none=True)
    return found


def weighed(levels: Sequence[Tensor]) -> Tensor:
    """A loss of levels with gradients everywhere, the same on any device."""
    generator = torch.Generator().manual_seed(3)
    total = 0.0
    for level in levels:
        weights = torch.randn(level.shape, generator=generator) / level.numel() ** 0.5
        wide = torch.promote_types(level.dtype, torch.float32)
        total = total + (level.to(wide) * weights.to(level.device, wide)).sum()
    return total


def cast(device: torch.device, dtype: torch.dtype | None):
    """Autocast to a dtype; None leaves everything as it is."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def level_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest error of a level, relative to its largest magnitude."""
    if len(found) != len(expected):
        return float("inf")
    return max(
        _over((one - other).abs().max(), other.abs().max())
        for one, other in zip(found, expected, strict=True)
    )


def gradient_error(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> float:
    """Largest error of a parameter's gradient, relative to its largest magnitude."""
    if found.keys() != expected.keys():
        return float("inf")
    largest = max(gradient.abs().max() for gradient in expected.values())
    return max(
        _over(
            (found[name] - gradient).abs().max(),
            torch.maximum(gradient.abs().max(), LEAST_SHARE * largest),
        )
        for name, gradient in expected.items()
    )


def distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Length of the error of all gradients together, over their length."""
    if found.keys() != expected.keys():
        return float("inf")
    both = [
        torch.cat([one[name].flatten() for name in expected])
        for one in (found, expected)
    ]
    return _over((both[0] - both[1]).norm(), both[1].norm())


def _over(error: Tensor, magnitude: Tensor) -> float:
    ratio = (error / magnitude).item()
    return ratio if ratio == ratio else float("inf")  # not a number: all are 0, or NaN


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)


class LevelsModel(BaseModel):
    """What a runner trains: a backbone and the loss of its levels."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(
        self, inputs: Tensor, data_samples: None = None, mode: str = "loss"
    ) -> dict[str, Tensor]:
        """The loss, as mmengine wants it."""
        return {"loss": weighed(self.backbone(inputs))}
