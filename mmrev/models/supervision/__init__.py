"""Plug-in losses."""

from mmrev.models.supervision.balanced_experts import BalancedExperts
from mmrev.models.supervision.bare_model import BareModel
from mmrev.models.supervision.class_distillation import ClassDistillation
from mmrev.models.supervision.feature_distillation import FeatureDistillation
from mmrev.models.supervision.intermediate import IntermediateSupervision
from mmrev.models.supervision.stitch_distillation import StitchDistillation
from mmrev.models.supervision.supervised_model import SupervisedModel

__all__ = [
    "BalancedExperts",
    "BareModel",
    "ClassDistillation",
    "FeatureDistillation",
    "IntermediateSupervision",
    "StitchDistillation",
    "SupervisedModel",
]
