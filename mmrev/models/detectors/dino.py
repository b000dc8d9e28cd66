"""mmdet's DINO for images of any size.

The encoder proposes one box per token, a cell of a level, and the best
``num_queries`` become queries. A small image or a narrow strip has fewer tokens than
that (7350x150 pixels, resized to fit into 1333x800, have 899 on four levels), where
mmdet's DINO ends in an error of ``torch.topk``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mmdet.models
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrev.registry import MODELS

__all__ = ["DINO", "DINOHead"]


@MODELS.register_module()
class DINO(mmdet.models.DINO):
    """`mmdet.DINO` that makes a query of every token where there are too few.

    The first of the learned queries are then used, and there are as many predictions.

    Attributes:
        keeps_what_there_is: tells the checks of a run that this is no mistake.
    """

    keeps_what_there_is = True

    def pre_decoder(self, memory: Tensor, *args: Any, **kwargs: Any) -> tuple:
        """Choose the queries, as mmdet does, but no more than there are tokens.

        Args:
            memory: tokens of the encoder, (N, L, C).
            *args: of mmdet.
            **kwargs: of mmdet.

        Returns:
            What mmdet returns, of ``min(num_queries, L)`` queries.
        """
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

    Attributes:
        keeps_what_there_is: tells the checks of a run that this is no mistake.
    """

    keeps_what_there_is = True

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
