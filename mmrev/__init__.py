"""Reversible and other backbones for dense recognition with OpenMMLab.

Importing it loads neither torch nor any toolbox, and warns once if mmengine, mmcv or
the toolboxes are missing or too old. `mmrev.reversible` needs nothing but torch.
It sets how long OpenMP's threads spin: every tool, study and test passes here first.
"""

import warnings

import mmrev_ops  # noqa: F401  mmcv.ops, where nothing is compiled
from mmrev.compatibility import missing_or_too_old
from mmrev.threads import wait_briefly

__version__ = "0.1.0"


def _name_config_packages() -> None:
    # mmengine looks for `mmseg::` configs in a distribution called mmsegmentation;
    # the module's own name finds them whatever distribution installed it. `mmrev::`
    # it does not know.
    try:
        from mmengine.config.utils import MODULE2PACKAGE
    except ImportError:  # missing_or_too_old() or the doctor says what is wrong
        return
    MODULE2PACKAGE.update(mmseg="mmseg", mmrev="mmrev")


wait_briefly()
_name_config_packages()
if _complaint := missing_or_too_old():
    warnings.warn(_complaint, stacklevel=2)
