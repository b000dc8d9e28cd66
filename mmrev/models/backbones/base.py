"""What every backbone of the suite shares."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import nn

from mmrev.checkpoints import load_backbone


class Backbone(BaseModule):
    """A module with strict pretrained weights and a frozen front.

    Args:
        out_indices: indices of the levels to return.
        num_levels: how many levels there are.
        frozen_stages: -1 trains everything, 0 freezes the stem, n the stem and the
            first n of `num_stages`.
        num_stages: how many stages can be frozen.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` takes any layout that
            `mmrev.checkpoints.convert_state_dict` knows, and loads it strictly.

    Raises:
        ValueError: on an index outside its range.
    """

    no_weight_decay: tuple[str, ...] = ()
    """Parts of parameter names that optimizers leave without weight decay."""

    def __init__(
        self,
        *,
        out_indices: Sequence[int],
        num_levels: int,
        frozen_stages: int,
        num_stages: int,
        init_cfg: dict | None,
    ):
        super().__init__(init_cfg)
        name = type(self).__name__
        for index in out_indices:
            if not 0 <= index < num_levels:
                raise ValueError(
                    f"{name}: out_indices must lie in 0..{num_levels - 1}, got {index}."
                )
        if not -1 <= frozen_stages <= num_stages:
            raise ValueError(
                f"{name}: frozen_stages must lie in -1..{num_stages}, "
                f"got {frozen_stages}."
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages

    def init_weights(self) -> None:
        """Initialise, or load the checkpoint of `init_cfg` strictly.

        Raises:
            ValueError: if the checkpoint lacks keys of this model or has others.
            FileNotFoundError: if there is no such file.
        """
        if (self.init_cfg or {}).get("type") == "Pretrained":
            load_backbone(self, self.init_cfg["checkpoint"])
        else:
            self._init_weights()
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


@torch.no_grad()
def init_trunc_normal(module: nn.Module, std: float = 0.02) -> None:
    """Weights of every convolution and linear layer ~ truncated N(0, std), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
