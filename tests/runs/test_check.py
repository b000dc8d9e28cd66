"""What is compared before the first iteration: model, data sets and metrics."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset, CocoPanopticDataset
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmengine.dataset import ConcatDataset, DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop
from mmseg.datasets import BaseSegDataset
from mmseg.utils import register_all_modules
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from mmrev.datasets import SameSizeBatchSampler
from mmrev.datasets.checked import use_checked_data
from mmrev.errors import UserError
from mmrev.evaluation.coco_metric import CocoMetric
from mmrev.runs.check import (
    CheckHook,
    check_heads,
    check_metric,
    check_queries,
    check_sizes,
    watch_tokens,
)
from mmrev.runs.occurrence import check_occurrence
from mmrev.runs.sizes import check_image_sizes

CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def checked():
    use_checked_data()


@pytest.fixture
def warned(monkeypatch):
    """What the log is warned of."""
    found = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, "warning", found.append)
    return found


def content(kinds=(3, 5), categories=((3, "cat"), (5, "dog")), images=2) -> dict:
    """A file with an object of each kind, one an image."""
    return dict(
        images=[
            dict(id=i, file_name=f"{i}.jpg", width=20, height=10) for i in range(images)
        ],
        categories=[dict(id=one, name=name) for one, name in categories],
        annotations=[
            dict(id=i, image_id=i % images, category_id=kind, bbox=[2, 2, 5, 5], area=9)
            for i, kind in enumerate(kinds)
        ],
    )


@pytest.fixture
def coco(tmp_path):
    """A data set of a COCO file."""

    def call(name: str = "a.json", file=None, classes=CLASSES, **settings):
        path = tmp_path / name
        path.write_text(json.dumps(content() if file is None else file))
        settings |= dict(metainfo=dict(classes=classes), data_prefix=dict(img=""))
        return CocoDataset(str(path), **settings)

    return call


class Loop(BaseLoop):
    """Holds what a loop of the runner does."""

    def __init__(self, dataset, *metrics):
        self.dataloader = DataLoader(dataset, batch_size=2)
        self.evaluator = Evaluator(list(metrics))

    def run(self):
        """Nothing."""


def run_of(model=None, **loops) -> SimpleNamespace:
    found = {f"_{split}_loop": loops.get(split) for split in ("train", "val", "test")}
    return SimpleNamespace(model=model or nn.Module(), **found)


def head(kind="Head", **attributes) -> nn.Module:
    module = type(kind, (nn.Module,), {})()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def detector(sigmoid=True, most=60, queries=30, classes=2) -> nn.Module:
    loss = SimpleNamespace(use_sigmoid=sigmoid)
    box = head(num_classes=classes, loss_cls=loss, test_cfg=dict(max_per_img=most))
    return head("DINO", num_queries=queries, bbox_head=box)


def test_more_detections_than_candidates():
    check_queries(detector())
    check_queries(detector(sigmoid=False, most=30))
    with pytest.raises(UserError) as caught:
        check_queries(detector(most=300))
    assert str(caught.value) == (
        "model.test_cfg.max_per_img: expected at most 60 (30 queries x 2 classes), got "
        "300; lower it, or raise the number of queries."
    )
    with pytest.raises(UserError, match=r"at most 30 \(30 queries\), got 60"):
        check_queries(detector(sigmoid=False))
    tolerant = detector(most=300)
    tolerant.bbox_head.keeps_what_there_is = True
    check_queries(tolerant)
    masks = head(
        panoptic_head=head(num_queries=10),
        panoptic_fusion_head=head(num_classes=3, test_cfg=dict(instance_on=True)),
    )
    with pytest.raises(UserError, match=r"max_per_image: expected at most 30 .* 100;"):
        check_queries(masks)
    masks.panoptic_fusion_head.test_cfg["instance_on"] = False
    check_queries(masks)


class Encoder(nn.Module):
    def forward(self, query, spatial_shapes):
        return query


def test_fewer_tokens_than_queries():
    def model(**attributes):
        return head(as_two_stage=True, num_queries=7, encoder=Encoder(), **attributes)

    def encode(model, tokens):
        return model.encoder(
            query=torch.zeros(1, tokens, 4), spatial_shapes=torch.tensor([[2, 3]])
        )

    detector = model()
    watch_tokens(detector)
    assert encode(detector, 7).shape == (1, 7, 4)
    with pytest.raises(UserError) as caught:
        encode(detector, 6)
    assert str(caught.value) == (
        "model.num_queries: expected at most 6, the tokens on levels of [[2, 3]] that "
        "this batch's images have, got 7; lower it, resize images to more pixels, or "
        "use mmrev.DINO, which takes what there is."
    )
    tolerant = model(keeps_what_there_is=True)
    watch_tokens(tolerant)
    encode(tolerant, 6)


@pytest.mark.parametrize("number", [1, 3])
def test_a_head_of_another_number_of_classes(coco, number):
    model = head(
        backbone=head(fc_head=head(num_classes=1000)),
        rpn_head=head(num_classes=1),
        bbox_head=nn.ModuleList([head(num_classes=2), head(num_classes=number)]),
    )
    with pytest.raises(UserError) as caught:
        check_heads(model, coco(), "train")
    line = str(caught.value)
    assert line.startswith(
        "model.bbox_head.1: expected num_classes=2, as the train set"
    )
    assert line.endswith(
        f"a.json) has 2 classes (cat, dog), got {number}; set it, or "
        "metainfo=dict(classes=(...)) of the data set."
    )
    model.bbox_head[1].num_classes = 2
    check_heads(model, coco(), "train")


def test_heads_of_things_and_stuff(tmp_path):
    categories = [
        dict(id=1, name="cat", isthing=1),
        dict(id=2, name="sky", isthing=0),
    ]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content([]) | dict(categories=categories)))
    metainfo = dict(
        classes=("cat", "sky"), thing_classes=("cat",), stuff_classes=("sky",)
    )
    dataset = CocoPanopticDataset(
        str(path), metainfo=metainfo, data_prefix=dict(img="", seg="")
    )
    model = head(
        bbox_head=head(num_classes=1),
        panoptic_fusion_head=head(num_classes=2),
        semantic_head=head(num_classes=54),
    )
    check_heads(model, dataset, "train")
    model.bbox_head.num_classes = 3
    with pytest.raises(UserError, match=r"model.bbox_head: .*got 3;"):
        check_heads(model, dataset, "train")


def test_a_panoptic_map_of_another_size_than_its_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Of panopticapi, which PyPI does not have, mmdet takes this.
    utils = SimpleNamespace(rgb2id=lambda image: image.astype(int) @ (1, 256, 256**2))
    monkeypatch.setitem(sys.modules, "panopticapi", SimpleNamespace(utils=utils))
    register_all_modules(init_default_scope=True)
    segment = dict(id=1, category_id=1, bbox=[0, 0, 9, 9], area=81, iscrowd=0)
    file = dict(
        images=content()["images"],
        categories=[dict(id=1, name="cat", isthing=1)],
        annotations=[
            dict(image_id=i, file_name=f"{i}.png", segments_info=[segment])
            for i in range(2)
        ],
    )
    (tmp_path / "p.json").write_text(json.dumps(file))
    (tmp_path / "maps").mkdir()
    for number, size in enumerate([(20, 10), (10, 20)]):
        Image.new("RGB", (20, 10)).save(f"{number}.jpg")
        Image.new("RGB", size, (1, 0, 0)).save(f"maps/{number}.png")
    dataset = CocoPanopticDataset(
        "p.json",
        metainfo=dict(classes=("cat",), thing_classes=("cat",), stuff_classes=()),
        data_prefix=dict(img="", seg="maps"),
        pipeline=[
            dict(type="mmdet.LoadImageFromFile"),
            dict(type="mmdet.LoadPanopticAnnotations"),
        ],
    )
    assert dataset[0]["gt_masks"].masks.all()
    with pytest.raises(UserError) as caught:
        dataset[1]
    assert str(caught.value) == (
        "maps/1.png: expected the size of its image 1.jpg, 20 x 10, got 10 x 20; mend "
        "the map."
    )


def test_a_class_without_objects(coco, warned):
    datasets = [coco("a.json", content([3])), coco("b.json", content([3, 3]))]
    with pytest.raises(UserError) as caught:
        check_occurrence(datasets, "refused")
    line = str(caught.value)
    assert "a.json, " in line and "b.json: there is nothing of 1 class (dog);" in line
    assert line.endswith("if it is meant to be so, set absent_classes='said' in the "
                         "config.")  # fmt: skip
    check_occurrence([*datasets, coco("c.json", content([5]))], "refused")
    assert not warned
    check_occurrence(datasets, "said")
    # Whoever takes a part of a data set knows.
    check_occurrence([coco("a.json", content([3]), indices=1)], "refused")
    assert len(warned) == 2 and "nothing of 1 class (dog)." in warned[1]


def test_a_class_whose_objects_are_all_left_out(coco):
    file = content([3, 5])
    file["annotations"][1]["area"] = 0
    with pytest.raises(UserError, match=r"\(1 objects are left out\): .*\(dog\)"):
        check_occurrence([coco(file=file)], "refused")


@pytest.fixture
def masks(tmp_path):
    """A data set of mmseg, of label maps with some values each."""
    register_all_modules(init_default_scope=True)

    def call(*values: tuple[int, ...], sizes=(), pipeline=(), **settings):
        for folder in ("images", "maps"):
            (tmp_path / folder).mkdir(exist_ok=True)
        for number, found in enumerate(values):
            size = sizes[number] if sizes else (8, 8)
            Image.new("RGB", size).save(tmp_path / f"images/{number}.jpg")
            labels = np.resize(np.array(found, np.uint8), size[::-1])
            Image.fromarray(labels).save(tmp_path / f"maps/{number}.png")
        return BaseSegDataset(
            data_root=str(tmp_path),
            data_prefix=dict(img_path="images", seg_map_path="maps"),
            metainfo=dict(classes=CLASSES),
            pipeline=[
                dict(type="LoadImageFromFile"),
                *pipeline,
                dict(type="LoadAnnotations"),
            ],
            **settings,
        )

    return call


def test_two_classes_drawn_as_0_and_255(masks, warned):
    dataset = masks((0, 255), (0, 0, 0, 255))
    with pytest.raises(UserError) as caught:
        check_occurrence([dataset], "refused")
    line = str(caught.value)
    assert (
        "maps (all 2 label maps; 37.5% of the pixels are ignored; where 255 draws a "
        "class, write the class's number instead): there is nothing of 1 class (dog)"
    ) in line
    check_occurrence([masks((0, 255), (1,))], "refused")


def test_of_a_part_of_the_maps_only_what_is_plain(masks, warned, monkeypatch):
    monkeypatch.setattr("mmrev.datasets.class_counts._SECONDS", -1.0)
    with pytest.raises(UserError, match=r"1 of 2 label maps.*\(dog\)"):
        check_occurrence([masks((0, 255), (0,))], "refused")
    dataset = masks((0, 1), (0, 1))
    dataset._metainfo["classes"] = ("cat", "dog", "cow")
    for transform in dataset.pipeline.transforms:
        transform.num_classes = 3
    check_occurrence([dataset], "refused")
    assert len(warned) == 1 and "(cow)." in warned[0]


def test_batches_of_unlike_sizes(masks):
    def check(dataset, batch=2):
        loader = DataLoader(dataset, batch_size=batch)
        check_sizes(loader, [dataset], "val")

    unlike = dict(sizes=[(8, 8), (8, 8), (9, 8)])
    dataset = masks((0,), (0,), (0,), **unlike)
    with pytest.raises(UserError) as caught:
        check(dataset)
    line = str(caught.value)
    assert line.startswith(
        "val_dataloader.batch_size: expected 1 or images of one size after the "
        "pipeline, got 2 and "
    )
    assert "0.jpg (8 x 8), " in line and "2.jpg (9 x 8); add --cfg-options" in line
    assert "\"val_dataloader.batch_sampler={'type': 'mmrev.SameSizeBa" in line
    check(dataset, batch=1)
    sampler = SameSizeBatchSampler(DefaultSampler(dataset, shuffle=False), 2)
    check_sizes(DataLoader(dataset, batch_sampler=sampler), [dataset], "val")
    check(masks((0,), (0,), (0,), sizes=[(8, 8)] * 3))
    fixed = dict(type="Resize", scale=(16, 16), keep_ratio=False)
    check(masks((0,), (0,), (0,), pipeline=[fixed], **unlike))
    cropped = dict(type="RandomCrop", crop_size=(4, 4))  # who knows
    check(masks((0,), (0,), (0,), pipeline=[cropped], **unlike))
    with pytest.raises(UserError, match="batch_size"):
        check(
            masks((0,), (0,), (0,), pipeline=[fixed | {"keep_ratio": True}], **unlike)
        )


def test_batches_that_are_padded(coco, warned):
    file = content()
    dataset = coco(file=file)
    check_sizes(DataLoader(dataset, batch_size=2), [dataset], "test")
    file["images"][1]["width"] = 30
    dataset = coco(file=file)
    check_sizes(DataLoader(dataset, batch_size=1), [dataset], "test")
    assert not warned
    check_sizes(DataLoader(dataset, batch_size=2), [dataset], "test")
    assert warned == [
        "test_dataloader: images of unlike sizes, as 0.jpg (20 x 10), 1.jpg (30 x 10), "
        "are padded to batches of 2, which changes what most models predict; "
        "--cfg-options \"test_dataloader.batch_sampler={'type': "
        "'mmrev.SameSizeBatchSampler'}\" puts those of one size together."
    ]


def test_a_metric_of_other_annotations(coco, tmp_path):
    dataset = coco()
    check_metric(CocoMetric(str(tmp_path / "a.json")), [dataset], "val")

    def refused(file: dict, **settings) -> str:
        path = tmp_path / "other.json"
        path.write_text(json.dumps(file))
        with pytest.raises(UserError) as caught:
            check_metric(CocoMetric(str(path), **settings), [dataset], "val")
        line = str(caught.value)
        assert line.startswith("val_evaluator (CocoMetric): ann_file: ")
        return line

    assert "which lack dog;" in refused(content(categories=((3, "cat"), (5, "cow"))))
    line = refused(content(categories=((5, "dog"), (3, "cat"))))
    assert "cat, dog, got dog, cat; use the same" in line
    assert "got none of id 1; use" in refused(content(images=1))
    line = refused(content(), metric="segm")
    assert "annotations[0] (id 0), field 'segmentation'" in line


def test_crowds_that_mmdets_metric_needs(coco, tmp_path):
    dataset = coco()
    with pytest.raises(UserError, match=r"annotations\[0\], field 'iscrowd'.*mmrev\."):
        check_metric(MMDetCocoMetric(str(tmp_path / "a.json")), [dataset], "test")


def test_splits_of_other_classes(coco, tmp_path):
    train = ConcatDataset([coco(), coco("b.json")])
    other = coco("c.json", content(categories=((5, "dog"), (3, "cat"))))
    loops = dict(train=Loop(train), val=Loop(other))
    with pytest.raises(UserError) as caught:
        CheckHook().before_run(run_of(**loops))
    assert str(caught.value).startswith(
        "classes differ: label 0 is 'cat' in the train set and 'dog' in the val set;"
    )
    loops["val"] = Loop(coco(), CocoMetric(str(tmp_path / "a.json")))
    CheckHook().before_run(run_of(**loops))


def test_what_is_odd_is_said(coco, warned):
    file = content([3, 5, 5])
    file["annotations"][2]["image_id"] = 99
    CheckHook().before_run(run_of(train=Loop(coco(file=file))))
    assert len(warned) == 1
    assert warned[0].endswith("a.json: 1 of 3 objects are left out: 1 of images that "
                              "the file does not list.")  # fmt: skip


def test_a_file_that_holds_a_list(coco):
    with pytest.raises(UserError, match=r"a.json: expected a dict with 'images'"):
        coco(file=[])


def test_a_mask_of_another_size_than_the_image(coco, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    register_all_modules(init_default_scope=True)
    file = content()
    for one in file["annotations"]:
        one["segmentation"] = dict(size=[10, 20], counts=[0, 20, 180])
    load = [
        dict(type="mmdet.LoadImageFromFile"),
        dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    ]
    dataset = coco(file=file, pipeline=load)
    Image.new("RGB", (20, 10)).save("0.jpg")
    Image.new("RGB", (10, 20)).save("1.jpg")
    assert dataset[0]["gt_masks"].masks.sum() == 20
    # Where other sizes pass, run lengths would not fit.
    check_image_sizes([dataset], "train", "said")
    with pytest.raises(UserError) as caught:
        dataset[1]
    assert str(caught.value) == (
        "1.jpg: expected the size that its annotations state, 20 x 10, got 10 x 20; "
        "mend the image or its annotations."
    )
    file["annotations"][1]["segmentation"] = []
    with pytest.raises(UserError, match=r"annotations\[1\].*'segmentation'.*got \[\]"):
        coco(file=file, pipeline=load)
