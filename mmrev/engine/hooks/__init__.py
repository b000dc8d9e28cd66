"""Hooks of a run: its files and end, images, records, seeds, schedules, classes."""

from mmrev.engine.hooks.checkpoint import AtomicCheckpointHook, StrictCheckpointHook
from mmrev.engine.hooks.coupling import CouplingHook
from mmrev.engine.hooks.divergence import DivergenceHook
from mmrev.engine.hooks.draw import DrawPredictionsHook
from mmrev.engine.hooks.exact_resume import ExactResumeHook
from mmrev.engine.hooks.fade import FadeHook
from mmrev.engine.hooks.gather_weights import GatherWeightsHook
from mmrev.engine.hooks.lineage import LineageHook
from mmrev.engine.hooks.preemption import PreemptionHook
from mmrev.engine.hooks.recompute import RecomputeHook
from mmrev.engine.hooks.record import RecordHook
from mmrev.engine.hooks.stitching import StitchFitHook, StitchSamplerHook
from mmrev.engine.hooks.transfer_classes import TransferClassesHook
from mmrev.engine.hooks.unreadable import UnreadableImagesHook

__all__ = [
    "AtomicCheckpointHook",
    "CouplingHook",
    "DivergenceHook",
    "DrawPredictionsHook",
    "ExactResumeHook",
    "FadeHook",
    "GatherWeightsHook",
    "LineageHook",
    "PreemptionHook",
    "RecomputeHook",
    "RecordHook",
    "StitchFitHook",
    "StitchSamplerHook",
    "StrictCheckpointHook",
    "TransferClassesHook",
    "UnreadableImagesHook",
]
