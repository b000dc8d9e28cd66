"""Batches of images of one size, of every toolbox, and what cannot be batched so."""

from collections import Counter

import data_layouts
import pytest
from damaged import damage, turn
from data_layouts import make_ade20k, make_coco, make_imagenet
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from resolved import use_scope

from mmrev.datasets import SameSizeBatchSampler
from mmrev.datasets.checked import use_checked_data
from mmrev.datasets.readable import log_unreadable
from mmrev.datasets.resized import resized_sizes
from mmrev.errors import UserError
from mmrev.wrappers import plain_datasets

# Width and height of 12 images. Turned or halved, some are of one size.
WIDE, TALL, SQUARE = (96, 64), (64, 96), (80, 80)
SIZES = [WIDE, TALL, WIDE, SQUARE, WIDE, (48, 32), TALL, WIDE, (96, 72), WIDE, WIDE]
SIZES.append(SQUARE)
LOAD = dict(type="LoadImageFromFile")
RESIZE = dict(type="Resize", scale=(96, 64), keep_ratio=True)
PACKS = {"mmdet": "PackDetInputs", "mmseg": "PackSegInputs", "mmpretrain": "PackInputs"}
COCO = dict(
    type="CocoDataset",
    data_root="data/coco",
    ann_file="annotations/instances_val2017.json",
    data_prefix=dict(img="val2017/"),
    test_mode=True,
)
ADE = dict(
    type="ADE20KDataset",
    data_root="data/ade/ADEChallengeData2016",
    data_prefix=dict(
        img_path="images/validation", seg_map_path="annotations/validation"
    ),
)
IMAGENET = dict(
    type="CustomDataset",
    data_root="data/imagenet",
    ann_file="meta/val.txt",
    data_prefix="val",
)
PLAIN = {"mmdet": COCO, "mmseg": ADE, "mmpretrain": IMAGENET}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(data_layouts, "SIZES", SIZES)
    monkeypatch.chdir(tmp_path)
    use_checked_data()
    return tmp_path


@pytest.fixture
def coco(folder):
    make_coco(folder)
    return folder / "data/coco/val2017"


@pytest.fixture
def ade(folder):
    make_ade20k(folder)
    return folder / "data/ade/ADEChallengeData2016/images/validation"


@pytest.fixture
def said(monkeypatch):
    found = []
    logger = MMLogger.get_current_instance()
    for level in ("warning", "error"):
        monkeypatch.setattr(logger, level, found.append)
    return found


def settings(scope="mmdet", *steps, pack=None) -> dict:
    pipeline = [LOAD, *(steps or [RESIZE]), pack or dict(type=PACKS[scope])]
    return dict(PLAIN[scope], pipeline=pipeline)


def built(dataset, scope="mmdet"):
    use_scope(scope)
    return DATASETS.build(dataset)


def loader(dataset, batch=4, scope="mmdet", **changes):
    """As mmengine makes it of a config."""
    use_scope(scope)
    sampler = dict(type="DefaultSampler", shuffle=False)
    return Runner.build_dataloader(
        dict(
            dataset=dataset,
            sampler=sampler,
            batch_sampler=dict(type="mmrev.SameSizeBatchSampler"),
            batch_size=batch,
            **dict(dict(num_workers=0), **changes),
        )
    )


def sizes_in(batch) -> set:
    return {tuple(image.shape[-2:]) for image in batch["inputs"]}


def names_in(batch) -> list[str]:
    return [sample.img_path[-6:-4] for sample in batch["data_samples"]]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_detection(coco, workers):
    batches = loader(settings(), num_workers=workers, persistent_workers=workers > 0)
    found = list(batches)
    assert all(len(sizes_in(batch)) == 1 for batch in found)
    # A test of every stitch asks again.
    assert list(map(names_in, batches)) == list(map(names_in, found))
    # 96 x 64 comes of 48 x 32, too; of equal size, in the order of the data set.
    assert [names_in(batch) for batch in found] == [
        *(["01", "03", "05", "06"], ["08", "10", "11"]),
        *(["02", "07"], ["04", "12"], ["09"]),
    ]
    pixels = [len(one["inputs"]) * one["inputs"][0][0].numel() for one in found]
    assert pixels == sorted(pixels, reverse=True)


def test_sizes_of_headers_are_those_of_turned_images(ade):
    first = sorted(ade.iterdir())[0]
    turn(first)
    found = list(loader(settings("mmseg"), scope="mmseg"))
    assert all(len(sizes_in(batch)) == 1 for batch in found)
    together = next(batch for batch in found if "01" in names_in(batch))
    assert names_in(together) == ["01", "02", "07"]
    every = [name for batch in found for name in names_in(batch)]
    assert sorted(every) == [f"{number:02}" for number in range(1, 13)]
    # Which a loader may leave as they are.
    load = dict(LOAD, color_type="color_ignore_orientation")
    plain = dict(settings("mmseg"), pipeline=[load, *settings("mmseg")["pipeline"][1:]])
    found = list(loader(plain, scope="mmseg"))
    assert names_in(found[0])[0] == "01"


def test_single_images_stay_in_their_order_and_any_pipeline_will_do(coco):
    steps = [dict(type="RandomResize", scale=(96, 64), ratio_range=(0.5, 2))]
    found = loader(settings("mmdet", *steps), batch=1)
    assert [names_in(batch) for batch in found] == [[f"{i:02}"] for i in range(1, 13)]


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("batch", [1, 4])
def test_every_image_once_in_any_number_of_processes(coco, count, batch):
    dataset = built(settings())
    seen, lengths, first = [], [], []
    for rank in range(count):
        sampler = DefaultSampler(dataset, shuffle=False)
        sampler.rank, sampler.world_size = rank, count
        batches = SameSizeBatchSampler(sampler, batch)
        assert len(batches) == len(list(batches))
        lengths.append(len(batches))
        first += [tuple(next(iter(batches), ()))]
        seen += [index for indices in batches for index in indices]
    assert sorted(seen) == list(range(12))
    assert max(lengths) - min(lengths) <= 1
    if batch == 4:
        assert first[0] == (0, 2, 4, 5)
        assert (min(lengths) == 0) == (count == 7)


def test_joined_data_sets_are_batched_together(coco):
    other = settings("mmdet", dict(type="Resize", scale=(64, 96), keep_ratio=False))
    found = list(loader(dict(type="ConcatDataset", datasets=[settings(), other])))
    counts = Counter(len(batch["inputs"]) for batch in found)
    # 12 images of 64 x 96 are three batches, beside the two that are so anyway.
    assert counts == {4: 4, 3: 1, 2: 2, 1: 1}
    assert all(len(sizes_in(batch)) == 1 for batch in found)


def test_views_of_augmented_tests(coco):
    steps = [
        [RESIZE, dict(type="Resize", scale=(48, 48), keep_ratio=True)],
        [dict(type="RandomFlip", prob=1.0), dict(type="RandomFlip", prob=0.0)],
        [dict(type="PackDetInputs")],
    ]
    views = dict(COCO, pipeline=[LOAD, dict(type="TestTimeAug", transforms=steps)])
    found = list(loader(views))
    assert len(found) == 5
    for batch in found:
        assert len(batch["inputs"]) == 4
        for view in batch["inputs"]:
            assert len({image.shape for image in view}) == 1


STEPS = {
    "mmdet": [
        [RESIZE],
        [dict(type="Resize", scale=(50, 30), keep_ratio=False)],
        [dict(type="Resize", scale_factor=0.7)],
        [dict(type="FixScaleResize", scale=(77, 61), keep_ratio=True)],
        [dict(type="FixShapeResize", width=70, height=50, keep_ratio=True)],
        [dict(type="ResizeShortestEdge", scale=50, max_size=70, keep_ratio=True)],
        [RESIZE, dict(type="Pad", size_divisor=32, pad_val=dict(img=(9, 9, 9)))],
        [dict(type="Pad", pad_to_square=True)],
        [dict(type="Resize", scale=(50, 50)), dict(type="RandomFlip", prob=0.5)],
    ],
    "mmseg": [
        [RESIZE, dict(type="LoadAnnotations", reduce_zero_label=True)],
        [dict(type="ResizeToMultiple", size_divisor=32)],
        [dict(type="ResizeShortestEdge", scale=40, max_size=55)],
    ],
    "mmpretrain": [
        [dict(type="ResizeEdge", scale=40, edge="short", backend="pillow")],
        [dict(type="ResizeEdge", scale=50), dict(type="CenterCrop", crop_size=45)],
        [dict(type="EfficientNetCenterCrop", crop_size=32)],
        [dict(type="CenterCrop", crop_size=(70, 40))],
    ],
}


@pytest.mark.parametrize("scope", STEPS)
def test_sizes_are_told_as_they_will_be(folder, scope):
    make = {"mmdet": make_coco, "mmseg": make_ade20k, "mmpretrain": make_imagenet}
    make[scope](folder)
    for steps in STEPS[scope]:
        dataset = built(settings(scope, *steps), scope)
        for told, item in zip(resized_sizes(dataset), dataset, strict=True):
            assert told == (tuple(item["inputs"].shape[1:]),), steps


def test_an_unreadable_image_is_left_out_of_its_batch(coco, said):
    damage(coco / "000000000003.jpg", "truncated")
    for number in ("04", "12"):  # all of their size
        damage(coco / f"0000000000{number}.jpg", "missing")
    batches = loader(settings())
    for dataset in plain_datasets(batches.dataset):
        dataset.prepare_data.met = log_unreadable
    found = [names_in(batch) for batch in batches]
    # Another image stands where none of a batch is left.
    assert found[0] == ["01", "05", "06"] and found[3] == ["05"]
    assert len(said) == 3 and "03.jpg" in said[0]


def test_an_image_whose_size_cannot_be_told_is_alone(ade, said):
    first, second, *_ = sorted(ade.iterdir())
    damage(first, "text")
    damage(second, "empty")
    batches = loader(settings("mmseg"), scope="mmseg")
    assert said == [
        "2 of 12 images are tested by themselves, since their size cannot be told: "
        f"{first.relative_to(ade.parents[4])} and others"
    ]
    assert list(batches.batch_sampler)[-2:] == [[0], [1]]
    for dataset in plain_datasets(batches.dataset):
        dataset.prepare_data.met = log_unreadable
    assert [names_in(batch) for batch in batches][-2:] == [["03"], ["03"]]


def test_annotated_sizes_that_are_wrong(coco):
    batches = loader(settings())
    (dataset,) = plain_datasets(batches.dataset)
    for transform in dataset.pipeline.transforms:
        if hasattr(transform, "other_sizes"):
            transform.other_sizes = "said"
    turn(coco / "000000000005.jpg")
    turn(coco / "000000000009.jpg")  # which is alone
    with pytest.raises(UserError) as caught:
        next(iter(batches))
    assert str(caught.value) == (
        "data/coco/val2017/000000000005.jpg: expected an image of 96 x 64 after the "
        "pipeline, as the others of its batch, got 64 x 96; mend the height and width "
        "that its annotations state, or set batch_size=1."
    )


class Wrapped:
    """A wrapper that shows an image twice."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return 2 * len(self.dataset)


def sampled(dataset, **settings):
    return DefaultSampler(dataset, **dict(dict(shuffle=False), **settings))


@pytest.mark.parametrize(
    ("make", "batch", "message"),
    [
        (
            lambda dataset: sampled(dataset, shuffle=True, seed=0),
            4,
            r"validation and test: expected sampler=dict\(type='DefaultSampler', "
            r"shuffle=False\), got DefaultSampler that shuffles; in training leave "
            "batch_sampler out",
        ),
        (InfiniteSampler, 1, "got InfiniteSampler that shuffles; in training leave"),
        (sampled, 0, "batch_size should be a positive integer value, but got .*=0"),
        (sampled, 2.0, "batch_size should be a positive integer .*=2.0"),
        (
            lambda dataset: sampled(Wrapped(dataset)),
            4,
            "mmpretrain, or a ConcatDataset of such, got Wrapped; set batch_size=1",
        ),
    ],
)
def test_what_is_refused(coco, make, batch, message):
    dataset = built(settings())
    with pytest.raises(ValueError, match=message):
        SameSizeBatchSampler(make(dataset), batch)


@pytest.mark.parametrize(
    "step",
    [
        dict(type="RandomResize", scale=(96, 64), ratio_range=(0.5, 2)),
        dict(type="RandomCrop", crop_size=(32, 32)),
        dict(type="RandomChoice", transforms=[[RESIZE], [RESIZE]]),
    ],
)
def test_a_step_that_leaves_the_size_open(coco, step):
    with pytest.raises(ValueError) as caught:
        loader(settings("mmdet", step))
    assert str(caught.value).startswith(
        "CocoDataset: expected steps of a pipeline whose result has a size that follows"
    )
    line = str(caught.value)
    assert f"got {step['type']}; leave it out of validation and test, or" in line


def test_a_data_set_without_sizes_and_files():
    pipeline = [dict(type="PackInputs")]
    dataset = dict(
        type="mmrev.DigitCrops", split="validation", size=48, pipeline=pipeline
    )
    with pytest.raises(ValueError) as caught:
        loader(dataset, scope="mmpretrain")
    assert str(caught.value) == (
        "DigitCrops: expected images with height and width, or with the path of a "
        "file, got neither; their sizes cannot be told."
    )
