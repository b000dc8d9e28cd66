"""Layer-wise learning rate decay for any backbone that knows its layers.

Source of the rule: BEiT (arXiv 2106.08254), as RevCol (arXiv 2212.11696, appendix)
and the dense recipes of megvii-research/RevCol @1680848 use it.
"""

import logging

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmrev.registry import OPTIM_WRAPPER_CONSTRUCTORS

OPTIONS = ("decay_rate", "custom_keys")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Give the backbone's layers learning rates that shrink towards its input.

    The rate of layer ``i`` of ``n`` is ``lr * decay_rate ** (n - i - 1)``. Whatever
    stands outside the backbone counts as the last layer and keeps ``lr``. The backbone
    says which layer a parameter belongs to by mmpretrain's convention,
    ``get_layer_depth(param_name, prefix) -> (i, n)``.

    No weight decay on parameters of one axis (biases, norms, layer scales) and on those
    whose name has one of the backbone's ``no_weight_decay`` parts (RevCol's gains).

    Args:
        optim_wrapper_cfg: of the optimizer wrapper; its optimizer must set ``lr``.
        paramwise_cfg: ``decay_rate`` in (0, 1]; at 1 the backbone need not know its
            layers, and any model will do. Optionally ``custom_keys`` as of mmengine:
            the longest key that is part of a parameter's name multiplies its learning
            rate by ``lr_mult`` and, if it has ``decay_mult``, sets its weight decay to
            that multiple of the optimizer's.

    Raises:
        ValueError: on a missing or wrong setting, or a model whose backbone has no
            ``get_layer_depth`` where rates shrink.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        name = type(self).__name__
        if unknown := sorted(set(self.paramwise_cfg) - set(OPTIONS)):
            raise ValueError(
                f"{name}: paramwise_cfg takes {' and '.join(OPTIONS)}, got "
                f"{', '.join(unknown)}. Layers are counted by the backbone itself."
            )
        rate = self.paramwise_cfg.get("decay_rate")
        if not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise ValueError(
                f"{name}: paramwise_cfg must set decay_rate in (0, 1], got {rate!r}."
            )
        if self.base_lr is None:
            raise ValueError(f"{name}: the optimizer must set lr, got none.")

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Append the model's parameter groups, one a layer and weight decay.

        Frozen parameters are left out; shared ones count once, where first found.

        Args:
            params: receives the groups.
            module: the whole model.
            **kwargs: of the base class, unused.
        """
        rate = self.paramwise_cfg["decay_rate"]
        prefix, backbone = _find_backbone(module, layered=rate < 1)
        exempt = getattr(backbone, "no_weight_decay", ())
        groups: dict[tuple, dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            layer, scale = 0, 1.0
            if rate < 1:
                layer, num_layers = backbone.get_layer_depth(name, prefix)
                scale = rate ** (num_layers - layer - 1)
            decays = parameter.ndim > 1 and not (
                name.startswith(prefix) and any(part in name for part in exempt)
            )
            custom = self._custom(name)
            lr = self.base_lr * scale * custom.get("lr_mult", 1.0)
            weight_decay = self.base_wd if decays else 0.0
            if "decay_mult" in custom:
                weight_decay = self.base_wd * custom["decay_mult"]
            group = groups.setdefault(
                (layer, lr, weight_decay), {"params": [], "lr": lr, "layer": layer}
            )
            if weight_decay is not None:
                group["weight_decay"] = weight_decay
            group["params"].append(parameter)
        params.extend(group for _, group in sorted(groups.items(), key=_by_layer))
        print_log(_summary(params), logger="current", level=logging.INFO)

    def _custom(self, name: str) -> dict:
        """The settings of the longest custom key that is part of the name."""
        keys = self.paramwise_cfg.get("custom_keys", {})
        return keys.get(max((k for k in keys if k in name), key=len, default=None), {})


def _find_backbone(model: nn.Module, layered: bool) -> tuple[str, nn.Module | None]:
    """The prefix of the backbone's parameters, and the backbone."""
    found = [
        (f"{name}.", module)
        for name, module in model.named_modules()
        if name.rpartition(".")[2] == "backbone"
    ]
    if not layered:
        return found[0] if found else ("", None)
    if not found or not hasattr(found[0][1], "get_layer_depth"):
        what = f"its backbone {type(found[0][1]).__name__}" if found else "no backbone"
        raise ValueError(
            "LayerDecayOptimWrapperConstructor: expected a model whose backbone has "
            f"get_layer_depth, got {type(model).__name__} with {what}. Set "
            "decay_rate=1.0."
        )
    return found[0]


def _by_layer(item: tuple[tuple, dict]) -> tuple:
    (layer, lr, weight_decay), _ = item
    return layer, lr, weight_decay is None, weight_decay


def _summary(groups: list[dict]) -> str:
    lines = [
        f"layer {group['layer']:3d}: lr {group['lr']:.3e}, "
        f"weight decay {group.get('weight_decay', 'of the optimizer')}, "
        f"{sum(p.numel() for p in group['params']):,} parameters"
        for group in groups
    ]
    return "\n".join(["Parameter groups of layer decay:", *lines])
