"""A model with more losses, whose weights keep the names they have without."""

from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from mmrev.models.inner_names import keep_inner_names
from mmrev.registry import MODELS


class SupervisedModel(BaseModel):
    """Wraps a detector, segmentor or classifier; what it predicts stays untouched.

    A subclass adds losses in `loss`. In a state dict the inner model's keys are its
    own, as without this wrapper: a checkpoint fits the plain model once the keys of the
    subclass's other parts are dropped, and that of a plain model fits here for all but
    these. Attributes that the wrapper does not have are the inner model's.

    Args:
        model: config of any mmdet detector, mmseg segmentor or mmpretrain classifier.
        data_preprocessor: of the inner model, if its own config has none (this is where
            mmengine's runner puts a config's top-level one).
    """

    def __init__(self, model: dict, data_preprocessor: dict | None = None):
        if data_preprocessor is not None:
            model = {"data_preprocessor": data_preprocessor, **model}
        inner = MODELS.build(model)
        super().__init__(data_preprocessor=inner.data_preprocessor)
        # One owner is enough: from here on it is found through the inner model.
        del self.data_preprocessor
        self.model = inner
        keep_inner_names(self)

    def __getattr__(self, name: str) -> Any:
        """An attribute of this wrapper, or else of the inner model."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = "tensor"
    ) -> Any:
        """Run the model; with mode 'loss', also the supervision.

        Args:
            inputs: images, (N, 3, H, W).
            data_samples: of the inner model.
            mode: 'loss', 'predict' or 'tensor'.

        Returns:
            What the inner model returns; with mode 'loss', more losses.
        """
        if mode != "loss":
            return self.model(inputs, data_samples, mode)
        return self.supervise(inputs, data_samples)

    def supervise(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The inner model's losses, and more.

        Args:
            inputs: images, (N, 3, H, W).
            data_samples: of the inner model.
        """
        raise NotImplementedError

    def losses_and_output(
        self, part: nn.Module, inputs: Tensor, data_samples: list
    ) -> tuple[dict[str, Tensor], Any]:
        """The inner model's losses, and what a part of it gave on the way.

        Args:
            part: of the inner model; of several calls the first counts.
            inputs: images, (N, 3, H, W).
            data_samples: of the inner model.
        """
        outputs: list[Any] = []
        handle = part.register_forward_hook(lambda *call: outputs.append(call[-1]))
        try:
            losses = self.model(inputs, data_samples, mode="loss")
        finally:
            handle.remove()
        return losses, outputs[0]
