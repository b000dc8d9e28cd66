"""What every backbone of the suite shares."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule, PretrainedInit, initialize
from torch import Tensor, nn

from mmrev.checkpoints import load_backbone
from mmrev.models.layers import LayerNorm2d
from mmrev.reversible import recompute

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
        init_cfg: of mmengine, a dict or a list of them;
            ``dict(type='Pretrained', checkpoint=...)`` takes any layout that
            `mmrev.checkpoints.convert_state_dict` knows, and loads it strictly.

    Raises:
        ValueError: on an index outside its range or an unknown norm.
    """

    no_weight_decay: tuple[str, ...] = ()
    """Parts of parameter names that optimizers leave without weight decay."""

    def __init__(
        self,
        *,
        channels: Sequence[int],
        out_indices: Sequence[int],
        out_norm: str | None,
        frozen_stages: int,
        num_stages: int,
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
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        if out_norm:
            self.norms = nn.ModuleDict(
                {str(i): LayerNorm2d(self.channels[i]) for i in self.out_indices}
            )

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


class StagedBackbone(Backbone):
    """A stem and stages of blocks; the level of a stage is what its last block gives.

    A family sets, after calling this constructor,

    - `stem`: (N, 3, H, W) to the feature that the first block takes;
    - `stages`: a ``ModuleList`` of ``Sequential``: blocks, each from one feature to the
      next; what changes the resolution precedes, or is part of, a stage's first block;
    - `depths`: blocks a stage;

    and `channels_last` if its features are not (N, C, H, W). Whoever wants to run or
    tap blocks one by one, as stitching, goes through these names.

    Args:
        memory: 'store' keeps what the backward pass needs; 'recompute' keeps the input
            of the stem and of every block, and runs these again.
        with_cp: True is ``memory='recompute'``.
        **settings: of `Backbone`.

    Raises:
        ValueError: on a memory mode that the family does not have.
    """

    stem: nn.Module
    stages: nn.ModuleList
    depths: list[int]
    channels_last = False
    """Whether features are (N, H, W, C)."""

    def __init__(self, *, memory: str, with_cp: bool, num_stages: int, **settings):
        super().__init__(num_stages=num_stages, **settings)
        if memory not in ("store", "recompute"):
            raise ValueError(
                f"{type(self).__name__}: memory must be 'store' or 'recompute', got "
                f"{memory!r}. Only networks of columns, as RevCol, can be inverted."
            )
        self.memory = "recompute" if with_cp else memory

    def run(self, block: nn.Module, *inputs: Tensor):
        """Call a block in this memory mode."""
        if self.memory == "recompute":
            return recompute(block, *inputs)
        return block(*inputs)

    def level(self, x: Tensor) -> Tensor:
        """A stage's level, (N, C, H, W), from its last block's feature."""
        return x.permute(0, 3, 1, 2) if self.channels_last else x

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the levels of `out_indices`.

        Args:
            x: images, (N, 3, H, W), any H and W.

        Returns:
            (N, C[l], ceil(H / s), ceil(W / s)) with s = 4, 8, 16, 32.
        """
        x = self.run(self.stem, x)
        levels = {}
        for index, stage in enumerate(self.stages[: max(self.out_indices) + 1]):
            for block in stage:
                x = self.run(block, x)
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
