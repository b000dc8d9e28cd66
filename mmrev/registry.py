"""Child registries of mmengine's roots, scope ``mmrev``.

mmengine imports ``{scope}.registry`` by itself, so ``type='mmrev.RevCol'`` resolves
from any mmdet, mmseg or mmpretrain config once mmrev is installed.
"""

from mmengine import registry as root

__all__ = [
    "DATASETS",
    "HOOKS",
    "LOOPS",
    "METRICS",
    "MODELS",
    "OPTIM_WRAPPERS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
]


def _child(name: str, *locations: str) -> root.Registry:
    return root.Registry(
        name.lower().replace("_", " ").removesuffix("s"),
        parent=getattr(root, name),
        scope="mmrev",
        locations=list(locations),
    )


MODELS = _child(
    "MODELS", "mmrev.models", "mmrev.models.detectors", "mmrev.models.segmentors"
)
DATASETS = _child("DATASETS", "mmrev.datasets")
METRICS = _child("METRICS", "mmrev.evaluation")
HOOKS = _child("HOOKS", "mmrev.engine")
LOOPS = _child("LOOPS", "mmrev.engine")
OPTIM_WRAPPERS = _child("OPTIM_WRAPPERS", "mmrev.engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child("OPTIM_WRAPPER_CONSTRUCTORS", "mmrev.engine")
