"""Files of annotations that must not reach a run, and those that must."""

from functools import partial

import pytest

from mmrev.datasets.annotations import check_instances, check_panoptic, collect_faults
from mmrev.errors import UserError

CLASSES = ("cat", "dog")
BOX = "4 finite numbers x, y, width, height, the last two not negative"


def objects(**changes):
    one = dict(id=1, image_id=1, category_id=3, bbox=[2, 3, 4, 5], area=20, iscrowd=0)
    other = dict(id=2, image_id=2, category_id=5, bbox=[0, 0, 9, 9], area=81)
    return dict(
        images=[
            dict(id=1, file_name="1.jpg", width=20, height=10),
            dict(id=2, file_name="2.jpg", width=20, height=10),
        ],
        categories=[dict(id=3, name="cat"), dict(id=5, name="dog")],
        annotations=[one, other | changes],
    )


def put(content: dict, path: str, value) -> dict:
    """Change one place, as 'annotations.1.area'; the value ... removes it."""
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    node = content
    for part in parents:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return content


def test_a_sound_file():
    contents = check_instances(objects(), "a.json", CLASSES)
    assert contents.categories == {3: "cat", 5: "dog"}
    assert contents.counts == {3: 1, 5: 1}
    assert contents.left_out == {} and contents.remarks == ()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("annotations.1.iscrowd", None, "annotations[1] (id 2), field 'iscrowd': "
         "expected 0 or 1, got null; mend the file."),
        ("annotations.1.iscrowd", "0", "'iscrowd': expected 0 or 1, got \"0\""),
        ("annotations.1.iscrowd", 2, "'iscrowd': expected 0 or 1, got 2"),
        ("annotations.1.area", ..., "annotations[1] (id 2), field 'area': expected a "
         "finite number of pixels, got no such field"),
        ("annotations.1.area", None, "got null"),
        ("annotations.1.area", float("nan"), "got NaN"),
        ("annotations.1.bbox", ..., f"field 'bbox': expected {BOX}, got no such field"),
        ("annotations.1.bbox", [1, 2, 3], f"expected {BOX}, got [1, 2, 3]"),
        ("annotations.1.bbox", [1, 2, 3, None], "got [1, 2, 3, null]"),
        ("annotations.1.bbox", [1, 2, 3, float("inf")], "got [1, 2, 3, Infinity]"),
        ("annotations.1.bbox", [8, 8, -3, 4], "got [8, 8, -3, 4]"),
        ("annotations.1.bbox", "1 2 3 4", 'got "1 2 3 4"'),
        ("annotations.1.id", 1, "annotations[1] (id 1), field 'id': expected an id "
         "that no other entry has, got 1"),
        ("annotations.1.id", ..., "annotations[1], field 'id': expected a number or a "
         "text, got no such field"),
        ("annotations.1.image_id", "2", "field 'image_id': expected the id of one of "
         "'images', a number, got \"2\""),
        ("annotations.1.image_id", ..., "field 'image_id': expected an id of 'images'"),
        ("annotations.1.category_id", 0, "field 'category_id': expected the id of one "
         "of 'categories', got 0"),
        ("annotations.1.category_id", "5", "'categories', a number, got \"5\""),
        ("annotations.1", 7, "annotations[1]: expected a dict, got 7"),
        ("annotations", {}, "field 'annotations': expected a list, got {}"),
        ("images", ..., "a.json: expected a dict with 'images', 'annotations' and "
         "'categories', got one of categories, annotations; mend"),
        ("images", [], "a.json: it lists no images"),
        ("images.1.id", 1, "images[1] (id 1), field 'id': expected an id that no"),
        ("images.1.width", ..., "images[1] (id 2), field 'width': expected a number of "
         "pixels, got no such field"),
        ("images.1.height", None, "field 'height': expected a number of pixels, got"),
        ("images.1.height", 0, "field 'height': expected a number of pixels, got 0"),
        ("images.1.file_name", ..., "field 'file_name': expected the name of a file"),
        ("categories", ..., "got one of images, annotations"),
        ("categories.1.id", 3, "categories[1] (id 3), field 'id': expected an id that"),
        ("categories.1.name", None, "field 'name': expected the name of a class"),
        ("categories.1.name", "bird", "expected the data set's classes among the "
         "categories, which lack dog; set metainfo=dict(classes=(...)) of the data set "
         "to what the file has (cat, bird), and num_classes"),
    ],
)  # fmt: skip
def test_a_fault_is_named(path, value, said):
    with pytest.raises(UserError) as caught:
        check_instances(put(objects(), path, value), "a.json", CLASSES)
    assert str(caught.value).startswith("a.json: ") and said in str(caught.value)


def test_two_categories_of_one_name():
    content = objects()
    content["categories"].insert(0, dict(id=0, name="dog", supercategory="none"))
    with pytest.raises(UserError) as caught:
        check_instances(content, "a.json", CLASSES)
    assert str(caught.value) == (
        "a.json: categories[2] (id 5), field 'name': expected a name that no other "
        'category has, got "dog"; give each class one category, or rename the one '
        "that is none."
    )
    # Of what is no class nobody asks.
    content["categories"][0]["name"] = "animals"
    content["categories"].append(dict(id=9, name="animals"))
    assert check_instances(content, "a.json", CLASSES).categories == {
        3: "cat",
        5: "dog",
    }


@pytest.mark.parametrize("content", [[], None, "text", 3])
def test_no_dict(content):
    with pytest.raises(UserError, match=r"^a.json: expected a dict with 'images'"):
        check_instances(content, "a.json", CLASSES)


def test_classes_that_are_no_tuple():
    with pytest.raises(UserError, match="expected a tuple, got 'cat'; write a comma"):
        check_instances(objects(), "a.json", "cat")
    with pytest.raises(UserError, match="'cat' occurs twice"):
        check_instances(objects(), "a.json", ("cat", "cat"))


def test_what_peers_have_and_mmdet_takes():
    """No annotations, texts for ids, category 0, masks that nobody reads, crowds."""
    bare = objects()
    del bare["annotations"]
    assert check_instances(bare, "a.json", CLASSES).counts == {3: 0, 5: 0}
    content = objects(iscrowd=True, segmentation="nobody reads it")
    for old, new in ((1, "one"), (2, "two")):
        content["images"][old - 1]["id"] = new
        content["annotations"][old - 1]["image_id"] = new
    content["categories"][0]["id"] = content["annotations"][0]["category_id"] = 0
    content["categories"].append(dict(id=7, name="bird"))
    contents = check_instances(content, "a.json", CLASSES)
    assert contents.counts == {0: 1, 5: 0}  # a crowd is not to be found
    assert contents.remarks == ()


def test_what_is_left_out_is_counted():
    content = objects()
    number = 3
    for changes in (
        dict(image_id=77),
        dict(ignore=True),
        dict(bbox=[1, 1, 0.5, 3]),
        dict(area=0),
        dict(bbox=[30, 1, 3, 3]),
    ):
        one = content["annotations"][0] | dict(id=number) | changes
        content["annotations"].append(one)
        number += 1
    contents = check_instances(content, "a.json", CLASSES)
    assert contents.counts == {3: 1, 5: 1}
    assert contents.left_out == {
        "of images that the file does not list": 1,
        "marked as ignored": 1,
        "narrower than a pixel or of area 0": 2,
        "outside of their image": 1,
    }
    assert contents.remarks == (
        "5 of 7 objects are left out: 1 of images that the file does not list, 1 "
        "marked as ignored, 2 narrower than a pixel or of area 0, 1 outside of their "
        "image.",
    )


def test_corners_instead_of_sizes():
    content = objects(bbox=[12, 5, 19, 9])
    (remark,) = check_instances(content, "a.json", CLASSES).remarks
    assert remark.startswith("1 of 2 boxes reach beyond their image; are they x, y, ")


def test_classes_in_another_order():
    contents = check_instances(objects(), "a.json", ("dog", "cat"))
    assert list(contents.categories.values()) == ["cat", "dog"]
    (remark,) = contents.remarks
    assert remark.startswith(
        "its classes are ordered cat, dog, the data set's dog, cat"
    )


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (..., "expected polygons, lists of x and y in turn (masks are read), got no"),
        ([], "(masks are read), got []"),
        ([[1, 2, 3, 4, 5]], "got [[1, 2, 3, 4, 5]]"),
        ([[1, 2, 3, 4, 5, None]], "got [[1, 2, 3, 4, 5, null]]"),
        ([1, 2, 3, 4, 5, 6], "got [1, 2, 3, 4, 5, 6]"),
        (dict(size=[20, 10], counts="1"), "expected run lengths with 'counts' and "
         "'size' [10, 20], the height and width of its image, got {\"size\": [20, 10]"),
        (dict(size=[10, 20]), 'got {"size": [10, 20]}'),
    ],
)  # fmt: skip
def test_a_mask_that_is_read(mask, said):
    content = objects()
    content["annotations"][0]["segmentation"] = [[0, 0, 5, 0, 5, 5], [1, 1, 2, 2]]
    content["annotations"][1]["segmentation"] = dict(size=[10, 20], counts=[5, 195])
    assert check_instances(content, "a.json", CLASSES, "read").left_out == {}
    put(content, "annotations.1.segmentation", mask)
    assert check_instances(content, "a.json", CLASSES).left_out == {}
    with pytest.raises(UserError) as caught:
        check_instances(content, "a.json", CLASSES, "read")
    assert "annotations[1] (id 2), field 'segmentation': " in str(caught.value)
    assert said in str(caught.value)


def panoptic():
    return dict(
        images=[dict(id=i, file_name=f"{i}.jpg", width=20, height=10) for i in (1, 2)],
        categories=[
            dict(id=3, name="cat", isthing=1),
            dict(id=5, name="sky", isthing=0),
        ],
        annotations=[
            dict(image_id=1, file_name="1.png", segments_info=[]),
            dict(
                image_id=2,
                file_name="2.png",
                segments_info=[
                    dict(id=7, category_id=3, bbox=[1, 1, 5, 5], area=25, iscrowd=0),
                    dict(id=8, category_id=3, bbox=[1, 1, 5, 5], area=25, iscrowd=1),
                ],
            ),
        ],
    )


def test_panoptic_segments():
    contents = check_panoptic(panoptic(), "p.json", ("cat", "sky"))
    assert contents.counts == {3: 1, 5: 0} and contents.remarks == ()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("iscrowd", None, "field 'iscrowd': expected 0 or 1, got null"),
        ("area", ..., "field 'area': expected a finite number of pixels, got no such"),
        ("bbox", ..., f"field 'bbox': expected {BOX}, got no such field"),
        ("bbox", [1, 2, 3, -1], "got [1, 2, 3, -1]"),
        ("category_id", 4, "field 'category_id': expected the id of a category that is "
         "one of the data set's classes, got 4"),
        ("id", 7, "field 'id': expected an id that no other entry has, got 7"),
    ],
)  # fmt: skip
def test_a_fault_of_a_segment_is_named(field, value, said):
    content = put(panoptic(), f"annotations.1.segments_info.1.{field}", value)
    with pytest.raises(UserError) as caught:
        check_panoptic(content, "p.json", ("cat", "sky"))
    line = str(caught.value)
    assert line.startswith("p.json: annotations[1].segments_info[1] (id ")
    assert said in line


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("annotations.0.segments_info", ..., "annotations[0], field 'segments_info'"),
        ("annotations.0.file_name", ..., "annotations[0], field 'file_name'"),
        ("annotations.0.image_id", "1", "annotations[0], field 'image_id': expected "
         "the id of one of 'images', a number"),
        ("categories.0.isthing", ..., "categories[0] (id 3), field 'isthing': expected "
         "0 or 1, got no such field"),
    ],
)  # fmt: skip
def test_a_fault_beside_the_segments(path, value, said):
    with pytest.raises(UserError) as caught:
        check_panoptic(put(panoptic(), path, value), "p.json", ("cat", "sky"))
    assert said in str(caught.value)


def faults_of(content, check=check_instances, classes=CLASSES, **settings):
    whole = partial(check, path="a.json", classes=classes, **settings)
    faults, cleaned, contents = collect_faults(content, whole)
    return [str(one).removeprefix("a.json: ") for one in faults], cleaned, contents


def test_all_faults_are_collected_and_what_is_sound_is_kept():
    content = objects()
    sound = content["annotations"][0]
    for changes in (
        dict(area=None),
        dict(area="1"),
        dict(bbox=[1, 2, 3]),
        dict(category_id=77),
        dict(image_id="1"),
        dict(iscrowd=5),
        dict(id=1),
    ):
        number = len(content["annotations"]) + 1
        content["annotations"].append(sound | dict(id=number) | changes)
    content["annotations"].append(3)
    content["images"].append(dict(id=9, file_name="9.jpg", width=0, height=1))
    before = repr(content)
    lines, cleaned, contents = faults_of(content)
    assert [line.partition(": ")[0] for line in lines] == [
        "images[2] (id 9), field 'width'",
        "annotations[9]",
        "annotations[8] (id 1), field 'id'",
        "annotations[5] (id 6), field 'category_id'",
        "annotations[5] (id 7), field 'image_id'",
        "annotations[4] (id 5), field 'bbox'",
        "annotations[4] (id 8), field 'iscrowd'",
        "annotations[2] (id 3), field 'area'",
    ]
    assert cleaned["annotations"] == content["annotations"][:2]
    assert contents.counts == {3: 1, 5: 1} and contents.images == 2
    assert repr(content) == before


def test_faults_that_leave_nothing_to_check():
    for path, value, said in (
        ("categories.1.id", 3, "categories[1] (id 3), field 'id': "),
        ("categories.1.name", "bird", "expected the data set's classes among the "),
        ("images", [], "it lists no images"),
    ):
        (line,), _, contents = faults_of(put(objects(), path, value))
        assert line.startswith(said) and contents is None


def test_faults_of_segments_and_masks():
    content = panoptic()
    content["annotations"][0]["segments_info"] = [
        dict(id=1, category_id=4, bbox=[1, 1, 5, 5], area=25),
        dict(id=1, category_id=3, bbox=[1, 1, 5, 5], area=25),
        dict(id=2, category_id=3, bbox=[1, 1, 5, 5], area=25),
    ]
    lines, cleaned, contents = faults_of(content, check_panoptic, ("cat", "sky"))
    assert [line.partition(" (")[0] for line in lines] == [
        "annotations[0].segments_info[1]",
        "annotations[0].segments_info[0]",
    ]
    assert [len(one["segments_info"]) for one in cleaned["annotations"]] == [1, 2]
    assert contents.counts == {3: 2, 5: 0}
    content = objects(segmentation=[[1, 2, 3]])
    content["annotations"][0]["segmentation"] = dict(size=[1, 1], counts="1")
    lines, _, contents = faults_of(content, masks="read")
    assert ["polygons" in lines[0], "run lengths" in lines[1]] == [True, True]
    assert contents.counts == {3: 0, 5: 0}


def test_what_is_odd_is_kept_for_whoever_shows_it():
    content = objects(bbox=[12, 5, 19, 9])
    content["annotations"][0]["area"] = 0
    odd = check_instances(content, "a.json", CLASSES).odd
    assert {reason: [one["id"] for one in found] for reason, found in odd.items()} == {
        "narrower than a pixel or of area 0": [1],
        "reach beyond their image": [2],
    }
