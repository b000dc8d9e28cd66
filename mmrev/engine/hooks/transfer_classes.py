"""From one dataset's classes to another's, for the second stage of a recipe."""

import re

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmrev.errors import UserError
from mmrev.registry import DATASETS, HOOKS

__all__ = ["TransferClassesHook"]


# What the layers with a row for each class are called in the toolboxes' heads. Where
# the number of classes stays the same, only the name can tell them from others.
_CLASS_LAYER = re.compile("cls|class|label|logits|conv_seg")


@HOOKS.register_module()
class TransferClassesHook(Hook):
    """Keeps, of a loaded checkpoint's class layers, the rows of the new classes.

    mmengine drops a tensor of another shape, so that the classifiers of the second
    stage would start anew although the first stage knew every one of its classes; and
    where both have equally many, it takes the rows in the order of the first. Here each
    tensor with a row for each class of `source` (weights and biases of the classifiers,
    the label embedding of denoising queries), and perhaps one for no object after them,
    becomes the rows of the classes of `target`, in their order. A checkpoint of
    `target`, as on resuming and testing, is left as it is: the names of the classes
    that it was trained on tell, or, without them, the number of rows; with equally many
    classes and without names, what training starts from is taken for one of `source`.

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
        self.names = {source: old, target: new}
        self.source, self.target = source, target
        self.num_old = len(old)
        self.rows = [position[wanted[name]] for name in new]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the rows before the weights reach the model.

        Raises:
            UserError: if the checkpoint is of classes of neither data set.
        """
        if runner._resume or not self._is_of_source(runner, checkpoint):
            return
        own = getattr(runner.model, "module", runner.model).state_dict()
        weights, changed = checkpoint["state_dict"], 0
        for name, weight in weights.items():
            if name in own and (rows := self._rows_of(name, weight, own[name])):
                weights[name] = weight[rows]
                changed += 1
        runner.logger.info(
            f"TransferClassesHook: {changed} tensors of {self.source}'s classes have "
            f"the rows of {self.target}'s now."
        )

    def _is_of_source(self, runner: Runner, checkpoint: dict) -> bool:
        meta = checkpoint.get("meta", {}).get("dataset_meta") or {}
        if classes := meta.get("classes"):
            kinds = [kind for kind, own in self.names.items() if own == tuple(classes)]
            if not kinds:
                raise UserError(
                    "TransferClassesHook: expected a checkpoint of the classes of "
                    f"{' or '.join(self.names)}, got one of {len(classes)} others, "
                    f"{classes[0]!r} first; set `source` to what it was trained on."
                )
            return self.target not in kinds
        return self.num_old != len(self.rows) or runner._train_loop is not None

    def _rows_of(self, name: str, weight: Tensor, own: Tensor) -> list[int] | None:
        """The rows of a tensor of the checkpoint to take; None leaves it."""
        if not weight.ndim or weight.shape[1:] != own.shape[1:]:
            return None
        same_number = self.num_old == len(self.rows)
        if same_number and not _CLASS_LAYER.search(name):
            return None
        for extra in (0, 1):  # a row for no object comes last
            shapes = self.num_old + extra, len(self.rows) + extra
            if (len(weight), len(own)) == shapes:
                return [*self.rows, *range(self.num_old, self.num_old + extra)]
        return None


def _classes(dataset: str) -> tuple[str, ...]:
    found = DATASETS.get(dataset)
    if found is None:
        raise ValueError(
            f"TransferClassesHook: expected a registered dataset type, got {dataset!r}."
        )
    return tuple(found.METAINFO["classes"])


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
