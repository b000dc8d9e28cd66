"""Every wrapper that a config of this stack may have, as settings and as built."""

import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from mmrev.wrappers import change_settings, plain_datasets, plain_settings

# Of mmdet, mmseg and mmpretrain, too.
import mmrev.datasets  # noqa: F401  # isort: skip


@DATASETS.register_module()
class PlainNumbers(BaseDataset):
    """Images that have a number alone."""

    def __init__(self, start: int):
        self.start = start
        super().__init__()

    def load_data_list(self) -> list[dict]:
        return [{"number": self.start + index} for index in range(2)]

    def get_cat_ids(self, index: int) -> list[int]:
        return [0]


def plain(start: int) -> dict:
    return {"type": "PlainNumbers", "start": start}


TWO = [plain(0), {"type": "RepeatDataset", "times": 2, "dataset": plain(10)}]
# Settings, and where the plain ones lie in them.
CASES = {
    "none": (plain(0), {"": 0}),
    "repeated": (TWO[1], {".dataset": 10}),
    "balanced": (
        {"type": "ClassBalancedDataset", "oversample_thr": 0.5, "dataset": plain(3)},
        {".dataset": 3},
    ),
    "mixed by mmdet": (
        {"type": "mmdet.MultiImageMixDataset", "pipeline": [], "dataset": plain(3)},
        {".dataset": 3},
    ),
    "mixed by mmseg": (
        {"type": "mmseg.MultiImageMixDataset", "pipeline": [], "dataset": plain(3)},
        {".dataset": 3},
    ),
    "a fold": (
        {"type": "mmpretrain.KFoldDataset", "num_splits": 2, "dataset": plain(3)},
        {".dataset": 3},
    ),
    "joined": (
        {"type": "ConcatDataset", "datasets": TWO},
        {".datasets.0": 0, ".datasets.1.dataset": 10},
    ),
    "joined by mmdet": (
        {"type": "mmdet.ConcatDataset", "datasets": [plain(0), plain(1)]},
        {".datasets.0": 0, ".datasets.1": 1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_settings_and_what_is_built_of_them_are_walked_alike(case):
    settings, places = CASES[case]
    found = list(plain_settings(settings, "test_dataloader.dataset"))
    expected = [
        (f"test_dataloader.dataset{place}", plain(start))
        for place, start in places.items()
    ]
    assert found == expected
    starts = [one.start for one in plain_datasets(DATASETS.build(settings))]
    assert starts == list(places.values())


@pytest.mark.parametrize("case", CASES)
def test_changed_settings_keep_their_wrappers(case):
    settings, places = CASES[case]
    changed = change_settings(settings, lambda one: {**one, "start": one["start"] + 5})
    starts = [one["start"] for _, one in plain_settings(changed, "")]
    assert starts == [start + 5 for start in places.values()]
    assert settings == CASES[case][0] and changed.get("type") == settings["type"]
    back = change_settings(changed, lambda one: {**one, "start": one["start"] - 5})
    assert back == settings
