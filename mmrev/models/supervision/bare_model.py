"""A backbone alone, as a model that what wraps it trains."""

from mmengine.model import BaseModel
from torch import Tensor

from mmrev.registry import MODELS


@MODELS.register_module()
class BareModel(BaseModel):
    """A model of a backbone and nothing else, without losses of its own.

    Its weights are named ``backbone.*``, as those of any detector or segmentor.

    Args:
        backbone: config of any backbone.
        data_preprocessor: as of mmengine's ``BaseModel``.
    """

    def __init__(self, backbone: dict, data_preprocessor: dict | None = None):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = "tensor"
    ) -> tuple[Tensor, ...] | dict[str, Tensor]:
        """Run the backbone.

        Args:
            inputs: images, (N, 3, H, W).
            data_samples: not read.
            mode: 'loss' or 'tensor'.

        Returns:
            The levels; with mode 'loss', no losses.

        Raises:
            ValueError: on mode 'predict'.
        """
        if mode == "predict":
            raise ValueError(
                "BareModel: a backbone alone predicts nothing, so that it cannot be "
                "tested. Put it, by init_cfg, into a detector, segmentor or classifier."
            )
        levels = self.backbone(inputs)
        return {} if mode == "loss" else levels
