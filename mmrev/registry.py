"""Child registries of mmengine's roots, scope ``mmrev``.

mmengine imports ``{scope}.registry`` by itself, so ``type='mmrev.RevCol'`` resolves
from any mmdet, mmseg or mmpretrain config once mmrev is installed.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

from mmengine import registry as root
from mmengine.registry import registry as lookup

__all__ = [
    "DATASETS",
    "DATA_SAMPLERS",
    "HOOKS",
    "LOOPS",
    "METRICS",
    "MODELS",
    "OPTIM_WRAPPERS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
    "SCOPES",
    "STRATEGIES",
    "TRANSFORMS",
    "use_registered_names",
]

SCOPES = ("mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain", "mmrev")
"""The packages whose registries are built from."""


def _child(name: str, *locations: str) -> root.Registry:
    parent = getattr(root, name)
    return root.Registry(
        parent.name, parent=parent, scope="mmrev", locations=list(locations)
    )


MODELS = _child(
    "MODELS",
    "mmrev.models",
    "mmrev.models.detectors",
    "mmrev.models.pretraining",
    "mmrev.models.segmentors",
)
DATASETS = _child("DATASETS", "mmrev.datasets")
DATA_SAMPLERS = _child("DATA_SAMPLERS", "mmrev.datasets")
METRICS = _child("METRICS", "mmrev.evaluation")
HOOKS = _child("HOOKS", "mmrev.engine")
LOOPS = _child("LOOPS", "mmrev.engine")
OPTIM_WRAPPERS = _child("OPTIM_WRAPPERS", "mmrev.engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child("OPTIM_WRAPPER_CONSTRUCTORS", "mmrev.engine")
STRATEGIES = _child("STRATEGIES", "mmrev.engine")
TRANSFORMS = _child("TRANSFORMS", "mmrev.datasets")


def use_registered_names() -> None:
    """Let registries build what is registered, and import nothing else by its name.

    Of a name that no registry knows mmengine imports the module: ``type='os.system'``
    calls it, and ``type='evil.Model'`` runs ``evil/registry.py``. For names that come
    from others; it holds for the process.
    """
    lookup.get_object_from_string = _nothing
    lookup.import_module = _import_known


def _nothing(name: str) -> Any:
    return None


def _import_known(name: str) -> ModuleType:
    if name.partition(".")[0] not in SCOPES:
        raise ImportError(f"expected a package of {', '.join(SCOPES)}, got {name}.")
    return import_module(name)
