"""Reversible and other backbones for dense recognition with OpenMMLab.

Importing it loads nothing but the standard library, and warns once if mmengine, mmcv or
the toolboxes are missing or too old. `mmrev.reversible` needs nothing but torch.
It sets how long OpenMP's threads spin: every tool, study and test passes here first.
"""

import warnings

import mmrev_ops  # noqa: F401  mmcv.ops, where nothing is compiled
from mmrev.compatibility import missing_or_too_old
from mmrev.config_packages import name_config_packages
from mmrev.threads import wait_briefly

__version__ = "0.1.0"

wait_briefly()
name_config_packages()
if _complaint := missing_or_too_old():
    warnings.warn(_complaint, stacklevel=2)
