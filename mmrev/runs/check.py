"""A look at model, data sets and metrics together, before the first iteration.

The files themselves are checked where they are read, see `mmrev.datasets.checked`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mmrev.datasets.annotations import check_instances, check_panoptic, listed
from mmrev.datasets.checked import contents_of, place_of
from mmrev.datasets.class_counts import count_labels
from mmrev.datasets.resized import Views, resized_sizes
from mmrev.datasets.same_size_batch_sampler import SameSizeBatchSampler
from mmrev.engine.hooks import CouplingHook, UnreadableImagesHook
from mmrev.errors import UserError
from mmrev.runs.occurrence import ABSENT_CLASSES, check_occurrence
from mmrev.runs.sizes import OTHER_SIZES, check_image_sizes
from mmrev.wrappers import plain_datasets

__all__ = ["CheckHook", "data_hooks"]

# Heads whose number of classes is not the data set's.
_OTHER_HEADS = ("rpn_head", "semantic_head")
_MOST_IMAGES = 1000


def data_hooks(cfg: Config) -> tuple[Hook, ...]:
    """What holds a run to its config's ``absent_classes`` and the like.

    Raises:
        UserError: names the key that is malformed.
    """
    keys = ("absent_classes", "other_sizes")
    return (
        CheckHook(**{key: cfg[key] for key in keys if key in cfg}),
        UnreadableImagesHook(cfg.get("unreadable_images", 0)),
    )


class CheckHook(Hook):
    """Compares what belongs together, when all is built and nothing has begun.

    Args:
        absent_classes: of `ABSENT_CLASSES`.
        other_sizes: of `OTHER_SIZES`.

    Raises:
        UserError: it is not.
    """

    priority = "VERY_HIGH"

    def __init__(
        self,
        absent_classes: str = ABSENT_CLASSES[0],
        other_sizes: str = OTHER_SIZES[0],
    ) -> None:
        for key, value, allowed in (
            ("absent_classes", absent_classes, ABSENT_CLASSES),
            ("other_sizes", other_sizes, OTHER_SIZES),
        ):
            if value not in allowed:
                raise UserError(
                    f"{key}: expected one of {', '.join(allowed)}, got {value!r}."
                )
        self.absent_classes = absent_classes
        self.other_sizes = other_sizes

    def before_run(self, runner: Runner) -> None:
        """Check.

        Raises:
            UserError: names the part at fault, what was expected and received.
        """
        model = runner.model
        while hasattr(model, "module"):  # of several processes, of augmented tests
            model = model.module
        check_queries(model)
        watch_tokens(model)
        first = None
        for split, loop in _loops(runner):
            inner = plain_datasets(loop.dataloader.dataset)
            datasets = [one for one in inner if isinstance(one, BaseDataset)]
            for dataset in datasets:
                _say_remarks(dataset)
                check_heads(model, dataset, split)
                classes = split, _classes(dataset)
                first = first or classes
                _compare_classes(first, classes)
            check_image_sizes(datasets, split, self.other_sizes)
            if split == "train":
                check_occurrence(datasets, self.absent_classes)
                continue
            for metric in loop.evaluator.metrics:
                check_metric(metric, datasets, split)
            check_sizes(loop.dataloader, datasets, split)

    def before_train(self, runner: Runner) -> None:
        """Look at the weights, which are loaded by now."""
        say_unmoved(runner.model, runner.hooks)


def say_unmoved(model: nn.Module, hooks: Sequence[Hook]) -> None:
    """Say that reversal saves nothing, where no coefficient will ever divide."""
    if any(isinstance(hook, CouplingHook) for hook in hooks):
        return
    for module in model.modules():
        if (
            getattr(module, "coupling", None) == "dual"
            and "reverse" in module.memory
            and not module.coefficients[1]
        ):
            MMLogger.get_current_instance().warning(
                f"{type(module).__name__}: memory='reverse' keeps every state while b "
                "of coupling='dual' is 0, and nothing raises it; add "
                "dict(type='mmrev.CouplingHook', end=...) to custom_hooks, or use "
                "memory='recompute', which needs no coupling."
            )


def check_queries(model: nn.Module) -> None:
    """Refuse to choose more detections of an image than there are candidates.

    Raises:
        UserError: names the key of the config.
    """
    for key, most, queries, classes in _choices(model):
        if most > queries * classes:
            counted = f"{queries} queries"
            if classes > 1:
                counted += f" x {classes} classes"
            raise UserError(
                f"model.{key}: expected at most {queries * classes} ({counted}), got "
                f"{most}; lower it, or raise the number of queries."
            )


def watch_tokens(model: nn.Module) -> None:
    """Let a detector refuse images of fewer tokens than it chooses queries from.

    What an image has is known when it comes; mmdet ends in an error of ``topk`` then.

    Afterwards the model's forward pass may raise UserError.
    """
    two_stage = getattr(model, "as_two_stage", False)
    copes = hasattr(model, "dense_topk_ratio")  # DDQ, which pads
    if not two_stage or copes or getattr(model, "keeps_what_there_is", False):
        return

    def check(_: nn.Module, args: tuple, settings: dict, output: Any) -> None:
        memory = output[0] if isinstance(output, tuple) else output
        tokens, queries = memory.shape[1], model.num_queries
        if tokens < queries:
            levels = settings.get("spatial_shapes")
            sizes = "" if levels is None else f" on levels of {levels.tolist()}"
            raise UserError(
                f"model.num_queries: expected at most {tokens}, the tokens{sizes} that "
                f"this batch's images have, got {queries}; lower it, resize images to "
                "more pixels, or use mmrev.DINO, which takes what there is."
            )

    model.encoder.register_forward_hook(check, with_kwargs=True)


def check_heads(model: nn.Module, dataset: BaseDataset, split: str) -> None:
    """Compare the number of classes of each head with the data set's.

    Raises:
        UserError: names the head.
    """
    # Open vocabularies are not numbered.
    if getattr(dataset, "return_classes", False):
        return
    classes = dataset.metainfo.get("classes")
    if classes is None and not hasattr(dataset, "CLASSES"):  # which mmpretrain's have
        return
    expected = {len(classes or ())}
    if things := dataset.metainfo.get("thing_classes"):
        expected.add(len(things))
    for name, module in model.named_modules():
        number = getattr(module, "num_classes", None)
        if not isinstance(number, int) or not _is_head(name):
            continue
        if classes is None:
            # Only labels can be compared, and in a test they may number images.
            if split == "train":
                count_labels(dataset, number)
            continue
        # A mask for all classes together has its own meaning of their number.
        if number not in expected and not getattr(module, "class_agnostic", False):
            raise UserError(
                f"model.{name}: expected num_classes={len(classes)}, as the {split} "
                f"set ({place_of(dataset)}) has {len(classes)} classes "
                f"({listed(classes)}), got {number}; set it, or "
                "metainfo=dict(classes=(...)) of the data set."
            )


def check_metric(
    metric: BaseMetric, datasets: Sequence[BaseDataset], split: str
) -> None:
    """Compare a metric's own annotations with the data set's.

    Raises:
        UserError: classes or images differ, or a file is not sound.
    """
    content = _own_annotations(metric)
    if content is None:
        return
    path = f"{split}_evaluator ({type(metric).__name__}): ann_file"
    panoptic = hasattr(metric, "seg_prefix")
    kinds = set(getattr(metric, "metrics", ()))
    masks = "read" if kinds & {"segm", "boundary"} else "not read"
    for dataset in datasets:
        contents = contents_of(dataset)
        if contents is None:
            continue
        classes = dataset.metainfo["classes"]
        own = (
            check_panoptic(content, path, classes)
            if panoptic
            else check_instances(content, path, classes, masks)
        )
        pair = [list(one.categories.values()) for one in (contents, own)]
        if pair[0] != pair[1]:
            raise UserError(
                f"{path}: expected the classes in the order of {place_of(dataset)}, "
                f"{listed(pair[0])}, got {listed(pair[1])}; use the same file."
            )
        known = {one["id"] for one in content["images"]}
        some = range(min(len(dataset), _MOST_IMAGES))
        images = (dataset.get_data_info(index)["img_id"] for index in some)
        strange = next((one for one in images if one not in known), None)
        if strange is not None:
            raise UserError(
                f"{path}: expected the images of {place_of(dataset)}, got none of id "
                f"{strange!r}; use the same file."
            )
    if type(metric).__module__.startswith("mmdet.") and not panoptic:
        _check_crowds(content, path)


def check_sizes(dataloader: Any, datasets: Sequence[BaseDataset], split: str) -> None:
    """Look for images of unlike sizes that would become one batch of a test.

    mmseg cannot test them, and mmdet pads them, which is said.

    Raises:
        UserError: names two images of mmseg, the batch size and what would help.
    """
    sampler = dataloader.batch_sampler
    batch = sampler.batch_size if sampler else 1
    if batch == 1 or isinstance(sampler, SameSizeBatchSampler):
        return
    first: dict[Views, str] = {}
    for dataset in datasets:
        if hasattr(dataset, "CLASSES"):  # of mmpretrain, which joins nothing else
            return
        try:
            sizes = resized_sizes(dataset)
        except ValueError:  # of steps that we do not know
            return
        for index, views in enumerate(islice(sizes, _MOST_IMAGES)):
            if views is not None and views not in first:
                first[views] = dataset.get_data_info(index).get("img_path", str(index))
            if len(first) > 1:
                _tell_unlike(first, f"{split}_dataloader", batch, dataset)
                return


def _tell_unlike(
    first: Mapping[Views, str], loader: str, batch: int, dataset: BaseDataset
) -> None:
    found = ", ".join(
        f"{path} ({views[0][1]} x {views[0][0]})" for views, path in first.items()
    )
    remedy = (
        f'--cfg-options "{loader}.batch_sampler='
        "{'type': 'mmrev.SameSizeBatchSampler'}\""
    )
    if hasattr(dataset, "reduce_zero_label"):  # mmseg's
        raise UserError(
            f"{loader}.batch_size: expected 1 or images of one size after the "
            f"pipeline, got {batch} and {found}; add {remedy}, which puts those of one "
            "size together."
        )
    MMLogger.get_current_instance().warning(
        f"{loader}: images of unlike sizes, as {found}, are padded to batches of "
        f"{batch}, which changes what most models predict; {remedy} puts those of one "
        "size together."
    )


def _loops(runner: Runner) -> Iterator[tuple[str, BaseLoop]]:
    """The loops of this run, which are built by now; others are still configs."""
    for split in ("train", "val", "test"):
        loop = getattr(runner, f"_{split}_loop")
        if isinstance(loop, BaseLoop):
            yield split, loop


def _say_remarks(dataset: BaseDataset) -> None:
    contents = contents_of(dataset)
    for remark in contents.remarks if contents else ():
        MMLogger.get_current_instance().warning(f"{dataset.ann_file}: {remark}")


def _classes(dataset: BaseDataset) -> tuple[str, ...] | None:
    """Classes by label."""
    contents = contents_of(dataset)
    if contents is not None:
        return tuple(contents.categories[one] for one in dataset.cat_ids)
    classes = dataset.metainfo.get("classes")
    return None if classes is None else tuple(classes)


def _compare_classes(
    one: tuple[str, Sequence | None], other: tuple[str, Sequence | None]
) -> None:
    if None in (one[1], other[1]) or one[1] == other[1]:
        return
    pairs = enumerate(zip_longest(one[1], other[1], fillvalue="no class"))
    label, names = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    raise UserError(
        f"classes differ: label {label} is {names[0]!r} in the {one[0]} set and "
        f"{names[1]!r} in the {other[0]} set; give their files and metainfo.classes "
        "the same classes in the same order."
    )


def _is_head(name: str) -> bool:
    if "backbone" in name:
        return False
    # Of heads in a row the number follows the name.
    last = name.rstrip("0123456789").rstrip(".").rpartition(".")[-1]
    return f"_{last}".endswith("_head") and last not in _OTHER_HEADS


def _choices(model: nn.Module) -> Iterator[tuple[str, int, int, int]]:
    """Key, number of detections kept, queries, classes told apart by each."""
    head, queries = getattr(model, "bbox_head", None), getattr(model, "num_queries", 0)
    if queries and not getattr(head, "keeps_what_there_is", head is None):
        most = (getattr(head, "test_cfg", None) or {}).get("max_per_img", queries)
        sigmoid = getattr(head.loss_cls, "use_sigmoid", False)
        yield "test_cfg.max_per_img", most, queries, head.num_classes if sigmoid else 1
    fusion = getattr(model, "panoptic_fusion_head", None)
    queries = getattr(getattr(model, "panoptic_head", None), "num_queries", 0)
    if fusion is not None and queries and fusion.test_cfg.get("instance_on", True):
        most = fusion.test_cfg.get("max_per_image", 100)
        yield "test_cfg.max_per_image", most, queries, fusion.num_classes


def _own_annotations(metric: BaseMetric) -> Mapping | None:
    """What the annotation file of a metric holds, if it has one."""
    coco = getattr(metric, "_coco_api", None)
    return getattr(metric, "_truth", None) if coco is None else coco.dataset


def _check_crowds(content: Mapping, path: str) -> None:
    for index, one in enumerate(content.get("annotations", [])):
        if "iscrowd" not in one:
            raise UserError(
                f"{path}: annotations[{index}], field 'iscrowd': expected 0 or 1, as "
                "mmdet's metric needs it, got no such field; add it, or use "
                "mmrev.CocoMetric, which takes it for 0."
            )
