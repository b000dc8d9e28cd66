"""What the page of tools/browse.py shows of images made for it."""

import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmrev.browse.detection import DetectionPage
from mmrev.browse.page import LONGEST, Report, outline, overlay, render
from mmrev.browse.segmentation import (
    UNLABELLED,
    WRONG,
    SegmentationPage,
    class_ious,
    confusion_matrix,
)
from mmrev.errors import UserError

OBJECT = [10.0, 20, 50, 60]


def loaded(name="a.jpg", size=(80, 100), **annotations) -> dict:
    return dict(img=np.zeros((*size, 3), np.uint8), img_path=f"x/{name}", **annotations)


def boxes(name: str, objects=(), labels=(), crowd=(), **more) -> dict:
    return loaded(
        name,
        gt_bboxes=HorizontalBoxes(torch.tensor(objects).reshape(-1, 4)),
        gt_bboxes_labels=np.array(labels, np.int64),
        gt_ignore_flags=np.array(crowd or [False] * len(objects)),
        **more,
    )


def found(bboxes=(), labels=(), scores=(), **more) -> DetDataSample:
    instances = InstanceData(
        bboxes=torch.tensor(bboxes).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores),
        **more,
    )
    return DetDataSample(pred_instances=instances)


def label_map(labels) -> SegDataSample:
    return SegDataSample(pred_sem_seg=PixelData(data=torch.tensor(labels)[None]))


def decoded(uri: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(uri.partition(",")[2])))


def test_detection_shows_the_worst_image_first():
    page = DetectionPage(("cat", "dog"), predicted=True)
    page.add(boxes("right.jpg", [OBJECT], [1]), found([OBJECT], [1], [0.9]))
    page.add(boxes("class.jpg", [OBJECT], [1]), found([OBJECT], [0], [0.8]))
    page.add(boxes("nothing.jpg"), found())
    page.add(boxes("half.jpg", [OBJECT, [60.0, 0, 90, 30]], [1, 0]), found())
    page.add(boxes("crowd.jpg", [OBJECT], [1], [True]), found([OBJECT], [1], [0.7]))
    report = page.report()
    names = [card.name for card in report.cards]
    assert names[:2] == ["half.jpg", "class.jpg"]
    assert set(names[2:]) == {"right.jpg", "nothing.jpg", "crowd.jpg"}
    assert [card.score for card in report.cards] == [1, 1, 0, 0, 0]
    cards = {card.name: card for card in report.cards}
    assert cards["half.jpg"].kinds == ["missed"]
    assert cards["half.jpg"].note == "0 of 2 found, 2 Miss"
    assert [mark.kind for mark in cards["crowd.jpg"].panes[0].marks] == ["ignored"]
    assert ("crowds, ignored", "1") in report.facts
    facts = dict(report.facts)
    # The one cat is missed; of three dogs one is found, which 34 of 101 steps reach.
    assert facts["AP50 of these images"] == f"{(0 + 34 / 101) / 2:.3f}"
    assert facts["at a score of"] == "0.90"
    counts = {row[0]: row[2:4] for row in report.tables[0].rows}
    # At 0.9, the detection of class.jpg is not shown, and its object missed.
    assert counts["Miss"] == ("3", "2") and counts["Cls"] == ("0", "1")


def test_a_mark_lies_where_its_box_does_and_says_what_it_is():
    page = DetectionPage(("cat", "dog"), predicted=True)
    page.add(boxes("a.jpg", [OBJECT], [1]), found([OBJECT], [0], [0.8]))
    (card,) = page.report().cards
    truth, predictions = card.panes
    (mark,) = predictions.marks
    assert (mark.left, mark.top, mark.width, mark.height) == (10, 25, 40, 50)
    assert mark.kind == "classification" and mark.text == "Cls cat 0.80"
    assert mark.title.endswith("should be dog")
    assert truth.marks[0].text == "Cls dog"


def test_only_the_surest_hundred_detections_count():
    page = DetectionPage(("cat",), predicted=True)
    scores = np.linspace(0.1, 0.9, 120).tolist()
    page.add(boxes("a.jpg"), found([OBJECT] * 120, [0] * 120, scores))
    assert len(page.entries[0].boxes.scores) == 100
    assert page.entries[0].boxes.scores.min() == pytest.approx(scores[20])


def test_instance_masks_are_outlined():
    mask = np.zeros((80, 100), np.uint8)
    mask[20:60, 10:50] = 1
    page = DetectionPage(("cat",), predicted=True)
    page.add(
        boxes("a.jpg", [OBJECT], [0], gt_masks=BitmapMasks([mask], 80, 100)),
        found([OBJECT], [0], [0.9], masks=torch.tensor(mask, dtype=torch.bool)[None]),
    )
    (card,) = page.report().cards
    outlines = [pane.marks[0].outline for pane in card.panes]
    assert outlines == [outline(mask)] * 2
    corners = re.findall(r"(\d+) (\d+)", outlines[0])
    assert set(corners) == {("10", "20"), ("49", "20"), ("49", "59"), ("10", "59")}
    assert outlines[0] in render(page.report(), "a", "b.pth", "1 image")


def test_ground_truth_alone_keeps_the_order_and_counts_classes():
    page = DetectionPage(("cat", "dog"), predicted=False)
    page.add(boxes("b.jpg", [OBJECT, OBJECT], [1, 1]), None)
    page.add(boxes("a.jpg"), None)
    report = page.report()
    assert [card.name for card in report.cards] == ["b.jpg", "a.jpg"]
    assert [len(card.panes) for card in report.cards] == [1, 1]
    assert report.tables[0].rows == [("dog", ("2", 1.0), "1")]
    assert report.kinds == {} and report.cards[0].score is None


def test_confusion_matrix_and_ious():
    truth = np.array([[0, 0, 1], [1, 255, 2]])
    matrix = confusion_matrix(truth, np.array([[0, 1, 1], [1, 2, 0]]), 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(class_ious(matrix), [1 / 3, 2 / 3, 0, np.nan])


def test_segmentation_shows_the_worst_image_first():
    page = SegmentationPage(("wall", "sky", "tree"), predicted=True)
    truth = np.zeros((80, 100), np.uint8)
    truth[40:] = 1
    half = np.where(truth == 1, 2, truth)
    nothing = np.full((80, 100), 255, np.uint8)
    page.add(loaded("right.jpg", gt_seg_map=truth), label_map(truth))
    page.add(loaded("empty.jpg", gt_seg_map=nothing), label_map(truth))
    page.add(loaded("half.jpg", gt_seg_map=truth), label_map(half))
    report = page.report()
    assert [card.name for card in report.cards] == [
        "half.jpg",
        "right.jpg",
        "empty.jpg",
    ]
    assert [card.score for card in report.cards] == [0.5, 0, None]
    # wall 1, sky 4000 of 8000 pixels, tree never right.
    assert dict(report.facts)["mIoU of these images"] == "50.00"
    pairs, per_class = report.tables
    assert [row[:2] for row in pairs.rows] == [("sky", "tree")]
    assert [row[0] for row in per_class.rows] == ["tree", "sky", "wall"]
    assert report.confusion.rows[1] == ("sky", [0.0, 0.5, 0.5])
    assert [name for name, _ in report.cards[0].legend] == ["wall", "sky", "tree"]
    errors = np.asarray(decoded(report.cards[0].panes[2].overlay).convert("RGBA"))
    assert (errors[:40, :, 3] == 0).all()
    assert (errors[40:] == (*bytes.fromhex(WRONG[1:]), 255)).all()
    # What is found where nothing is labelled has its colour, too.
    assert [name for name, _ in report.cards[2].legend] == ["wall", "sky"]
    unlabelled = decoded(report.cards[2].panes[2].overlay).convert("RGBA")
    assert (np.asarray(unlabelled) == (*bytes.fromhex(UNLABELLED[1:]), 255)).all()


def test_a_name_stands_inside_its_region():
    page = SegmentationPage(("wall", "sky"), predicted=False)
    truth = np.zeros((80, 100), np.uint8)
    truth[10:31, 60:91] = 1
    truth[70:, :3] = 255
    page.add(loaded(gt_seg_map=truth), None)
    (card,) = page.report().cards
    places = {text: (left, top) for text, left, top in card.panes[0].names}
    left, top = places["sky"]
    assert 68 < left < 83 and 20 * 100 / 80 < top < 21 * 100 / 80 + 2
    assert set(places) == {"wall", "sky"} and card.note == "wall, sky"


def test_colours_of_an_image_differ_though_classes_are_many():
    classes = tuple(map(str, range(150)))
    page = SegmentationPage(classes, predicted=False)
    truth = np.arange(30, dtype=np.uint8).repeat(4).reshape(10, 12) * 5
    page.add(loaded(size=(10, 12), gt_seg_map=truth), None)
    (card,) = page.cards
    assert len(card.legend) == 30 == len({colour for _, colour in card.legend})
    picture = decoded(card.panes[0].overlay)
    drawn = np.asarray(picture.convert("RGBA"))[..., :3].reshape(-1, 3)
    expected = dict(card.legend)
    for label, colour in zip(truth.ravel(), drawn, strict=True):
        assert "#" + bytes(colour).hex() == expected[str(label)].lower()


def test_large_pictures_become_smaller():
    labels = np.zeros((100, 4000), np.uint8)
    assert decoded(overlay(labels, ["#000000"])).size == (LONGEST, 25)
    page = SegmentationPage(("wall",), predicted=False)
    page.add(loaded(size=(100, 4000), gt_seg_map=labels), None)
    card = page.cards[0]
    assert (card.width, card.height) == (LONGEST, 25) == decoded(card.photo).size


def test_predictions_of_another_task_are_refused():
    with pytest.raises(UserError, match=r"gives pred_instances, .* got pred_sem_seg"):
        DetectionPage(("cat",), True).add(boxes("a.jpg"), label_map([[0]]))
    with pytest.raises(UserError, match=r"gives pred_sem_seg, .* got pred_instances"):
        truth = np.zeros((80, 100), np.uint8)
        SegmentationPage(("cat",), True).add(loaded(gt_seg_map=truth), found())


def test_labels_of_another_size_are_refused():
    truth = np.zeros((40, 100), np.uint8)
    with pytest.raises(UserError, match=r"a\.jpg: .*100x80, got 100x40"):
        SegmentationPage(("cat",), False).add(loaded(gt_seg_map=truth), None)


def test_names_are_escaped_and_nothing_is_loaded():
    page = DetectionPage(("<b>&",), predicted=True)
    page.add(boxes("<i>.jpg", [OBJECT], [0]), found([OBJECT], [0], [0.9]))
    text = render(page.report(), "<u>", "<s>", "1 of 1 images")
    for name in ("<b>&", "<i>", "<u>", "<s>"):
        assert name not in text
    assert "&lt;b&gt;&amp;" in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "http" not in text


def test_a_page_without_images():
    assert "none" in render(Report([], [], []), "a", None, "0 of 0 images")
