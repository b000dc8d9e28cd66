"""mmdet's DINO for images of any size, with any number of boxes.

The encoder proposes one box per token, a cell of a level, and the best
``num_queries`` become queries. A small image or a narrow strip has fewer tokens than
that (7350x150 pixels, resized to fit into 1333x800, have 899 on four levels), where
mmdet's DINO ends in an error of ``torch.topk``.

In training every box of an image also becomes two queries or more, to be denoised.
mmdet makes fewer copies of more boxes, but one of each at least, so that memory grows
with the boxes of the image that has the most.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mmdet.models
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrev.registry import MODELS

__all__ = ["DINO", "DINOHead"]


@MODELS.register_module()
class DINO(mmdet.models.DINO):
    """`mmdet.DINO` that makes a query of every token where there are too few.

    The first of the learned queries are then used, and there are as many predictions.

    Args:
        *args: of mmdet.
        max_denoised_boxes: of an image with more boxes, in training, as many are
            denoised, other ones in every step; matched are all of them. None denoises
            all. With as many as ``dn_cfg.group_cfg.num_dn_queries`` there are never
            more than twice as many denoising queries.
        **kwargs: of mmdet.

    Attributes:
        keeps_what_there_is: tells the checks of a run that this is no mistake.

    Raises:
        ValueError: `max_denoised_boxes` is no number of boxes, or the head is not
            `mmrev.DINOHead`, which knows of it.
    """

    keeps_what_there_is = True

    def __init__(
        self, *args: Any, max_denoised_boxes: int | None = None, **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        most = max_denoised_boxes
        whole = isinstance(most, int) and not isinstance(most, bool)
        if most is not None and not (whole and most > 0):
            raise ValueError(
                "DINO: max_denoised_boxes must be a number of boxes, 1 or more, or "
                f"None for all, got {most!r}."
            )
        if most is not None and not isinstance(self.bbox_head, DINOHead):
            raise ValueError(
                "DINO: max_denoised_boxes needs bbox_head.type='mmrev.DINOHead', got "
                f"{type(self.bbox_head).__name__} of {type(self.bbox_head).__module__}."
            )
        self.max_denoised_boxes = most

    def pre_decoder(
        self,
        memory: Tensor,
        *args: Any,
        batch_data_samples: Sequence[DetDataSample] | None = None,
        **kwargs: Any,
    ) -> tuple:
        """Choose the queries, as mmdet does, but no more than there are tokens.

        Args:
            memory: tokens of the encoder, (N, L, C).
            *args: of mmdet.
            batch_data_samples: of the N images; their boxes are denoised.
            **kwargs: of mmdet.

        Returns:
            What mmdet returns, of ``min(num_queries, L)`` queries; for the head with
            the objects that are denoised, if not all are.
        """
        most, samples = self.max_denoised_boxes, batch_data_samples
        crowded = self.training and most is not None
        if crowded and any(len(sample.gt_instances) > most for sample in samples):
            samples = [_some_objects(sample, most) for sample in samples]
        inputs, head_inputs = self._pre_decoder(
            memory, *args, batch_data_samples=samples, **kwargs
        )
        if samples is not batch_data_samples:
            objects = [sample.gt_instances for sample in samples]
            head_inputs["dn_meta"]["objects"] = objects
        return inputs, head_inputs

    def _pre_decoder(self, memory: Tensor, *args: Any, **kwargs: Any) -> tuple:
        count = memory.shape[1]
        if count >= self.num_queries:
            return super().pre_decoder(memory, *args, **kwargs)
        first = nn.Module()
        first.weight = self.query_embedding.weight[:count]
        with (
            _replaced(self, num_queries=count, query_embedding=first),
            _replaced(self.dn_query_generator, num_matching_queries=count),
        ):
            return super().pre_decoder(memory, *args, **kwargs)


@MODELS.register_module()
class DINOHead(mmdet.models.DINOHead):
    """`mmdet.DINOHead` that keeps all there is where ``max_per_img`` asks for more.

    Of a `mmrev.DINO` that does not denoise all boxes it learns those that it does.

    Attributes:
        keeps_what_there_is: tells the checks of a run that this is no mistake.
    """

    keeps_what_there_is = True

    def loss_dn(
        self,
        all_layers_denoising_cls_scores: Tensor,
        all_layers_denoising_bbox_preds: Tensor,
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[dict],
        dn_meta: dict,
    ) -> tuple:
        """Losses of the denoising queries, of the objects that they were made of.

        Args:
            all_layers_denoising_cls_scores: of mmdet.
            all_layers_denoising_bbox_preds: of mmdet.
            batch_gt_instances: all objects of the N images.
            batch_img_metas: of mmdet.
            dn_meta: of mmdet, and of `DINO.pre_decoder`.
        """
        return super().loss_dn(
            all_layers_denoising_cls_scores,
            all_layers_denoising_bbox_preds,
            dn_meta.get("objects", batch_gt_instances),
            batch_img_metas,
            dn_meta,
        )

    def _predict_by_feat_single(
        self, cls_score: Tensor, *args: Any, **kwargs: Any
    ) -> InstanceData:
        # A query is a detection of every class, or with softmax of its best one.
        sigmoid = self.loss_cls.use_sigmoid
        available = cls_score.numel() if sigmoid else len(cls_score)
        wanted = self.test_cfg.get("max_per_img", len(cls_score))
        limited = {**self.test_cfg, "max_per_img": min(wanted, available)}
        with _replaced(self, test_cfg=limited):
            return super()._predict_by_feat_single(cls_score, *args, **kwargs)


def _some_objects(sample: DetDataSample, most: int) -> DetDataSample:
    """An image with so many of its objects at most, by chance."""
    boxes, labels = sample.gt_instances.bboxes, sample.gt_instances.labels
    if len(boxes) > most:
        chosen = torch.randperm(len(boxes), device=boxes.device)[:most]
        boxes, labels = boxes[chosen], labels[chosen]
    part = DetDataSample(metainfo=sample.metainfo)
    part.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    return part


@contextmanager
def _replaced(module: nn.Module, **attributes: Any) -> Iterator[None]:
    """Give a module other attributes for a while."""
    before = {name: getattr(module, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
