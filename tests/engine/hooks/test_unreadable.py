"""Training on images of which some cannot be read."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from damaged import damage
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from PIL import Image
from test_exact_resume import BATCH, IMAGES, STEPS, assert_same, train

from mmrev.checkpoints import load_checkpoint_file
from mmrev.datasets.checked import use_checked_data
from mmrev.engine.hooks import UnreadableImagesHook
from mmrev.errors import UserError

EPOCHS = STEPS * BATCH // IMAGES


@DATASETS.register_module()
class Pictures(BaseDataset):
    """As many files as the other test has numbers."""

    METAINFO: ClassVar = {"classes": ("a",)}

    def __init__(self, folder, leave_out=None):
        self.folder = folder
        load = dict(type="mmcv.LoadImageFromFile", ignore_empty=True)
        super().__init__(pipeline=[load], serialize_data=False)
        if leave_out is not None:
            self.pipeline.transforms.append(
                lambda found: None if found["number"] == leave_out else found
            )
        self.pipeline.transforms.append(as_inputs)

    def load_data_list(self):
        return [
            {"number": i, "img_path": f"{self.folder}/{i}.png"} for i in range(IMAGES)
        ]


def as_inputs(found):
    noise = np.random.rand() + torch.rand(3)
    mean = torch.from_numpy(found["img"].mean((0, 1))) / 255
    return {"inputs": (mean + noise).float(), "number": found["number"]}


@pytest.fixture
def pictures(tmp_path):
    use_checked_data()
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(IMAGES):
        Image.new("RGB", (4, 3), (20 * number, 9, 9)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def warned(monkeypatch):
    found = []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: found.append(text))
    return found


def run(work_dir, pictures, share=0.0, leave_out=None, **settings):
    dataset = {"type": "Pictures", "folder": str(pictures), "leave_out": leave_out}
    hooks = [UnreadableImagesHook(share)]
    return train(work_dir, dataset=dataset, hooks=hooks, **settings)


def saved(path) -> dict:
    return load_checkpoint_file(path)["meta"].get("unreadable_images")


def test_the_next_one_is_in_its_place_also_after_a_resume(tmp_path, pictures, warned):
    damage(pictures / "3.png", "text")
    whole, _ = run(tmp_path, pictures, 0.2)
    assert len(whole.seen) == STEPS * BATCH
    assert 3 not in whole.seen and whole.seen.count(4) == 2 * EPOCHS
    path = str(pictures / "3.png")
    (line,) = (tmp_path / "unreadable_images.txt").read_text().splitlines()
    assert line == f"{path} (no image)"
    assert warned == [f"skipped, as it cannot be read: {line}"]
    expected = {
        "faults": {path: "no image"},
        "total": IMAGES,
        "draws": EPOCHS,
    }
    assert saved(tmp_path / f"iter_{STEPS}.pth") == expected
    # Loading ahead, workers meet it before its batch is used.
    met = [saved(tmp_path / f"iter_{step}.pth") for step in range(1, STEPS + 1)]
    drawn = [one["draws"] if one else 0 for one in met]
    helped, _ = run(tmp_path / "helped", pictures, 0.2, num_workers=2)
    assert_same(helped, whole)
    for step, number in enumerate(drawn, start=1):
        one = saved(tmp_path / "helped" / f"iter_{step}.pth")
        assert (one["draws"] if one else 0) == number
    for step in (2, 7):
        resumed, runner = run(tmp_path, pictures, 0.2, steps=step)
        assert resumed.seen == whole.seen[step * BATCH :]
        assert_same(resumed, whole)
        runner.save_checkpoint(str(tmp_path), "resumed.pth")
        assert saved(tmp_path / "resumed.pth") == expected
        name = tmp_path / "resumed/unreadable_images.txt"
        assert name.read_text() == f"{line}\n"


def test_more_than_the_share_ends_the_run(tmp_path, pictures, warned):
    for number in (2, 3, 4):
        damage(pictures / f"{number}.png", "empty")
    with pytest.raises(UserError) as caught:
        run(tmp_path, pictures, 0.3)
    line = str(caught.value)
    assert line.startswith(
        "unreadable_images: expected at most 2 of 8 training images (0.3), got 3: "
    )
    assert f"{pictures}/2.png (an empty file)" in line
    assert line.endswith("tools/check_data.py names all of them.")
    assert len((tmp_path / "unreadable_images.txt").read_text().splitlines()) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_by_default_the_first_one_does(tmp_path, pictures, workers):
    damage(pictures / "5.png", "missing")
    with pytest.raises(UserError, match=r"5\.png: expected an image, got no such file"):
        run(tmp_path, pictures, num_workers=workers)


def of_two(rank, work_dir, pictures, share):
    use_checked_data()
    torch.set_num_threads(1)
    try:
        _, runner = run(work_dir, pictures, share, checkpoint={"interval": 99})
    except UserError as error:
        return str(error)
    if rank == 0:
        runner.save_checkpoint(str(work_dir), "last.pth")
    return None


def test_processes_count_together(tmp_path, pictures, process_pair):
    for number in range(4):
        damage(pictures / f"{number}.png", "text")
    both = process_pair.run(of_two, tmp_path / "refused", pictures, 0.4)
    # Neither met more than the three that are allowed before the other had, too.
    assert both[0] == both[1]
    assert "at most 3 of 8 training images (0.4), got 4: " in both[0]
    assert process_pair.run(of_two, tmp_path, pictures, 0.5) == [None, None]
    found = saved(tmp_path / "last.pth")
    assert len(found["faults"]) == 4 and found["draws"] == 4 * EPOCHS


def test_what_a_transform_leaves_out_is_said_once(tmp_path, pictures, warned):
    model, _ = run(tmp_path, pictures, leave_out=6)
    assert 6 not in model.seen and len(model.seen) == STEPS * BATCH
    assert len(warned) == 1 and warned[0].startswith("a transform left out an image")
    assert f"{pictures}/6.png" in warned[0]
    assert saved(tmp_path / f"iter_{STEPS}.pth") is None


@pytest.mark.parametrize("share", [1, -0.1, "some", True, None, float("nan")])
def test_no_share(share):
    with pytest.raises(UserError, match=r"^unreadable_images: expected a share of "):
        UnreadableImagesHook(share)
