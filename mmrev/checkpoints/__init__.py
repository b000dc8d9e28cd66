"""Checkpoints: safe reading, and conversion to the suite's parameter names."""

from mmrev.checkpoints.convert import (
    LAYOUTS,
    TRAINING_ONLY,
    Conversion,
    convert,
    convert_file,
    convert_state_dict,
    coverage_table,
    layout_of,
    load_backbone,
    unwrap_state_dict,
)
from mmrev.checkpoints.files import (
    SAFE_GLOBALS,
    load_checkpoint_file,
    save_state_dict,
)
from mmrev.checkpoints.folders import is_folder
from mmrev.checkpoints.layout import Layout
from mmrev.checkpoints.rewrite import rewrite_run

__all__ = [
    "LAYOUTS",
    "SAFE_GLOBALS",
    "TRAINING_ONLY",
    "Conversion",
    "Layout",
    "convert",
    "convert_file",
    "convert_state_dict",
    "coverage_table",
    "is_folder",
    "layout_of",
    "load_backbone",
    "load_checkpoint_file",
    "rewrite_run",
    "save_state_dict",
    "unwrap_state_dict",
]
