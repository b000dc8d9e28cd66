"""How stitching runs the backbones of any toolbox, stage by stage, block by block.

`Anchor` is the protocol. `anchor_of` finds the one for a backbone; `register_anchor`
adds one for a class of your own.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmrev.models.layers import pad_to_multiple
from mmrev.models.stitching.modes import Modes, OfSize

Part = nn.Module | nn.Parameter
STRIDES = (4, 8, 16, 32)
OWN = "mmrev.models.backbones"
# Where mmdet, mmseg and mmpretrain keep their backbones.
MMDET, MMSEG, MMPRETRAIN = TOOLBOXES = tuple(
    f"{name}.models.backbones" for name in ("mmdet", "mmseg", "mmpretrain")
)


class Tokens(NamedTuple):
    """A feature between two blocks.

    Attributes:
        values: (N, extra + H * W, C); extra tokens, as the class token, come first.
        size: H and W.
    """

    values: Tensor
    size: tuple[int, int]


def tokens_of(x: Tensor) -> Tokens:
    """(N, C, H, W) as tokens."""
    return Tokens(x.flatten(2).mT, tuple(x.shape[-2:]))


def map_of(tokens: Tokens, extra: int = 0) -> Tensor:
    """Tokens, without the extra ones, as (N, C, H, W)."""
    return tokens.values[:, extra:].mT.unflatten(2, tokens.size)


class Anchor:
    """A backbone as stitching sees it; this class serves those whose features are maps.

    A state is whatever the backbone hands from block to block, here (N, C, H, W).

    Attributes:
        backbone: the module.
        has_modes: whether the backbone itself has memory modes, which then hold.
        modes: how blocks run, unless the backbone has modes.
        depths: blocks of each stage.
        widths: for each stage, the channels of the feature between its blocks; more
            than one number if the feature is more than one map.
        levels: for each stage, the levels that its end gives.
        channels: of each level.
        strides: of each level.
        num_extra_tokens: tokens in a feature beside those of the map.
        open_stages: stages that can be entered before their first block, where this
            does not change resolution or channels.
    """

    has_modes = False
    levels: Sequence[Sequence[int]] = ((0,), (1,), (2,), (3,))
    strides: Sequence[int] = STRIDES
    num_extra_tokens = 0
    open_stages: Sequence[int] = ()
    depths: list[int]
    widths: list[list[int]]

    def __init__(self, backbone: nn.Module):
        self.backbone = backbone
        self.modes = Modes()

    @property
    def channels(self) -> list[int]:
        """Of each level."""
        return [width for widths in self.widths for width in widths]

    def stem(self, image: Tensor) -> Any:
        """(N, 3, H, W) to the state that the first block takes."""
        raise NotImplementedError

    def run(self, state: Any, stage: int, start: int, stop: int) -> Any:
        """Run the blocks of a stage from ``start`` up to ``stop``.

        A chain of coupled blocks starts anew with the first.
        """
        # Not a slice of the Sequential: subclasses cannot build one.
        blocks = list(self.blocks(stage))[start:stop]
        return self.modes.run(blocks, state, self.couples)

    def blocks(self, stage: int) -> Sequence[nn.Module]:
        """The blocks of a stage."""
        raise NotImplementedError

    def couples(self, block: nn.Module) -> bool:
        """Whether a block keeps its input's shape and adds it: then it can couple."""
        return False

    @property
    def is_chained(self) -> bool:
        """Whether blocks run one by one may give another feature than together."""
        return self.modes.is_chained

    def leave(self, state: Any) -> list[Tokens]:
        """The feature in a state, one entry a map."""
        return [tokens_of(state)]

    def enter(self, feature: list[Tokens], image: Tensor) -> Any:
        """The state that holds a feature."""
        return map_of(feature[0])

    def level(self, state: Any, index: int) -> Tensor:
        """A level, (N, C, H, W), without its norm, from the state at a stage's end."""
        return state

    def norm(self, index: int) -> nn.Module | None:
        """What normalises a level, (N, C, H, W) to the same; None if nothing does."""
        return None

    def stem_parts(self) -> list[Part]:
        """What `stem` uses."""
        raise NotImplementedError

    def entry_parts(self) -> list[Part]:
        """What `enter` uses."""
        return []

    def block_parts(self, stage: int, block: int) -> list[Part]:
        """What a block uses, with a change of resolution before it."""
        return [self.blocks(stage)[block]]

    def units(self) -> list[nn.Module]:
        """What runs as one, see `mmrev.models.backbones.base.Backbone`."""
        return [
            block for stage in range(len(self.depths)) for block in self.blocks(stage)
        ]

    def uncounted_parts(self) -> list[Part]:
        """What the reference leaves out when it counts parameters of a stitch."""
        return []


_ANCHORS: dict[str, Callable[[nn.Module], Anchor]] = {}


def register_anchor(*names: str) -> Callable[[type[Anchor]], type[Anchor]]:
    """Let backbones of some classes be run by an `Anchor`.

    Args:
        *names: of the classes, with their module or a package above it, as
            'mmdet.models.backbones.ResNet'. Classes are named, not imported, so that
            no toolbox has to be installed.
    """

    def register(anchor: type[Anchor]) -> type[Anchor]:
        _ANCHORS.update(dict.fromkeys(names, anchor))
        return anchor

    return register


def anchor_of(backbone: nn.Module) -> Anchor:
    """The anchor that runs a backbone.

    Raises:
        ValueError: if there is none for its class, or the class computes its forward
            pass in a way of its own.
    """
    for parent in type(backbone).__mro__:
        places = parent.__module__.split(".")
        for end in range(len(places), 0, -1):
            name = ".".join([*places[:end], parent.__qualname__])
            if name not in _ANCHORS:
                continue
            if type(backbone).forward is not parent.forward:
                raise ValueError(
                    f"Stitching can run {parent.__qualname__}, but "
                    f"{type(backbone).__qualname__} has a forward of its own. Register "
                    "an anchor for it with mmrev.models.stitching.register_anchor."
                )
            return _ANCHORS[name](backbone)
    known = ", ".join(sorted(_ANCHORS))
    raise ValueError(
        f"Stitching does not know how to run {type(backbone).__module__}."
        f"{type(backbone).__qualname__} block by block, only {known}. Register an "
        "anchor for it with mmrev.models.stitching.register_anchor."
    )


@register_anchor(
    f"{OWN}.base.StagedBackbone",
    # Whose forward only adds a warning, while a fade is not over.
    f"{OWN}.vanillanet.VanillaNet",
    f"{OWN}.reducenet.ReduceNet",
)
class StagedAnchor(Anchor):
    """Swin-V2, NFNet, VanillaNet and ReduceNet of this suite."""

    has_modes = True

    def __init__(self, backbone: nn.Module):
        super().__init__(backbone)
        self.depths = list(backbone.depths)
        self.widths = [[width] for width in backbone.channels]

    def blocks(self, stage: int) -> list[list[nn.Module]]:
        """For each block, what runs one after the other."""
        modules = list(self.backbone.stages[stage])
        first = len(modules) - self.depths[stage] + 1
        return [modules[:first], *([module] for module in modules[first:])]

    def block_parts(self, stage: int, block: int) -> list[Part]:
        return self.blocks(stage)[block]

    def units(self) -> list[nn.Module]:
        return self.backbone.units()

    def stem(self, image: Tensor) -> Tensor:
        return self.backbone.run(self.backbone.stem, image)

    def stem_parts(self) -> list[Part]:
        return [self.backbone.stem]

    def run(self, state: Tensor, stage: int, start: int, stop: int) -> Tensor:
        return self.backbone.run_blocks(state, stage, start, stop)

    @property
    def is_chained(self) -> bool:
        return self.backbone.is_chained

    def leave(self, state: Tensor) -> list[Tokens]:
        return [tokens_of(self.backbone.level(state))]

    def enter(self, feature: list[Tokens], image: Tensor) -> Tensor:
        state = map_of(feature[0])
        return state.permute(0, 2, 3, 1) if self.backbone.channels_last else state

    def level(self, state: Tensor, index: int) -> Tensor:
        return self.backbone.level(state)

    def norm(self, index: int) -> nn.Module | None:
        return self.backbone.norm(index)


@register_anchor(f"{OWN}.revcol.RevCol")
class ColumnsAnchor(Anchor):
    """RevCol, whose blocks are columns and whose feature is all four levels.

    A state is the stem's output, which every column reads, and the levels, or None.
    """

    has_modes = True
    levels = ((0, 1, 2, 3),)

    def __init__(self, backbone: nn.Module):
        super().__init__(backbone)
        self.depths = [backbone.num_columns]
        self.widths = [list(backbone.channels)]

    def blocks(self, stage: int) -> Sequence[nn.Module]:
        return self.backbone.columns

    def units(self) -> list[nn.Module]:
        return self.backbone.units()

    def stem(self, image: Tensor) -> tuple[Tensor, None]:
        return self.backbone.embed(image), None

    def stem_parts(self) -> list[Part]:
        return [self.backbone.stem]

    def entry_parts(self) -> list[Part]:
        return [self.backbone.stem]

    def run(self, state: tuple, stage: int, start: int, stop: int) -> tuple:
        if start == stop:
            return state
        stem, levels = state
        columns = self.backbone.columns[start:stop]
        return stem, self.backbone.run(columns, stem, levels)[0]

    def leave(self, state: tuple) -> list[Tokens]:
        return [tokens_of(level) for level in state[1]]

    def enter(self, feature: list[Tokens], image: Tensor) -> tuple:
        return self.backbone.embed(image), [map_of(tokens) for tokens in feature]

    def level(self, state: tuple, index: int) -> Tensor:
        return state[1][index]

    def norm(self, index: int) -> nn.Module | None:
        return self.backbone.norm(index)


class _Normalised(nn.Module):
    """A norm of tokens, of a map."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        tokens = tokens_of(x)
        return map_of(Tokens(self.norm(tokens.values), tokens.size)).contiguous()


@register_anchor(*(f"{place}.SwinTransformer" for place in TOOLBOXES))
class SwinAnchor(Anchor):
    """Swin of mmdet, mmseg and mmpretrain; a state is (N, H * W, C), H and W.

    There patches are merged at the end of a stage, here before a stage's first block.
    Every block couples.
    """

    open_stages = (0,)

    def __init__(self, backbone: nn.Module):
        super().__init__(backbone)
        if getattr(backbone, "out_after_downsample", False):
            raise ValueError(
                "Stitching needs SwinTransformer's levels before patches are merged, "
                "got out_after_downsample=True. Set it to False."
            )
        self.depths = [len(stage.blocks) for stage in backbone.stages]
        self.widths = [[width] for width in backbone.num_features]

    def blocks(self, stage: int) -> Sequence[nn.Module]:
        return self.backbone.stages[stage].blocks

    def couples(self, block: nn.Module) -> bool:
        return True

    def _merging(self, stage: int) -> nn.Module | None:
        return self.backbone.stages[stage - 1].downsample if stage else None

    def stem(self, image: Tensor) -> tuple:
        backbone = self.backbone
        x, size = backbone.patch_embed(image)
        if backbone.use_abs_pos_embed:
            x = x + _resized(backbone, backbone.absolute_pos_embed, size, 0)
        return backbone.drop_after_pos(x), tuple(size)

    def stem_parts(self) -> list[Part]:
        parts = [self.backbone.patch_embed]
        if self.backbone.use_abs_pos_embed:
            parts.append(self.backbone.absolute_pos_embed)
        return parts

    def run(self, state: tuple, stage: int, start: int, stop: int) -> tuple:
        x, size = state
        if start == 0 and self._merging(stage) is not None:
            x, size = self.modes.call(OfSize(self._merging(stage), size), x)
        blocks = list(self.blocks(stage))[start:stop]
        sized = [OfSize(block, size) for block in blocks]
        return self.modes.run(sized, x, self.couples), tuple(size)

    def leave(self, state: tuple) -> list[Tokens]:
        return [Tokens(*state)]

    def enter(self, feature: list[Tokens], image: Tensor) -> tuple:
        return tuple(feature[0])

    def level(self, state: tuple, index: int) -> Tensor:
        return map_of(Tokens(*state))

    def norm(self, index: int) -> nn.Module | None:
        norm = getattr(self.backbone, f"norm{index}", None)
        return norm and _Normalised(norm)

    def block_parts(self, stage: int, block: int) -> list[Part]:
        parts = super().block_parts(stage, block)
        if block == 0 and self._merging(stage) is not None:
            parts.append(self._merging(stage))
        return parts

    def uncounted_parts(self) -> list[Part]:
        """Merging of the front's patches."""
        merging = map(self._merging, range(len(self.depths)))
        return [module for module in merging if module is not None]


class _ResNetAnchor(Anchor):
    """What the ResNets of all libraries share; blocks without `downsample` couple."""

    def __init__(self, backbone: nn.Module):
        super().__init__(backbone)
        self.depths = [len(self.blocks(stage)) for stage in range(4)]
        self.widths = [[_out_channels(self.blocks(stage)[-1])] for stage in range(4)]

    def couples(self, block: nn.Module) -> bool:
        return block.downsample is None

    def stem(self, image: Tensor) -> Tensor:
        for part in self.stem_parts():
            image = part(image)
        return image


@register_anchor(*(f"{place}.ResNet" for place in TOOLBOXES))
class ResNetAnchor(_ResNetAnchor):
    """ResNet of mmdet, mmseg and mmpretrain, with its variants."""

    def blocks(self, stage: int) -> nn.Sequential:
        return getattr(self.backbone, self.backbone.res_layers[stage])

    def stem_parts(self) -> list[Part]:
        net = self.backbone
        first = [net.stem] if net.deep_stem else [net.conv1, net.norm1, net.relu]
        return [*first, net.maxpool]


@register_anchor(f"{MMPRETRAIN}.VisionTransformer")
class ViTAnchor(Anchor):
    """Plain ViT of mmpretrain, DeiT included; one stage, one level of stride 16.

    A state is (N, 1 + H * W, C), with the class token if the model has one, H and W.
    Every block couples.
    """

    levels = ((0,),)
    open_stages = (0,)

    def __init__(self, backbone: nn.Module):
        super().__init__(backbone)
        self.depths = [len(backbone.layers)]
        self.widths = [[backbone.embed_dims]]
        self.num_extra_tokens = int(backbone.cls_token is not None)
        self.patch_size = backbone.patch_embed.projection.kernel_size[0]
        self.strides = [self.patch_size]

    def blocks(self, stage: int) -> Sequence[nn.Module]:
        return self.backbone.layers

    def couples(self, block: nn.Module) -> bool:
        return True

    def stem(self, image: Tensor) -> tuple:
        net = self.backbone
        x, size = net.patch_embed(pad_to_multiple(image, self.patch_size))
        position = _resized(net, net.pos_embed, size, self.num_extra_tokens)
        x = self._with_class_token(x) + position
        return net.pre_norm(net.drop_after_pos(x)), tuple(size)

    def _with_class_token(self, x: Tensor) -> Tensor:
        token = self.backbone.cls_token
        if token is None:
            return x
        return torch.cat([token.expand(len(x), -1, -1), x], dim=1)

    def stem_parts(self) -> list[Part]:
        norm = getattr(self.backbone, "pre_norm", nn.Identity())
        return [self.backbone.patch_embed, norm, *self._tokens()]

    def _tokens(self) -> list[Part]:
        net = self.backbone
        return [token for token in (net.cls_token, net.pos_embed) if token is not None]

    def run(self, state: tuple, stage: int, start: int, stop: int) -> tuple:
        x, size = state
        return super().run(x, stage, start, stop), size

    def leave(self, state: tuple) -> list[Tokens]:
        return [Tokens(*state)]

    def enter(self, feature: list[Tokens], image: Tensor) -> tuple:
        return tuple(feature[0])

    def level(self, state: tuple, index: int) -> Tensor:
        return map_of(Tokens(*state), self.num_extra_tokens)

    def norm(self, index: int) -> nn.Module | None:
        return _Normalised(self.backbone.ln1) if self.backbone.final_norm else None

    def uncounted_parts(self) -> list[Part]:
        """Class token and position embedding."""
        return self._tokens()


@register_anchor(f"{MMSEG}.MAE")
class MAEAnchor(ViTAnchor):
    """MAE of mmseg, whose relative position bias takes images of one size."""

    def stem(self, image: Tensor) -> tuple:
        net = self.backbone
        expected = tuple(net.img_size)
        if image.shape[2:] != expected:
            raise ValueError(
                f"Stitching: MAE takes images of {expected}, got "
                f"{tuple(image.shape[2:])}. Crop them, in tests with mode='slide'."
            )
        x, size = net.patch_embed(image)
        return self._with_class_token(x) + net.pos_embed, tuple(size)

    def norm(self, index: int) -> nn.Module | None:
        return _Normalised(self.backbone.norm1) if self.backbone.final_norm else None


class _TimmAnchor:
    """A model of timm, within the wrapper of mmpretrain or mmseg."""

    def __init__(self, backbone: nn.Module):
        self.net = backbone.timm_model
        super().__init__(backbone)


class TimmResNetAnchor(_TimmAnchor, _ResNetAnchor):
    """ResNet of timm."""

    def blocks(self, stage: int) -> nn.Sequential:
        return getattr(self.net, f"layer{stage + 1}")

    def stem_parts(self) -> list[Part]:
        return [self.net.conv1, self.net.bn1, self.net.act1, self.net.maxpool]


class TimmEfficientNetAnchor(_TimmAnchor, Anchor):
    """EfficientNet of timm, Lite and the MobileNets included; seven stages.

    The last stage of a stride gives its level. Blocks with `has_skip` couple.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__(backbone)
        stages = self.net.blocks
        self.depths = [len(stage) for stage in stages]
        self.widths = [[_out_channels(stage[-1])] for stage in stages]
        stride, strides = 2, []
        for stage in stages:
            stride *= _stride(stage[0])
            strides.append(stride)
        ends = {stride: stage for stage, stride in enumerate(strides)}
        if not set(STRIDES) <= set(ends):
            raise ValueError(
                f"Stitching needs levels of strides {STRIDES}, got an EfficientNet "
                f"whose stages have strides {strides}."
            )
        self.levels = [
            (STRIDES.index(stride),) if ends[stride] == stage and stride > 2 else ()
            for stage, stride in enumerate(strides)
        ]

    @property
    def channels(self) -> list[int]:
        ends = zip(self.widths, self.levels, strict=True)
        return [width for (width,), levels in ends if levels]

    def blocks(self, stage: int) -> nn.Sequential:
        return self.net.blocks[stage]

    def couples(self, block: nn.Module) -> bool:
        return block.has_skip

    def stem(self, image: Tensor) -> Tensor:
        return self.net.bn1(self.net.conv_stem(image))

    def stem_parts(self) -> list[Part]:
        return [self.net.conv_stem, self.net.bn1]


_TIMM = {
    "EfficientNet": TimmEfficientNetAnchor,
    "EfficientNetFeatures": TimmEfficientNetAnchor,
    "ResNet": TimmResNetAnchor,
}


@register_anchor(f"{MMSEG}.TIMMBackbone", f"{MMPRETRAIN}.TIMMBackbone")
def timm_anchor(backbone: nn.Module) -> Anchor:
    """The anchor for a model of timm.

    Raises:
        ValueError: if there is none for its class.
    """
    name = type(backbone.timm_model).__name__
    if name not in _TIMM:
        raise ValueError(
            f"Stitching can run timm's {', '.join(_TIMM)}, got {name}. Where "
            "features_only=True wraps the model, leave it out."
        )
    return _TIMM[name](backbone)


def _out_channels(block: nn.Module) -> int:
    """Channels after a block of convolutions."""
    convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    names = ("downsample", "se")
    main = [
        module
        for name, module in block.named_modules()
        if isinstance(module, nn.Conv2d) and not name.startswith(names)
    ]
    return (main or convs)[-1].out_channels


def _stride(block: nn.Module) -> int:
    strides = [m.stride[0] for m in block.modules() if isinstance(m, nn.Conv2d)]
    return max(strides)


def _resized(
    backbone: nn.Module, embedding: Tensor, size: tuple[int, int], extra: int
) -> Tensor:
    """An absolute position embedding, resized as mmpretrain does."""
    from mmpretrain.models.utils import resize_pos_embed

    return resize_pos_embed(
        embedding, backbone.patch_resolution, size, backbone.interpolate_mode, extra
    )
