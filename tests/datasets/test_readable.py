"""Data sets of which some images cannot be read, or are of another size."""

import os
import pickle

import pytest
from damaged import FAULTS, damage, turn
from data_layouts import make_ade20k, make_coco, make_imagenet
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image, ImageFile
from torch.utils.data._utils.pin_memory import pin_memory

from mmrev.datasets.checked import use_checked_data
from mmrev.datasets.images import fault_of, size_of
from mmrev.datasets.readable import (
    Notes,
    NotingCollate,
    log_unreadable,
    note_unreadable,
)
from mmrev.errors import UserError
from mmrev.wrappers import plain_datasets


@pytest.fixture
def coco(tmp_path, monkeypatch):
    make_coco(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data/coco/val2017"


def built(met=None, load=None, extra=(), **settings):
    """mmdet's data set of four images."""
    use_checked_data()
    init_default_scope("mmdet")
    pipeline = [
        dict(type="LoadImageFromFile", **(load or {})),
        dict(type="Resize", scale=(32, 32)),
        dict(type="PackDetInputs"),
    ]
    plain = dict(
        type="CocoDataset",
        data_root="data/coco",
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        pipeline=pipeline,
    )
    dataset = DATASETS.build({**plain, **settings})
    dataset.pipeline.transforms.extend(extra)
    if met:
        dataset.prepare_data.met = met
    return dataset


def names(dataset) -> list[str]:
    return [dataset[i]["data_samples"].img_path[-6:-4] for i in range(len(dataset))]


@pytest.fixture
def noted():
    """Give what was noted since the last call."""
    collate = NotingCollate(dict)
    return lambda: collate([]).notes


@pytest.mark.parametrize("how", FAULTS)
def test_an_unreadable_image_is_named_with_its_fault(coco, how):
    path = coco / "000000000002.jpg"
    damage(path, how)
    with pytest.raises(UserError) as caught:
        built()[1]
    line = str(caught.value)
    named = "data/coco/val2017/000000000002.jpg"
    assert line.startswith(f"{named}: expected an image, got {FAULTS[how]}")
    assert "unreadable_images=0.01" in line and "tools/check_data.py" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_an_image_that_must_not_be_read(coco):
    damage(coco / "000000000002.jpg", "forbidden")
    with pytest.raises(UserError, match="got no permission to read it"):
        built()[1]


def test_pillow_may_be_told_to_tolerate_half_an_image(coco, monkeypatch):
    damage(coco / "000000000002.jpg", "truncated")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UserError, match="got a damaged one: image file is truncated"):
        built(load=dict(imdecode_backend="pillow"))[1]
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_pillow_may_be_told_to_open_small_images_alone(coco, monkeypatch):
    path = str(coco / "000000000002.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
    assert size_of(path) == (64, 96) and fault_of(path) is None
    assert Image.MAX_IMAGE_PIXELS == 7


@pytest.mark.parametrize("test_mode", [True, False])
@pytest.mark.parametrize("ignore_empty", [True, False])
def test_the_next_image_stands_for_one_that_cannot_be_read(
    coco, noted, test_mode, ignore_empty
):
    settings = dict(test_mode=test_mode, load=dict(ignore_empty=ignore_empty))
    dataset = built(note_unreadable, **settings)
    assert names(dataset) == ["01", "02", "03", "04"]
    damage(coco / "000000000002.jpg", "text")
    damage(coco / "000000000004.jpg", "missing")
    noted()
    assert names(dataset) == ["01", "03", "03", "01"]
    assert noted().unreadable == [
        ("data/coco/val2017/000000000002.jpg", "no image"),
        ("data/coco/val2017/000000000004.jpg", "no such file"),
    ]
    # Processes of a loader may be started by pickling.
    assert names(pickle.loads(pickle.dumps(dataset))) == ["01", "03", "03", "01"]
    # A part of a data set has its own.
    assert names(dataset.get_subset([1, 2])) == ["03", "03"]


def test_tests_say_it_whatever_process_loads(coco, monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), "error", said.append)
    damage(coco / "000000000002.jpg", "empty")
    assert names(built(log_unreadable))[1] == "03"
    assert said == [
        "left out, as it cannot be read: data/coco/val2017/000000000002.jpg (an empty "
        "file)"
    ]


def test_numbers_beyond_the_end(coco):
    dataset = built(note_unreadable)
    assert len([*dataset]) == 4  # which asks until there is none
    with pytest.raises(IndexError):
        dataset[4]
    assert dataset[-1]["data_samples"].img_path.endswith("4.jpg")


def test_what_follows_the_end_of_a_file_is_no_damage(coco):
    path = coco / "000000000002.jpg"
    for more in (bytes(60), b"a film that a telephone adds"):
        path.write_bytes(path.read_bytes() + more)
        assert names(built())[1] == "02"


def test_without_any_image_it_tells_which(coco):
    for path in coco.iterdir():
        damage(path, "truncated")
    with pytest.raises(UserError, match=r"none of its 4 images .*0003\.jpg .* Compl"):
        built(note_unreadable)[2]


def test_a_mistake_in_a_transform_is_no_fault_of_the_image(coco):
    def broken(results):
        raise FileNotFoundError("a cache of its own")

    with pytest.raises(FileNotFoundError, match="a cache of its own"):
        built(extra=[broken])[0]


def test_what_a_transform_leaves_out_is_drawn_anew_and_noted(coco, noted):
    def only_odd(results):
        return results if int(results["data_samples"].img_id) % 2 else None

    noted()
    dataset = built(extra=[only_odd])
    assert set(names(dataset)) == {"01", "03"}
    notes = noted()
    assert notes.unreadable == []
    assert set(notes.redrawn) == {
        f"data/coco/val2017/00000000000{number}.jpg" for number in (2, 4)
    }
    assert noted() == Notes([], [])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda plain: dict(type="RepeatDataset", times=2, dataset=plain),
        lambda plain: dict(type="ConcatDataset", datasets=[plain, plain]),
        lambda plain: dict(
            type="ClassBalancedDataset", oversample_thr=1e-3, dataset=plain
        ),
        lambda plain: dict(
            type="MultiImageMixDataset",
            dataset=plain,
            pipeline=[dict(type="Mosaic", img_scale=(32, 32))],
        ),
    ],
    ids=["repeated", "joined", "balanced", "mixed"],
)
def test_data_sets_inside_of_wrappers(coco, noted, wrap):
    damage(coco / "000000000002.jpg", "truncated")
    use_checked_data()
    init_default_scope("mmdet")
    load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    plain = dict(
        type="CocoDataset",
        data_root="data/coco",
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        pipeline=load,
    )
    dataset = DATASETS.build(wrap(plain))
    with pytest.raises(UserError, match=r"0002\.jpg: expected an image"):
        for index in range(len(dataset)):
            dataset[index]
    for one in plain_datasets(dataset):
        one.prepare_data.met = note_unreadable
    for index in range(len(dataset)):
        assert dataset[index]["img"].any()
    assert {path for path, _ in noted().unreadable} == {
        "data/coco/val2017/000000000002.jpg"
    }


def test_a_batch_keeps_its_notes_on_its_way(coco, noted):
    damage(coco / "000000000002.jpg", "empty")
    built(note_unreadable)[1]
    batch = NotingCollate(lambda items: {"a": items})
    assert batch([]).notes == Notes([], [])  # what was loaded before is not its own
    built(note_unreadable)[1]
    one = batch(["b"])
    assert one == {"a": ["b"]} and len(one.notes.unreadable) == 1
    for again in (pickle.loads(pickle.dumps(one)), pin_memory(one)):
        assert again == one and again.notes == one.notes


def test_labels_that_cannot_be_read(tmp_path):
    make_ade20k(tmp_path)
    root = tmp_path / "data/ade/ADEChallengeData2016"
    labels = sorted((root / "annotations/validation").iterdir())
    damage(labels[0], "truncated")
    use_checked_data()
    init_default_scope("mmseg")
    dataset = dict(
        type="ADE20KDataset",
        data_root=str(root),
        data_prefix=dict(
            img_path="images/validation", seg_map_path="annotations/validation"
        ),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", reduce_zero_label=True),
            dict(type="PackSegInputs"),
        ],
    )
    dataset = DATASETS.build(dataset)
    with pytest.raises(UserError, match=r"ADE_val_00000001\.png: expected an image, "):
        dataset[0]
    dataset.prepare_data.met = note_unreadable
    assert names(dataset) == ["02", "02", "03", "04"]
    turn(root / "images/validation/ADE_val_00000002.jpg")
    with pytest.raises(UserError) as caught:
        dataset[1]
    line = str(caught.value)
    assert "96 x 64 (its EXIF orientation 6 turns it), got 64 x 96; set color_t" in line
    assert line.endswith("are not turned, else mend the map.")


def test_classification(tmp_path):
    make_imagenet(tmp_path)
    root = tmp_path / "data/imagenet"
    use_checked_data()
    init_default_scope("mmpretrain")
    pipeline = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]
    dataset = dict(type="CustomDataset", data_root=str(root), data_prefix="train")
    dataset = DATASETS.build({**dataset, "pipeline": pipeline})
    damage(root / "train/n00000002/2.JPEG", "empty")
    with pytest.raises(UserError, match=r"2\.JPEG: expected an image, got an empty"):
        dataset[2]
    dataset.prepare_data.met = note_unreadable
    assert dataset[2]["data_samples"].img_path.endswith("3.JPEG")


@pytest.mark.parametrize("test_mode", [True, False])
def test_an_image_of_another_size_than_annotated(coco, test_mode):
    turn(coco / "000000000002.jpg")
    dataset = built(test_mode=test_mode)
    with pytest.raises(UserError) as caught:
        dataset[1]
    assert str(caught.value) == (
        "data/coco/val2017/000000000002.jpg: expected the size that its annotations "
        "state, 64 x 96, got 96 x 64 (its EXIF orientation 6 turns it); set "
        "color_type='color_ignore_orientation' in every LoadImageFromFile if the "
        "annotations are of images that are not turned, else mend the images or their "
        "annotations; if only height and width are stated wrongly, other_sizes='said' "
        "in the config lets them pass. tools/check_data.py names all such images."
    )
    unturned = built(load=dict(color_type="color_ignore_orientation"))
    assert names(unturned)[1] == "02"
