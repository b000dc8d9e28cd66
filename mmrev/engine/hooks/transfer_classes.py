"""From one dataset's classes to another's, for the second stage of a recipe."""

import re

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmrev.registry import DATASETS, HOOKS

__all__ = ["TransferClassesHook"]


@HOOKS.register_module()
class TransferClassesHook(Hook):
    """Keeps, of a loaded checkpoint's class layers, the rows of the new classes.

    mmengine drops a tensor of another shape, so that the classifiers of the second
    stage would start anew although the first stage knew every one of its classes. Here
    each tensor with a row for each class of `source` (weights and biases of the
    classifiers, the label embedding of denoising queries) becomes the rows of the
    classes of `target`, in their order. A checkpoint that fits already, as on resuming
    and testing, is left as it is.

    Args:
        source: dataset type of the checkpoint, such as 'mmdet.Objects365V2Dataset'.
        target: dataset type of this run.
        renamed: name in `target` -> name in `source`, where they differ in more than
            case and punctuation.

    Raises:
        ValueError: if a class of `target` is not among those of `source`.
    """

    def __init__(self, source: str, target: str, renamed: dict[str, str]):
        old, new = (_classes(dataset) for dataset in (source, target))
        position = {_plain(name): index for index, name in enumerate(old)}
        wanted = {name: _plain(renamed.get(name, name)) for name in new}
        if absent := [name for name in new if wanted[name] not in position]:
            raise ValueError(
                f"TransferClassesHook: {source} must hold every class of {target}, "
                f"got none for {', '.join(absent)}; name its counterpart in `renamed`."
            )
        self.num_old = len(old)
        self.rows = [position[wanted[name]] for name in new]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Cut the class layers down before the weights reach the model."""
        own = getattr(runner.model, "module", runner.model).state_dict()
        weights = checkpoint["state_dict"]
        for name, weight in weights.items():
            here = own.get(name)
            if here is None or here.shape == weight.shape:
                continue
            if (
                weight.shape[0] == self.num_old
                and here.shape[0] == len(self.rows)
                and weight.shape[1:] == here.shape[1:]
            ):
                weights[name] = weight[self.rows]


def _classes(dataset: str) -> tuple[str, ...]:
    found = DATASETS.get(dataset)
    if found is None:
        raise ValueError(
            f"TransferClassesHook: expected a registered dataset type, got {dataset!r}."
        )
    return found.METAINFO["classes"]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
