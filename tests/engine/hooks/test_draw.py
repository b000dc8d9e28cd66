"""Pictures of predictions: one of each image, whatever their names."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from mmrev.engine.hooks.draw import DrawPredictionsHook, picture_names


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["a/1.jpg", "b/2.png"], ["1.png", "2.png"]),
        (["a/1.jpg", "b/1.jpg", "b/2.jpg"], ["a/1.png", "b/1.png", "b/2.png"]),
        (["x/a/1.jpg", "y/a/1.jpg"], ["x/a/1.png", "y/a/1.png"]),
        (["a/1.jpg", "a/1.png"], ["1.jpg.png", "1.png.png"]),
        (["/a/1.jpg", "/1.jpg"], ["a/1.png", "1.png"]),
        (["../a/1.jpg", "../b/1.jpg"], ["a/1.png", "b/1.png"]),
        (["1.0.jpg", "1.1.jpg", "7"], ["1.0.png", "1.1.png", "7.png"]),
        (["a/1.jpg", "a/1.jpg"], ["1.png"]),
        ([], []),
    ],
)
def test_no_picture_overwrites_another(keys, names):
    found = picture_names(keys)
    assert list(found.values()) == names and list(found) == list(dict.fromkeys(keys))


class Crops:
    """A data set whose images are in no file."""

    def __len__(self) -> int:
        return 2

    def get_data_info(self, index: int) -> dict:
        return {"sample_idx": index}


def test_images_without_a_file_are_drawn_as_they_were_loaded(tmp_path):
    drawn = []

    def draw(image, sample, out_file):
        drawn.append((image, sample.sample_idx, out_file))

    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=SimpleNamespace(dataset=Crops())),
        visualizer=SimpleNamespace(visualize_cls=draw),
    )
    hook = DrawPredictionsHook(str(tmp_path))
    hook.before_test_epoch(runner)
    inputs = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    outputs = [BaseDataElement(metainfo={"sample_idx": i}) for i in range(2)]
    for batch in (inputs, [list(inputs), list(inputs)]):  # two views of each image
        hook.after_test_iter(runner, 0, {"inputs": batch}, outputs)
    expected = inputs.numpy().transpose(0, 2, 3, 1)[..., ::-1]  # stored as BGR
    for number, (image, index, file) in enumerate(drawn):
        assert index == number % 2 and file == str(tmp_path / f"{index}.png")
        np.testing.assert_array_equal(image, expected[index])
    assert len(drawn) == 4
