"""What a record says of images that are not of the size that annotations state."""

import json

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from PIL import Image

from mmrev.engine.hooks.record import _other_sizes, _recordable

TURNED = 6  # by a quarter, in the EXIF field of the orientation
ORIENTATION = 0x0112


def test_images_that_exif_turns_are_named(tmp_path):
    sizes = {"plain.jpg": (40, 30), "turned.jpg": (40, 30), "other.jpg": (20, 50)}
    for name, (width, height) in sizes.items():
        image = Image.fromarray(np.zeros((height, width, 3), np.uint8))
        exif = image.getexif()
        if name == "turned.jpg":
            exif[ORIENTATION] = TURNED
        image.save(tmp_path / name, exif=exif)
    images = [
        {"id": number, "file_name": name, "width": 40, "height": 30}
        for number, name in enumerate(sizes)
    ]
    content = {"images": images, "annotations": []}
    content["categories"] = [{"id": 1, "name": "thing"}]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    dataset = CocoDataset(
        ann_file="truth.json",
        data_root=str(tmp_path),
        data_prefix={"img": ""},
        metainfo={"classes": ("thing",)},
        pipeline=[],
        test_mode=True,
    )
    load = LoadImageFromFile()
    infos = map(dataset.get_data_info, range(3))
    loaded = {info["img_path"]: load(dict(info))["ori_shape"] for info in infos}
    (remark,) = _other_sizes([dataset], loaded)
    assert remark.startswith("2 of 3 images are not of the size that their annotations")
    assert f"{tmp_path / 'turned.jpg'} is 30x40, turned, not 40x30" in remark
    assert f"{tmp_path / 'other.jpg'} is 20x50, not 40x30" in remark
    assert "plain.jpg" not in remark and "EXIF" in remark
    right = dict.fromkeys(loaded, (30, 40))
    assert not list(_other_sizes([dataset], right))


def test_a_remark_fits_into_a_record():
    assert _recordable("a\nb") == "a?b"
    assert len(_recordable("a" * 2000)) == 1000
