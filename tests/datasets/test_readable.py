"""Data sets of which some images cannot be read."""

import pickle

import pytest
from data_layouts import make_ade20k, make_coco
from mmengine.registry import DATASETS, init_default_scope


@pytest.fixture
def coco(tmp_path, monkeypatch):
    make_coco(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data/coco/val2017"


def built(broken_step=None):
    """mmdet's data set of four images, wrapped."""
    init_default_scope("mmdet")
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(32, 32)),
        dict(type="PackDetInputs"),
    ]
    dataset = dict(
        type="CocoDataset",
        data_root="data/coco",
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=pipeline,
    )
    dataset = DATASETS.build(dict(type="mmrev.ReadableDataset", dataset=dataset))
    if broken_step:
        dataset.dataset.pipeline.transforms.insert(1, broken_step)
    return dataset


def names(dataset) -> list[str]:
    return [dataset[i]["data_samples"].img_path[-6:-4] for i in range(len(dataset))]


def test_an_image_that_can_be_read_stands_for_one_that_cannot(coco):
    dataset = built()
    assert names(dataset) == ["01", "02", "03", "04"]
    (coco / "000000000002.jpg").write_bytes(b"not an image")
    (coco / "000000000004.jpg").unlink()
    assert names(dataset) == ["01", "03", "03", "01"]
    assert len(dataset) == 4 and dataset.metainfo["classes"][0] == "person"
    # Processes of a loader may be started by pickling.
    assert names(pickle.loads(pickle.dumps(dataset))) == ["01", "03", "03", "01"]


def test_without_any_image_it_tells_which(coco):
    for path in coco.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"none of its 4 images .*0003\.jpg .* Compl"):
        built()[2]


def test_a_mistake_in_a_transform_is_no_fault_of_the_image(coco):
    def broken(results):
        raise FileNotFoundError("a cache of its own")

    with pytest.raises(FileNotFoundError, match="a cache of its own"):
        built(broken)[0]


def test_labels_that_cannot_be_read(tmp_path):
    make_ade20k(tmp_path)
    root = tmp_path / "data/ade/ADEChallengeData2016"
    labels = sorted((root / "annotations/validation").iterdir())
    labels[0].write_bytes(labels[0].read_bytes()[:60])
    init_default_scope("mmseg")
    dataset = dict(
        type="ADE20KDataset",
        data_root=str(root),
        data_prefix=dict(
            img_path="images/validation", seg_map_path="annotations/validation"
        ),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", reduce_zero_label=True),
            dict(type="PackSegInputs"),
        ],
    )
    dataset = DATASETS.build(dict(type="mmrev.ReadableDataset", dataset=dataset))
    assert names(dataset) == ["02", "02", "03", "04"]
