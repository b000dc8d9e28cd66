"""What every backbone of the suite shares."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit, initialize
from torch import Tensor, nn

from mmrev.checkpoints import load_backbone
from mmrev.models.layers import SHORTEST, Coupled, LayerNorm2d
from mmrev.models.memory_plan import plan_memory
from mmrev.reversible import MEMORY_MODES, recompute

# A config names the kind by a string or by the class.
_PRETRAINED = ("Pretrained", PretrainedInit)


class Backbone(BaseModule):
    """A module with strict pretrained weights, a frozen front and normalised levels.

    Args:
        channels: channels of the levels, finest first.
        out_indices: indices of the levels to return.
        out_norm: 'layer_norm' normalises every returned level; None does not.
        frozen_stages: -1 trains everything, 0 freezes the stem, n the stem and the
            first n of `num_stages`.
        num_stages: how many stages can be frozen.
        memory: one of `MEMORY_MODES`, or one for each level, or 'auto': the fastest
            that fit the budget, planned (see `plan_memory`) for the first batch, and
            again for one with more pixels.
        memory_budget_mb: of 'auto': megabytes (1e6) that a training step of the
            backbone may allocate, beside weights and gradients.
        init_cfg: of mmengine, a dict or a list of them;
            ``dict(type='Pretrained', checkpoint=...)`` takes any layout that
            `mmrev.checkpoints.convert_state_dict` knows, and loads it strictly.

    Raises:
        ValueError: on an index outside its range, an unknown norm or memory mode.
    """

    no_weight_decay: tuple[str, ...] = ()
    """Parts of parameter names that optimizers leave without weight decay."""
    channels_last = False
    """Whether features are (N, H, W, C)."""

    def __init__(
        self,
        *,
        channels: Sequence[int],
        out_indices: Sequence[int],
        out_norm: str | None,
        frozen_stages: int,
        num_stages: int,
        memory: str | Sequence[str],
        memory_budget_mb: float | None,
        init_cfg: dict | list[dict] | None,
    ):
        super().__init__(init_cfg)
        name = type(self).__name__
        last = len(channels) - 1
        for index in out_indices:
            if not 0 <= index <= last:
                raise ValueError(
                    f"{name}: out_indices must lie in 0..{last}, got {index}."
                )
        if out_norm not in (None, "layer_norm"):
            raise ValueError(
                f"{name}: out_norm must be None or 'layer_norm', got {out_norm!r}."
            )
        if not -1 <= frozen_stages <= num_stages:
            raise ValueError(
                f"{name}: frozen_stages must lie in -1..{num_stages}, "
                f"got {frozen_stages}."
            )
        self.channels = list(channels)
        self.embed_channels = self.channels[0]  # of what `embed` gives
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        if (memory == "auto") != (memory_budget_mb is not None):
            raise ValueError(
                f"{name}: memory='auto' and memory_budget_mb go together, got "
                f"{memory!r} and {memory_budget_mb}."
            )
        self.memory_budget_mb = memory_budget_mb
        self._planned_pixels = 0
        self.set_memory("recompute" if memory == "auto" else memory)
        if out_norm:
            self.norms = nn.ModuleDict(
                {str(i): LayerNorm2d(self.channels[i]) for i in self.out_indices}
            )

    def set_memory(self, memory: str | Sequence[str]) -> None:
        """Use a memory mode from now on.

        Args:
            memory: one of `MEMORY_MODES`, or one for each level, finest first.

        Raises:
            ValueError: on other modes, or another number of them.
        """
        count = len(self.channels)
        modes = [memory] * count if isinstance(memory, str) else list(memory)
        if len(modes) != count or not set(modes) <= set(MEMORY_MODES):
            raise ValueError(
                f"{type(self).__name__}: memory must be one of "
                f"{', '.join(MEMORY_MODES)}, or {count} of them, one a level, got "
                f"{memory!r}."
            )
        self._memory = modes

    @property
    def memory(self) -> list[str]:
        """The memory mode of each level."""
        return list(self._memory)

    def memory_choices(self) -> list[list[str]]:
        """The modes that each level can have, the one that keeps least last."""
        return [list(MEMORY_MODES)] * len(self.channels)

    def plan(self, x: Tensor) -> None:
        """With memory='auto', and before a training step, choose modes for images.

        Args:
            x: the images, (N, C, H, W).

        Raises:
            ValueError: if no modes fit the budget; it names the least.
        """
        if (
            self.memory_budget_mb is None
            or x.numel() <= self._planned_pixels
            or not (self.training and torch.is_grad_enabled())
            or torch.compiler.is_compiling()
        ):
            return
        self._planned_pixels = x.numel()
        plan = plan_memory(self, x.shape, self.memory_budget_mb)
        self.set_memory(plan.modes)
        print_log(
            f"{type(self).__name__}: memory={plan.modes} for images of "
            f"{tuple(x.shape)}: {plan.peak / 1e6:.0f} of {self.memory_budget_mb:g} MB.",
            logger="current",
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the levels of `out_indices`.

        Args:
            x: images, (N, in_channels, H, W), any H and W.

        Returns:
            (N, C[l], ceil(H / s), ceil(W / s)) with s = 4, 8, 16, 32.
        """
        self.plan(x)
        return self.encode(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """The stem's output, where `mmrev.MaskedBackbone` puts its token.

        Args:
            x: images, (N, in_channels, H, W).

        Returns:
            (N, `embed_channels`, h, w) at the stem's stride, channels last if the
            backbone says so.
        """
        raise NotImplementedError

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """The levels of `out_indices`, from what `embed` gives."""
        raise NotImplementedError

    def select(self, levels: Mapping[int, Tensor] | Sequence[Tensor]) -> tuple:
        """The levels of `out_indices`, in its order, normalised if asked for."""
        norms = [(i, self.norm(i)) for i in self.out_indices]
        return tuple(norm(levels[i]) if norm else levels[i] for i, norm in norms)

    def norm(self, index: int) -> nn.Module | None:
        """What normalises a level, (N, C, H, W) to the same; None if nothing does."""
        if not hasattr(self, "norms") or str(index) not in self.norms:
            return None
        return self.norms[str(index)]

    def init_weights(self) -> None:
        """Initialise, or load the checkpoint of `init_cfg` strictly.

        What `init_cfg` has of other kinds follows the family's own initialisation.

        Raises:
            ValueError: if the checkpoint lacks keys of this model or has others.
            FileNotFoundError: if there is no such file.
        """
        stated = self.init_cfg or []
        stated = stated if isinstance(stated, Sequence) else [stated]
        pretrained = [cfg for cfg in stated if cfg["type"] in _PRETRAINED]
        if not pretrained:
            self._init_weights()
            initialize(self, list(stated))
        for cfg in pretrained:
            load_backbone(self, cfg["checkpoint"])
        self._is_init = True

    def units(self) -> list[nn.Module]:
        """Modules that run as one, and again as one: what sharding gathers at a time.

        None is inside another; what they leave out stays gathered.
        """
        raise NotImplementedError

    def _init_weights(self) -> None:
        raise NotImplementedError

    def _frozen_modules(self) -> list[nn.Module]:
        """The modules that `frozen_stages` freezes."""
        raise NotImplementedError

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            module.requires_grad_(False)
            module.eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode, frozen parts excepted; return self."""
        super().train(mode)
        self._freeze()
        return self


class StagedBackbone(Coupled, Backbone):
    """A stem and stages of blocks; the level of a stage is what its last block gives.

    A family sets, after calling this constructor,

    - `stem`: (N, 3, H, W) to the feature that the first block takes;
    - `stages`: a ``ModuleList`` of ``Sequential``: blocks, each from one feature to the
      next; what changes the resolution precedes, or is part of, a stage's first block;
    - `depths`: blocks a stage;

    and `channels_last` if its features are not (N, C, H, W). Whoever wants to run or
    tap blocks one by one, as stitching, goes through these names and `run_blocks`. Its
    constructor ends with `_finish`.

    A family whose blocks add their input names the `couplings` that it can have and
    says by `links` what they consist of.

    Args:
        memory: 'store' keeps what the backward pass needs; 'recompute' keeps the input
            of the stem and of every block, and runs these again; 'reverse' rebuilds
            these inputs from what follows, which takes a coupling, and blocks enough.
            One mode, or one a stage, the stem having the first; or 'auto'.
        with_cp: True is ``memory='recompute'``.
        coupling: None, or how the blocks of a stage are made invertible, see
            `run_chain`. 'dual' starts as the ordinary network, with its weights, and is
            moved by `mmrev.CouplingHook`; 'two-stream' is another network, to be
            trained from scratch, whose levels are the means of two streams.
        **settings: of `Backbone`.

    Raises:
        ValueError: on a memory mode or coupling that the family does not have.
    """

    stem: nn.Module
    stages: nn.ModuleList
    depths: list[int]
    couplings: tuple[str, ...] = ()
    """Names in `mmrev.models.layers.COUPLINGS`."""

    def __init__(
        self,
        *,
        memory: str | Sequence[str],
        with_cp: bool,
        coupling: str | None,
        **settings,
    ):
        self.coupling = self._check_coupling(coupling)
        super().__init__(memory="recompute" if with_cp else memory, **settings)
        self._start_coupling()

    def _check_coupling(self, coupling: str | None) -> str | None:
        if coupling is None or coupling in self.couplings:
            return coupling
        name = type(self).__name__
        if not self.couplings:
            raise ValueError(
                f"{name}: coupling must be None, got {coupling!r}: its blocks do not "
                "add their input, so that nothing can be inverted. Use "
                "memory='recompute' to save memory."
            )
        raise ValueError(
            f"{name}: coupling must be None or {_names(self.couplings)}, got "
            f"{coupling!r}."
        )

    def set_memory(self, memory: str | Sequence[str]) -> None:
        """Use a memory mode from now on, see `Backbone.set_memory`.

        Raises:
            ValueError: also on 'reverse' without a coupling.
        """
        super().set_memory(memory)
        if "reverse" not in self._memory or self.coupling:
            return
        name = type(self).__name__
        if not self.couplings:
            raise ValueError(
                f"{name}: memory must be 'store' or 'recompute', got {memory!r}: its "
                "blocks do not add their input, so that nothing can be inverted."
            )
        raise ValueError(
            f"{name}: memory='reverse' needs coupling={_names(self.couplings)} "
            f"('dual' fine-tunes ordinary weights), got None. memory='recompute' "
            "does without."
        )

    def _finish(self) -> None:
        """Freeze what is frozen; say which stages are too short to be inverted."""
        self._freeze()
        short = [
            str(stage + 1)
            for stage, choices in enumerate(self.memory_choices())
            if self._memory[stage] not in choices
        ]
        if short:
            print_log(
                f"{type(self).__name__}: memory='reverse' would save nothing in stage "
                f"{', '.join(short)}, whose chain has less than {SHORTEST} links; "
                "there it is 'recompute'.",
                logger="current",
            )

    def chain(self, modules: Iterable[nn.Module]) -> list[nn.Module]:
        """The links of members of a stage."""
        return [link for module in modules for link in self.links(module)]

    def memory_choices(self) -> list[list[str]]:
        """The modes that each stage can have, the one that keeps least last."""
        modes = list(MEMORY_MODES)
        return [
            modes
            if self.coupling and len(self.chain(stage)) >= SHORTEST
            else [mode for mode in modes if mode != "reverse"]
            for stage in self.stages
        ]

    def units(self) -> list[nn.Module]:
        """The members of the stages."""
        return [module for stage in self.stages for module in stage]

    def links(self, module: nn.Module) -> Sequence[nn.Module]:
        """What a member of a stage consists of in a chain.

        Returns:
            Modules to be run one after the other, each from a feature to one of the
            same shape in which it is added; empty if the module is none such.
        """
        return []

    def run(self, module: nn.Module, *inputs: Tensor, stage: int = 0):
        """Call a module in the memory mode of a stage."""
        if self._memory[stage] != "store":
            return recompute(module, *inputs)
        return module(*inputs)

    def run_blocks(
        self, x: Tensor, stage: int, start: int = 0, stop: int | None = None
    ) -> Tensor:
        """Run blocks of a stage in its memory mode.

        Args:
            x: the feature before.
            stage: the stage.
            start: the first block; before block 0 comes what belongs to none, as a
                change of resolution.
            stop: the block after the last one, None for all.

        Returns:
            The feature after them.
        """
        modules = list(self.stages[stage])
        extra = len(modules) - self.depths[stage]
        modules = modules[start + extra if start else 0 : stop and stop + extra]
        if not self.coupling:
            for module in modules:
                x = self.run(module, x, stage=stage)
            return x
        while modules and not self.links(modules[0]):
            x = self.run(modules.pop(0), x, stage=stage)
        x, other = self.run_links(self.chain(modules), x, self._memory[stage])
        return torch.lerp(x, other, 0.5) if self.coupling == "two-stream" else x

    def level(self, x: Tensor) -> Tensor:
        """A stage's level, (N, C, H, W), from its last block's feature."""
        return x.permute(0, 3, 1, 2) if self.channels_last else x

    def embed(self, x: Tensor) -> Tensor:
        """The stem's output, in the memory mode of the first stage."""
        return self.run(self.stem, x)

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """Run the stages up to the last level that is asked for."""
        levels = {}
        for index in range(max(self.out_indices) + 1):
            x = self.run_blocks(x, index)
            if index in self.out_indices:
                levels[index] = self.level(x)
        return self.select(levels)

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Layer id of a parameter, for layer-wise learning rate decay.

        The stem is 0, a block its index among all blocks + 1.

        Args:
            param_name: the parameter's full name.
            prefix: what precedes the backbone's own names, as 'backbone.'.

        Returns:
            The id, and the number of ids (the last one is the head's).
        """
        depths = [len(stage) for stage in self.stages]
        num_layers = sum(depths) + 2
        parts = param_name.removeprefix(prefix).split(".")
        if not param_name.startswith(prefix) or parts[0] not in ("stem", "stages"):
            return num_layers - 1, num_layers
        if parts[0] == "stem":
            return 0, num_layers
        return sum(depths[: int(parts[1])]) + int(parts[2]) + 1, num_layers

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.stem, *self.stages[: self.frozen_stages]]


def _names(couplings: Sequence[str]) -> str:
    return " or ".join(map(repr, couplings))


def resolve_arch(
    family: str,
    arch: str | dict,
    architectures: Mapping[str, dict],
    required: Sequence[str],
    optional: Sequence[str] = (),
) -> dict:
    """The settings of an architecture, given by name or as a dict.

    Args:
        family: the backbone's name, for messages.
        arch: a name of `architectures`, or the settings themselves.
        architectures: settings by name.
        required: keys that a dict must have.
        optional: keys that it may have.

    Returns:
        The settings, a new dict.

    Raises:
        ValueError: on an unknown name, or a dict with other keys.
    """
    if isinstance(arch, str):
        if arch not in architectures:
            raise ValueError(
                f"{family}: arch must be one of {', '.join(architectures)} or a dict, "
                f"got {arch!r}."
            )
        return dict(architectures[arch])
    if not set(required) <= set(arch) <= {*required, *optional}:
        extra = f" and, optionally, {', '.join(optional)}" if optional else ""
        raise ValueError(
            f"{family}: an arch dict has the keys {', '.join(required)}{extra}, got "
            f"{', '.join(map(str, arch))}."
        )
    return dict(arch)


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Stochastic depth rates that grow linearly from 0 to ``rate`` over all blocks.

    Args:
        rate: of the last block.
        depths: blocks a stage.

    Returns:
        For each stage, one rate a block.
    """
    # Not on the meta device, where models are built to be counted.
    rates = torch.linspace(0, rate, sum(depths), device="cpu")
    return [part.tolist() for part in rates.split(list(depths))]


@torch.no_grad()
def init_trunc_normal(module: nn.Module, std: float = 0.02) -> None:
    """Weights of every convolution and linear layer ~ truncated N(0, std), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
