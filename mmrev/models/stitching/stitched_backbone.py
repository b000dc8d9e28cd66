"""One backbone made of several: every route through them is an operating point.

Papers: Stitchable Neural Networks, arXiv 2302.06586; SN-Netv2, arXiv 2307.00154.
Reference code: ziplab/SN-Net, ziplab/SN-Netv2. Written anew.
Deviations: hierarchical anchors give four levels. A level belongs to the anchor that
ends its stage, passes that anchor's own norm and a map of its own to the widths of the
largest anchor, where SN-Netv2 passes it through the route's stitches without a norm.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.distributed as dist
from mmengine.logging import print_log
from mmengine.model import BaseModule, ModuleList, initialize
from torch import Tensor, nn

from mmrev.models.layers import SHORTEST, Coupled
from mmrev.models.stitching.anchors import STRIDES, Anchor, Part, Tokens, anchor_of
from mmrev.models.stitching.modes import Modes, longest_chain
from mmrev.models.stitching.routes import (
    Crossing,
    count_layers,
    enumerate_routes,
    segments,
)
from mmrev.models.stitching.stitch import Stitch
from mmrev.registry import MODELS
from mmrev.reversible import MEMORY_MODES


class _Reach(torch.autograd.Function):
    """Pass a level on, and let the backward pass come by parameters it has no part in.

    DistributedDataParallel waits for every parameter: for those of other routes, too.
    They get no gradient here, which it takes for zero.
    """

    @staticmethod
    def forward(ctx, level: Tensor, *parameters: nn.Parameter) -> Tensor:
        ctx.count = len(parameters)
        return level.view_as(level)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, *[None] * ctx.count


@MODELS.register_module()
class StitchedBackbone(Coupled, BaseModule):
    """Two or more backbones and the stitches between them.

    Every stitch, that is every route through the anchors, gives levels of the same
    channels and strides, those of the largest anchor; `set_stitch` chooses one, for
    training and evaluation alike. It starts with the largest anchor alone.

    Anchors of mmrev train in the memory mode and coupling of their own configs, all
    others in those given here. In either, a chain of coupled blocks ends with a stage
    and at a stitch.

    Args:
        anchors: configs of backbones, small to large, of mmrev, mmdet, mmseg or
            mmpretrain, timm through ``TIMMBackbone``; see `anchor_of`.
        routes: settings of `enumerate_routes`: ``stages`` and others.
        pyramid: config of a neck inside the backbone that makes four levels of one, for
            plain ViTs: ``dict(type='mmrev.SimpleFeaturePyramid', out_channels=256)``.
        rank: trains the stitches by updates of this rank; None trains them whole.
        adapters: what brings the levels of the smaller anchors to the largest one's:
            'separate', a linear map of their own behind their norm; 'shared', as in
            SN-Netv2, the last stitches of the stage, then the largest anchor's norm,
            wherever the stage has stitches.
        out_indices: levels to return.
        memory: of anchors of other toolboxes: 'store' keeps what the backward pass
            needs; 'recompute' keeps the input of every block, and runs it again;
            'reverse' rebuilds these inputs where blocks are coupled, and is 'recompute'
            elsewhere. Stems, stitches and adapters are kept in all.
        coupling: of anchors of other toolboxes: None, or 'dual', which makes blocks
            invertible that add their input (see `run_chain`), starts as the ordinary
            networks, with their weights, and is moved by `mmrev.CouplingHook`.
        only: id of a single stitch to keep, without the weights of all others.
        init_cfg: of mmengine: ``dict(type='Pretrained', checkpoint=...,
            prefix='backbone.')`` loads the whole; without, anchors load or initialise
            themselves, unless `only` is set.

    Attributes:
        routes: the stitches; the index is the id.
        stitch: id of the one in use.
        stitch_ids: those that can be chosen.
        runners: one `Anchor` for each of ``anchors``.

    Raises:
        ValueError: if the anchors cannot be stitched, or not run in a mode.
    """

    def __init__(
        self,
        anchors: Sequence[dict],
        routes: Mapping,
        pyramid: dict | None = None,
        rank: int | None = None,
        adapters: str = "separate",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        memory: str = "store",
        coupling: str | None = None,
        only: int | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.anchors = ModuleList(MODELS.build(dict(anchor)) for anchor in anchors)
        self.runners = [anchor_of(backbone) for backbone in self.anchors]
        _check_alike(self.runners)
        self._set_modes(memory, coupling)
        self.depths = [list(anchor.depths) for anchor in self.runners]
        self.routes = enumerate_routes(self.depths, **routes)
        self._check_entries()
        self.stitches = nn.ModuleDict()
        for (stage, front, end), count in count_layers(self.routes).items():
            widths = (self.runners[anchor].widths[stage] for anchor in (front, end))
            pairs = list(zip(*widths, strict=True))
            self.stitches[_key(stage, front, end)] = nn.ModuleList(
                nn.ModuleList(Stitch(*pair, rank) for pair in pairs)
                for _ in range(count)
            )
        if adapters not in ("separate", "shared"):
            raise ValueError(
                "StitchedBackbone: adapters must be 'separate' or 'shared', got "
                f"{adapters!r}."
            )
        self._share = adapters == "shared"
        target = self.runners[-1].channels
        self.adapters = nn.ModuleList(
            nn.ModuleList(
                nn.Identity()
                if width == out or self._shared(index, level)
                else Stitch(width, out)
                for level, (width, out) in enumerate(
                    zip(anchor.channels, target, strict=True)
                )
            )
            for index, anchor in enumerate(self.runners)
        )
        self.pyramid = None
        self.channels = list(target)
        if pyramid is not None:
            self.pyramid = MODELS.build({"in_channels": target[0], **pyramid})
            self.channels = list(self.pyramid.channels)
        for index in out_indices:
            if not 0 <= index < len(self.channels):
                raise ValueError(
                    "StitchedBackbone: out_indices must lie in "
                    f"0..{len(self.channels) - 1}, got {index}."
                )
        self.out_indices = tuple(out_indices)
        table = [
            (id, *crossing)
            for id, route in enumerate(self.routes)
            for crossing in route.crossings
        ]
        rows = torch.tensor(table, dtype=torch.long).view(-1, 7)
        self.register_buffer("route_table", rows)
        self.stitch_ids: Sequence[int] = range(len(self.routes))
        self.set_stitch(len(self.anchors) - 1 if only is None else only)
        if only is not None:
            self.stitch_ids = [only]
            self._keep_only(only)

    def _set_modes(self, memory: str, coupling: str | None) -> None:
        """Say how the blocks of other toolboxes' anchors run."""
        others = [anchor for anchor in self.runners if not anchor.has_modes]
        _check_modes(memory, coupling, others, self.runners)
        self.memory, self.coupling = memory, coupling
        self._start_coupling()
        for anchor in others:
            anchor.modes = Modes(self)
        if memory == "reverse":
            self._say_what_is_short()

    def _say_what_is_short(self) -> None:
        found = {
            index: [
                str(stage)
                for stage in range(len(anchor.depths))
                if longest_chain(anchor.blocks(stage), anchor.couples) < SHORTEST
            ]
            for index, anchor in enumerate(self.runners)
            if not anchor.has_modes
        }
        short = [f"{', '.join(s)} of anchor {i}" for i, s in found.items() if s]
        if short:
            print_log(
                "StitchedBackbone: memory='reverse' would save nothing in stage "
                f"{' and '.join(short)}, whose chains have less than {SHORTEST} "
                "blocks; there it is 'recompute', as on routes that run no more.",
                logger="current",
            )

    @property
    def no_weight_decay(self) -> tuple[str, ...]:
        """Parts of names that the anchors exempt from weight decay."""
        names = [getattr(anchor, "no_weight_decay", ()) for anchor in self.anchors]
        return tuple(sorted(set().union(*names)))

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Layer id of a parameter, for layer-wise learning rate decay.

        Every anchor counts its own layers; stitches and adapters are of the last.

        Args:
            param_name: the parameter's full name.
            prefix: what precedes the backbone's own names, as 'backbone.'.

        Returns:
            The id, and the number of ids (the last one is the head's).

        Raises:
            ValueError: if an anchor does not know its layers.
        """
        for anchor in self.anchors:
            if not hasattr(anchor, "get_layer_depth"):
                raise ValueError(
                    "StitchedBackbone: layer-wise decay needs anchors with "
                    f"get_layer_depth, got {type(anchor).__name__} without. Set "
                    "decay_rate=1.0."
                )
        owns = [f"{prefix}anchors.{index}." for index in range(len(self.anchors))]
        own = next((own for own in owns if param_name.startswith(own)), owns[-1])
        return self.anchors[owns.index(own)].get_layer_depth(param_name, own)

    def set_stitch(self, stitch: int) -> None:
        """Choose the route that images take from now on.

        Args:
            stitch: id, an index of `routes`.

        Raises:
            ValueError: if there is none.
        """
        if stitch not in self.stitch_ids:
            raise ValueError(
                f"StitchedBackbone: a stitch id must lie in {self.stitch_ids[0]}.."
                f"{self.stitch_ids[-1]} (0..{len(self.anchors) - 1} are the anchors "
                f"alone), got {stitch}."
            )
        self.stitch = stitch

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the levels of `out_indices` along the chosen route.

        Args:
            x: images, (N, 3, H, W), any H and W.

        Returns:
            (N, C[l], ceil(H / s), ceil(W / s)) with s = 4, 8, 16, 32.
        """
        route = self.routes[self.stitch]
        state = self.runners[route.anchors[0]].stem(x)
        levels: dict[int, Tensor] = {}
        for index, stage, start, stop, crossing in segments(route, self.depths):
            anchor = self.runners[index]
            state = anchor.run(state, stage, start, stop)
            if crossing is not None:
                state = self._cross(crossing, anchor.leave(state), x)
                continue
            for level in self._wanted(anchor, stage):
                levels[level] = self._level(index, level, state)
        if self.pyramid is not None:
            # Anchors pad images to whole patches, levels cover the image alone.
            levels = {
                index: level[..., : -(-x.shape[2] // s), : -(-x.shape[3] // s)]
                for index, (level, s) in enumerate(
                    zip(self.pyramid(levels[0]), STRIDES, strict=True)
                )
            }
        outputs = [levels[index] for index in self.out_indices]
        if self.training and torch.is_grad_enabled() and dist.is_initialized():
            trained = [p for p in self.parameters() if p.requires_grad]
            outputs[0] = _Reach.apply(outputs[0], *trained)
        return tuple(outputs)

    def units(self) -> list[nn.Module]:
        """The units of all anchors, see `mmrev.models.backbones.base.Backbone`."""
        return [unit for anchor in self.runners for unit in anchor.units()]

    def parameters_of(self, stitch: int) -> list[nn.Parameter]:
        """Every parameter that a route uses, each once."""
        found: dict[int, nn.Parameter] = {}
        for part in self.parts(stitch):
            own = [part] if isinstance(part, nn.Parameter) else part.parameters()
            found.update((id(parameter), parameter) for parameter in own)
        return list(found.values())

    def parts(self, stitch: int) -> list[Part]:
        """Every module and parameter that a route uses."""
        route = self.routes[stitch]
        parts = self.runners[route.anchors[0]].stem_parts()
        for index, stage, start, stop, crossing in segments(route, self.depths):
            anchor = self.runners[index]
            for block in range(start, stop):
                parts += anchor.block_parts(stage, block)
            if crossing is not None:
                parts.append(self._stitches(crossing))
                parts += self.runners[crossing.end].entry_parts()
                continue
            for level in self._wanted(anchor, stage):
                parts += self._outlets(index, level)
        if self.pyramid is not None:
            parts.append(self.pyramid)
        return parts

    def init_weights(self) -> None:
        """As mmengine; a single stitch, whose anchors lack layers, is only loaded."""
        if len(self.stitch_ids) > 1:
            super().init_weights()
        elif self.init_cfg:
            initialize(self, self.init_cfg)

    def _cross(self, crossing: Crossing, feature: list[Tokens], image: Tensor):
        stitched = [
            Tokens(stitch(tokens.values), tokens.size)
            for stitch, tokens in zip(self._stitches(crossing), feature, strict=True)
        ]
        return self.runners[crossing.end].enter(stitched, image)

    def _stitches(self, crossing: Crossing) -> nn.ModuleList:
        return self.stitches[crossing_key(crossing)][crossing.layer]

    def _wanted(self, anchor: Anchor, stage: int) -> list[int]:
        """The levels that a stage gives and the output needs."""
        if self.pyramid is not None:
            return list(anchor.levels[stage])
        return [level for level in anchor.levels[stage] if level in self.out_indices]

    def _level(self, index: int, level: int, state) -> Tensor:
        x = self.runners[index].level(state, level)
        for outlet in self._outlets(index, level):
            if isinstance(outlet, Stitch):
                x = outlet(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            else:
                x = outlet(x)
        return x

    def _outlets(self, index: int, level: int) -> list[nn.Module]:
        """What a level of an anchor passes to become one of the output, in order."""
        shared = self._shared(index, level)
        norm = self.runners[-1 if shared else index].norm(level)
        return [*shared, *([norm] if norm else []), self.adapters[index][level]]

    def _shared(self, index: int, level: int) -> list[Stitch]:
        """The stitches that lead a level from an anchor to the largest; [] if none."""
        if not self._share:
            return []
        levels = self.runners[index].levels
        stage = next(stage for stage, own in enumerate(levels) if level in own)
        neighbours = pairwise(range(index, len(self.runners)))
        keys = [_key(stage, *pair) for pair in neighbours]
        if not all(key in self.stitches for key in keys):
            return []
        return [self.stitches[key][-1][levels[stage].index(level)] for key in keys]

    def _keep_only(self, stitch: int) -> None:
        """Drop the parameters that a stitch does not use, and the layers they leave.

        Containers stay, since backbones reach into them when their mode is set.
        """
        parts = [p for p in self.parts(stitch) if isinstance(p, nn.Module)]
        modules = {id(module) for part in parts for module in part.modules()}
        parameters = {id(parameter) for parameter in self.parameters_of(stitch)}
        for module in list(self.modules()):
            for name, parameter in module._parameters.items():
                if id(parameter) not in parameters:
                    module._parameters[name] = None
            for name, child in module._modules.items():
                if (
                    child is not None
                    and id(child) not in modules
                    and not child._modules
                ):
                    module._modules[name] = nn.Identity()

    def _check_entries(self) -> None:
        for route in self.routes:
            for crossing in route.crossings:
                opened = self.runners[crossing.end].open_stages
                if crossing.before == 0 and crossing.stage not in opened:
                    raise ValueError(
                        f"StitchedBackbone: a route enters stage {crossing.stage} of "
                        f"anchor {crossing.end} before its first block, which changes "
                        "resolution or channels. Set monotone=True in routes."
                    )

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """Refuse the weights of other routes; coefficients as `Coupled` does."""
        theirs = state_dict.get(f"{prefix}route_table")
        if theirs is not None and not torch.equal(theirs.cpu(), self.route_table.cpu()):
            count = int(theirs[-1, 0]) + 1 if len(theirs) else 0
            raise ValueError(
                f"StitchedBackbone: the checkpoint has {count} stitches, this model "
                f"{len(self.routes)}, or the same number of others. Build it with the "
                "anchors and routes that the checkpoint was trained with."
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def crossing_key(crossing: Crossing) -> str:
    """Where the stitches of a crossing are, in `StitchedBackbone.stitches`."""
    return _key(crossing.stage, crossing.front, crossing.end)


def _key(stage: int, front: int, end: int) -> str:
    return f"stage{stage}_{front}to{end}"


def _check_alike(anchors: Sequence[Anchor]) -> None:
    if len(anchors) < 2:
        raise ValueError(
            f"StitchedBackbone: expected two anchors or more, got {len(anchors)}."
        )
    for what in ("levels", "strides", "num_extra_tokens"):
        values = [getattr(anchor, what) for anchor in anchors]
        if any(_plain(value) != _plain(values[0]) for value in values):
            names = [type(anchor.backbone).__name__ for anchor in anchors]
            raise ValueError(
                f"StitchedBackbone: anchors must have the same {what}, got "
                + ", ".join(f"{n} {v}" for n, v in zip(names, values, strict=True))
                + ". Stitch backbones whose stages end at the same strides."
            )


def _check_modes(
    memory: str, coupling: str | None, others: list[Anchor], anchors: list[Anchor]
) -> None:
    """Refuse a memory mode or coupling that the anchors of other toolboxes lack."""
    if memory not in MEMORY_MODES:
        raise ValueError(
            f"StitchedBackbone: memory must be one of {', '.join(MEMORY_MODES)}, got "
            f"{memory!r}."
        )
    if coupling not in (None, "dual"):
        raise ValueError(
            f"StitchedBackbone: coupling must be None or 'dual', got {coupling!r}"
            + (
                ": anchors are pretrained, and two streams are another network. "
                "coupling='dual' fine-tunes ordinary weights."
                if coupling == "two-stream"
                else "."
            )
        )
    if not others and (memory, coupling) != ("store", None):
        names = [type(anchor.backbone).__name__ for anchor in anchors]
        raise ValueError(
            "StitchedBackbone: memory and coupling are for anchors of other toolboxes, "
            f"got memory={memory!r}, coupling={coupling!r} and {', '.join(names)} of "
            "mmrev. Set both in each of anchors."
        )
    for backbone in (anchor.backbone for anchor in anchors):
        if getattr(backbone, "memory_budget_mb", None) is not None:
            raise ValueError(
                f"StitchedBackbone: {type(backbone).__name__} has memory='auto', which "
                "plans for it alone and not for routes. Set one of "
                f"{', '.join(MEMORY_MODES)} in anchors."
            )
    for anchor in others if coupling else ():
        stages = map(anchor.blocks, range(len(anchor.depths)))
        if not any(longest_chain(blocks, anchor.couples) for blocks in stages):
            raise ValueError(
                f"StitchedBackbone: coupling={coupling!r} needs anchors with blocks "
                f"that add their input, got {type(anchor.backbone).__name__}. Set "
                "coupling=None, and memory='recompute' to save memory."
            )
    if memory == "reverse" and not coupling:
        raise ValueError(
            "StitchedBackbone: memory='reverse' needs coupling='dual', which "
            "fine-tunes ordinary weights, got None. memory='recompute' does without."
        )


def _plain(value):
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return value


def find_stitched(model: nn.Module) -> StitchedBackbone:
    """The stitched backbone of a model.

    Raises:
        ValueError: if there is none.
    """
    for module in model.modules():
        if isinstance(module, StitchedBackbone):
            return module
    raise ValueError(
        f"Expected a model with a mmrev.StitchedBackbone, got {type(model).__name__} "
        "without. Set model.backbone.type."
    )
