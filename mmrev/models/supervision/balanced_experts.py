"""The auxiliary loss that keeps experts in use, around any model with experts.

Paper: Tutel, arXiv 2206.03382; the weight is Swin-MoE's (microsoft/Swin-Transformer
@f82860b, configs/swinmoe).
"""

from torch import Tensor

from mmrev.models.layers.moe import Router, routings
from mmrev.models.supervision.supervised_model import SupervisedModel
from mmrev.registry import MODELS


@MODELS.register_module()
class BalancedExperts(SupervisedModel):
    """Add the balance loss of every router to a model's losses.

    ``loss_balance`` is ``weight`` times the sum of what the routers say, see
    `mmrev.models.layers.moe.balance_loss`. ``dropped_tokens``, the share of tokens for
    which their experts had no room, is logged beside it.

    Args:
        model: config of a detector, segmentor or classifier with experts in it.
        weight: of the loss.
        data_preprocessor: as of `SupervisedModel`.

    Raises:
        ValueError: if the model has no experts.
    """

    def __init__(
        self, model: dict, weight: float = 0.01, data_preprocessor: dict | None = None
    ):
        super().__init__(model, data_preprocessor)
        if not any(isinstance(module, Router) for module in self.model.modules()):
            backbone = getattr(self.model, "backbone", None)
            raise ValueError(
                "BalancedExperts: expected a model with experts, as "
                "mmrev.SwinTransformerV2(moe=dict(num_experts=8)) has, got "
                f"{type(self.model).__name__} with backbone {type(backbone).__name__}. "
                "Train this model without the wrapper."
            )
        self.weight = weight

    def supervise(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The inner model's losses, the balance of its experts, and what they drop.

        Args:
            inputs: images, (N, 3, H, W).
            data_samples: of the inner model.
        """
        with routings(self.model) as found:
            losses = self.model(inputs, data_samples, mode="loss")
        passes = [routing for each in found.values() for routing in each]
        dropped = sum(routing.dropped for routing in passes)
        return {
            **losses,
            "loss_balance": self.weight * sum(routing.balance for routing in passes),
            "dropped_tokens": dropped / sum(len(routing.kept) for routing in passes),
        }
