"""The data of a config, to be looked at image by image."""

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from mmrev.class_order import order_classes
from mmrev.errors import UserError
from mmrev.runs.config import check_data
from mmrev.runs.refusals import named_refusals
from mmrev.wrappers import plain_settings

__all__ = ["build_datasets"]


def build_datasets(cfg: Config, split: str) -> list[BaseDataset]:
    """Build the data sets of a split that wrap no other.

    Args:
        cfg: Of `load_config`.
        split: 'train', 'val' or 'test'.

    Raises:
        UserError: The config has no such split, a file is missing, or a setting wrong.
    """
    loader = f"{split}_dataloader"
    if cfg.get(loader) is None:
        raise UserError(f"config {cfg.filename}: no {loader}; nothing to look at.")
    check_data(cfg, split)
    settings = plain_settings(cfg[loader].dataset, f"{loader}.dataset")
    with named_refusals(cfg):
        return [DATASETS.build(order_classes(dataset)) for _, dataset in settings]
