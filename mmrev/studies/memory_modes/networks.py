"""The networks that are measured, of any depth, and what they are measured beside."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmrev.datasets.batches import seeded
from mmrev.models.backbones import (
    nfnet,
    reducenet,
    revcol,
    swin_transformer_v2,
    vanillanet,
)
from mmrev.models.backbones.base import Backbone, StagedBackbone

STOCK = "stock checkpoint"
"""torch's own, of each level of RevCol, each block or link of other backbones."""
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Family:
    """A backbone in its published sizes.

    Attributes:
        backbone: the class.
        sizes: architectures by name.
        usual: the names that are measured unless others are asked for.
        deeper: numbers of columns, or of blocks in stage 3, over which costs grow.
        settings: that make its branches count from the start.
    """

    backbone: type[Backbone]
    sizes: Mapping[str, dict]
    usual: tuple[str, ...]
    deeper: tuple[int, ...] = (6, 18, 42)
    settings: dict = field(default_factory=dict)

    @property
    def couplings(self) -> tuple[str | None, ...]:
        """What its blocks can be coupled by; None is the ordinary network."""
        return (None, *getattr(self.backbone, "couplings", ()))


FAMILIES = {
    "revcol": Family(
        revcol.RevCol,
        revcol.ARCHITECTURES,
        usual=("tiny", "small", "base"),
        deeper=(4, 8, 16, 32),
        settings={"layer_scale_init_value": 1.0},
    ),
    "swinv2": Family(
        swin_transformer_v2.SwinTransformerV2,
        swin_transformer_v2.ARCHITECTURES,
        usual=("tiny",),
    ),
    "nfnet": Family(
        nfnet.NFNet,
        nfnet.ARCHITECTURES,
        usual=("F0",),
        settings={"skip_gain_init_value": 1.0},
    ),
    "reducenet": Family(reducenet.ReduceNet, reducenet.ARCHITECTURES, usual=("50",)),
    "vanillanet": Family(vanillanet.VanillaNet, vanillanet.ARCHITECTURES, usual=("6",)),
}


@dataclass(frozen=True)
class Case:
    """A network, the image that it trains on, and where.

    Attributes:
        family: what it is.
        arch: name of its size.
        coupling: of its blocks, or None.
        coefficients: a and b of the coupling 'dual'.
        size: height and width of the image, pixels.
        dtype: 'fp32', or of autocast, see `DTYPES`.
        device: where it runs.
        depth: columns, or blocks of stage 3; None leaves the architecture's own.
    """

    family: Family
    arch: str
    coupling: str | None = None
    coefficients: tuple[float, float] = (0.5, 0.5)
    size: int = 224
    dtype: str = "fp32"
    device: str = "cpu"
    depth: int | None = None

    @property
    def is_columns(self) -> bool:
        """Whether it consists of columns, or else of stages."""
        return self.family.backbone is revcol.RevCol

    @property
    def name(self) -> str:
        """Of the network."""
        text = f"{self.family.backbone.__name__} {self.arch}"
        return f"{text}, {self.coupling}" if self.coupling else text

    @property
    def place(self) -> str:
        """On what it is measured."""
        return f"{self.size} px, {self.dtype}, {self.device}"

    @property
    def unit(self) -> str:
        """What more depth consists of."""
        return "column" if self.is_columns else "block"

    @property
    def modes(self) -> list[str]:
        """Every way in which it can be trained."""
        modes = ["store", STOCK, "recompute"]
        return [*modes, "reverse"] if self.is_columns or self.coupling else modes

    def at(self, depth: int) -> "Case":
        """The same, of another depth."""
        return replace(self, depth=depth)

    def build(self) -> Backbone:
        """The network, the same weights each time, as after some training."""
        arch = dict(self.family.sizes[self.arch])
        if self.depth is not None:
            arch = _at_depth(arch, self.depth)
        settings = self.family.settings
        if self.coupling:
            settings = {**settings, "coupling": self.coupling}
        with seeded(0):
            model = self.family.backbone(arch, memory="store", **settings)
            model.init_weights()
            awake(model)
        if self.coupling == "dual":
            model.coefficients.copy_(torch.tensor(self.coefficients))
        return model.to(self.device)

    def image(self) -> Tensor:
        """A seeded image, (1, 3, size, size)."""
        with seeded(1):
            return torch.randn(1, 3, self.size, self.size).to(self.device)

    def autocast(self) -> torch.autocast:
        """Around a forward pass."""
        dtype = DTYPES[self.dtype]
        device = torch.device(self.device).type
        return torch.autocast(device, dtype, enabled=dtype is not None)

    def remark(self, model: Backbone) -> str | None:
        """Why a network has no reversal, or where it has none."""
        if self.is_columns:
            return None
        if not self.family.couplings[1:]:
            return "no reverse: its blocks do not add their input"
        if not self.coupling:
            return "no reverse without a coupling"
        choices = enumerate(model.memory_choices(), start=1)
        short = [str(stage) for stage, modes in choices if "reverse" not in modes]
        if not short:
            return None
        return f"reverse is recompute in stage {', '.join(short)}: too few blocks"


def _at_depth(arch: dict, depth: int) -> dict:
    if "num_columns" in arch:
        return {**arch, "num_columns": depth}
    if "depths" in arch:
        one, two, _, four = arch["depths"]
        return {**arch, "depths": [one, two, depth, four]}
    channels, strides = list(arch["channels"]), list(arch["strides"])
    start, stop = [i for i, stride in enumerate(strides) if stride == 2][1:]
    widths = [channels[start + 1]] * depth
    return {
        "channels": channels[: start + 1] + widths + channels[stop + 1 :],
        "strides": strides[: start + 1] + [1] * (depth - 1) + strides[stop:],
    }


@torch.no_grad()
def awake(model: nn.Module) -> None:
    """Give branches that start at 0 weights, and norms statistics, as of a training."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2 if parameter.ndim == 1 else 0.02)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, std=0.3)


def use_memory(model: Backbone, mode: str) -> None:
    """Train in a memory mode from now on, or with `STOCK`."""
    links = _links(model)
    for link in links:
        vars(link).pop("forward", None)
    vars(model).pop("run", None)
    model.set_memory("store" if mode == STOCK else mode)
    if mode != STOCK:
        return
    if isinstance(model, StagedBackbone):
        # In the place of the method that calls what is in no chain in a memory mode.
        model.run = _checkpointed
        if not model.coupling:
            return
    for link in links:
        link.forward = partial(checkpoint, link.forward, use_reentrant=False)


def _checkpointed(module: nn.Module, *inputs: Tensor, stage: int = 0) -> Tensor:
    return checkpoint(module, *inputs, use_reentrant=False)


def _links(model: Backbone) -> list[nn.Module]:
    """Levels of columns, or what chains consist of where blocks are coupled."""
    if isinstance(model, revcol.RevCol):
        return [level for column in model.columns for level in column.levels]
    links = [link for stage in model.stages for link in model.chain(stage)]
    # A sequence may be made anew whenever it is asked for.
    sequences = [link if type(link) is nn.Sequential else [link] for link in links]
    return [module for sequence in sequences for module in sequence]
