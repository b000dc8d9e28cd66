"""How often each class occurs in data sets of the three toolboxes."""

from xml.etree import ElementTree

import numpy as np
import pytest
from damaged import damage
from mmdet.datasets import VOCDataset
from mmpretrain.datasets import CustomDataset
from mmseg.datasets import BaseSegDataset
from mmseg.utils import register_all_modules
from PIL import Image

from mmrev.datasets import class_counts
from mmrev.datasets.checked import use_checked_data
from mmrev.datasets.class_counts import count_classes
from mmrev.errors import UserError
from mmrev.runs.check import check_heads
from mmrev.runs.occurrence import check_occurrence

CLASSES = ("ground", "road", "tree")


@pytest.fixture(autouse=True)
def checked():
    register_all_modules(init_default_scope=True)
    use_checked_data()


@pytest.fixture
def maps(tmp_path):
    """A data set of mmseg with a label map of 4 x 6 pixels for each list of values."""

    def call(*values: tuple[int, ...], pipeline=("Image", "Annotations")):
        for folder in ("images", "maps"):
            (tmp_path / folder).mkdir(exist_ok=True)
        for number, found in enumerate(values):
            labels = np.zeros(24, np.uint8)
            labels[: len(found)] = found
            Image.new("RGB", (6, 4)).save(tmp_path / f"images/{number}.jpg")
            map_file = tmp_path / f"maps/{number}.png"
            Image.fromarray(labels.reshape(4, 6)).save(map_file)
        kinds = {"Image": "LoadImageFromFile", "Annotations": "LoadAnnotations"}
        return BaseSegDataset(
            data_root=str(tmp_path),
            data_prefix=dict(img_path="images", seg_map_path="maps"),
            metainfo=dict(classes=CLASSES),
            pipeline=[dict(type=kinds[one]) for one in pipeline],
        )

    return call


@pytest.fixture
def voc(tmp_path):
    """A set of Pascal VOC with an image for each list of objects' names."""

    def call(*names: tuple[str, ...]):
        base = tmp_path / "VOC2007"
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        for number, objects in enumerate(names):
            root = ElementTree.Element("annotation")
            size = ElementTree.SubElement(root, "size")
            for key, value in (("width", 20), ("height", 10), ("depth", 3)):
                ElementTree.SubElement(size, key).text = str(value)
            for name in objects:
                one = ElementTree.SubElement(root, "object")
                ElementTree.SubElement(one, "name").text = name
                ElementTree.SubElement(one, "difficult").text = "0"
                box = ElementTree.SubElement(one, "bndbox")
                for key, value in zip(
                    ("xmin", "ymin", "xmax", "ymax"), (2, 2, 8, 8), strict=True
                ):
                    ElementTree.SubElement(box, key).text = str(value)
            tree = ElementTree.ElementTree(root)
            tree.write(base / f"Annotations/{number}.xml")
            Image.new("RGB", (20, 10)).save(base / f"JPEGImages/{number}.jpg")
        lines = "\n".join(map(str, range(len(names))))
        (base / "ImageSets/Main/train.txt").write_text(lines)
        return VOCDataset(
            ann_file="ImageSets/Main/train.txt",
            data_root=str(base),
            data_prefix=dict(sub_data_root=""),
            metainfo=dict(classes=("cat", "dog")),
        )

    return call


@pytest.fixture
def listed(tmp_path):
    """A classification set of a file that gives each image a label."""

    def call(*labels: int, **settings):
        path = tmp_path / "train.txt"
        path.write_text("".join(f"{i}.jpg {one}\n" for i, one in enumerate(labels)))
        return CustomDataset(ann_file=str(path), data_prefix="images", **settings)

    return call


def test_pixels(maps, monkeypatch):
    found = count_classes(maps((1, 255), (1, 1)))
    assert found.counts == dict(ground=44, road=3, tree=0)
    assert (found.ignored, found.seen, found.total) == (pytest.approx(1 / 48), 2, 2)
    # It ends where every class was found, and where its time is over.
    monkeypatch.setattr(class_counts, "_FEWEST", 1)
    assert count_classes(maps((1, 2), (1, 2))).seen == 1
    monkeypatch.setattr(class_counts, "_SECONDS", -1.0)
    assert count_classes(maps((1,), (1,))).seen == 1


def test_nothing_to_count(maps, listed):
    assert count_classes(maps((1,), pipeline=["Image"])) is None
    assert count_classes(listed(0)) is None  # its classes have no names


def test_objects_of_a_set_that_is_not_cocos(voc):
    found = count_classes(voc(("cat", "dog", "cat"), ()))
    assert found.counts == dict(cat=2, dog=1)
    assert (found.unit, found.seen, found.total) == ("images", 2, 2)
    with pytest.raises(UserError) as caught:
        check_occurrence([voc(("cat",), ("cat",))], "refused")
    line = str(caught.value)
    assert "train.txt (all 2 images): there is nothing of 1 class (dog);" in line


def test_images_of_classes(listed):
    dataset = listed(0, 0, 1, metainfo=dict(classes=CLASSES))
    assert count_classes(dataset).counts == dict(ground=2, road=1, tree=0)
    with pytest.raises(UserError, match=r"\(all 3 images\): .*1 class \(tree\);"):
        check_occurrence([dataset], "refused")


def test_labels_that_a_classifier_does_not_have(listed, classifier):
    check_heads(classifier(3), listed(0, 2), "train")
    with pytest.raises(UserError) as caught:
        check_heads(classifier(3), listed(0, 3), "train")
    line = str(caught.value)
    assert "train.txt: " in line and "1.jpg: expected a label of 0..2, got 3;" in line
    check_heads(classifier(3), listed(0, 3), "val")  # a retrieval's number images
    named = listed(0, 1, metainfo=dict(classes=CLASSES))
    check_heads(classifier(3), named, "train")
    with pytest.raises(UserError, match=r"model\.head: expected num_classes=3,.*got 2"):
        check_heads(classifier(2), named, "train")


@pytest.fixture
def classifier():
    from mmpretrain.models import LinearClsHead
    from torch import nn

    return lambda number: nn.ModuleDict({"head": LinearClsHead(number, 4)})


def refusals(rank, folder):
    """What each of two processes is told; only the first can read the label maps."""
    use_checked_data()
    register_all_modules(init_default_scope=True)
    dataset = BaseSegDataset(
        data_root=str(folder),
        data_prefix=dict(img_path="images", seg_map_path="maps"),
        metainfo=dict(classes=CLASSES),
        pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")],
    )
    if rank:
        dataset.pipeline.transforms = []
    try:
        check_occurrence([dataset], "refused")
    except UserError as error:
        return str(error)


def test_all_processes_end_by_what_the_first_one_finds(maps, tmp_path, process_pair):
    maps((0, 1, 255))
    first, second = process_pair.run(refusals, tmp_path)
    assert first == second and "nothing of 1 class (tree)" in first
    maps((0, 7))  # which no class has
    first, second = process_pair.run(refusals, tmp_path)
    assert first == second and "got 7" in first
    maps((0, 1, 2))
    assert process_pair.run(refusals, tmp_path) == [None, None]


def test_label_maps_that_cannot_be_read_are_passed_over(maps, tmp_path):
    dataset = maps((0, 1), (1, 2), (2, 0))
    damage(tmp_path / "maps/1.png", "text")
    counts = count_classes(dataset)
    assert (counts.seen, counts.total) == (2, 3)
    assert counts.counts == {"ground": 46, "road": 1, "tree": 1}
    for number in (0, 2):
        damage(tmp_path / f"maps/{number}.png", "empty")
    assert count_classes(dataset) is None
