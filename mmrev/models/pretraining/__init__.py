"""Parts of pretraining; those that extend mmpretrain's are there if it is installed."""

from importlib.util import find_spec

from mmrev.console import hushed
from mmrev.models.pretraining.masked_autoencoder import MaskedAutoencoder
from mmrev.models.pretraining.masked_backbone import MaskedBackbone

__all__ = ["MaskedAutoencoder", "MaskedBackbone"]

if find_spec("mmpretrain"):
    with hushed():
        from mmrev.models.pretraining.simmim_head import SimMIMHead

    __all__ += ["SimMIMHead"]
