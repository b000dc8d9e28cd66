"""Whatever a file of others holds, its reader gives a sound result or its own error."""

import csv
import io
import json
import pickle
import random
import zipfile
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import data_layouts
import numpy as np
import pytest
import tiny_configs
import torch
from fuzzing import changed, damaged, examples, fuzz, writing
from hypothesis import strategies as st
from make_records import HASH, measured
from mmdet.datasets import CocoDataset, CocoPanopticDataset
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask
from resolved import CONFIGS
from safetensors.torch import save as save_safetensors
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from mmrev.checkpoints.files import load_checkpoint_file
from mmrev.checkpoints.folders import _Reader
from mmrev.checkpoints.runs import read_resumable
from mmrev.datasets.annotations import check_instances, check_panoptic
from mmrev.datasets.checked import use_checked_data
from mmrev.datasets.label_maps import CheckLabelMap
from mmrev.errors import UserError
from mmrev.evaluation.panoptic import read_truth
from mmrev.evaluation.predictions import DumpPredictions, read_predictions
from mmrev.evaluation.run_lengths import refuse_malformed
from mmrev.leaderboard.fingerprint import portable
from mmrev.leaderboard.lineage import LINEAGE_KEY, told_training, training_info
from mmrev.leaderboard.recompute import build_dataset
from mmrev.leaderboard.record import MeasuredRecord
from mmrev.leaderboard.signing import check_signature
from mmrev.leaderboard.site.pages import _csv
from mmrev.leaderboard.store import read_record
from mmrev.leaderboard.table import differences, facts, markdown, terminal
from mmrev.leaderboard.verify import verify
from mmrev.operating_points.costs import StitchCost, load_costs, save_costs
from mmrev.runs.safe_config import read_safely

RELEASED = {
    **{"name": "a.pth", "kind": "weights"},
    "checkpoint": {"name": "a.pth", "sha256": HASH},
}
FIRST = {
    **{"name": "objects365", "kind": "DINO", "epochs": 12, "starts": [RELEASED]},
    "checkpoint": {"name": "epoch_12.pth", "sha256": HASH[::-1]},
}
TRAINING = {"lineage": [FIRST], "track": "tuned"}


@pytest.fixture
def file(tmp_path):
    """Write a file for a reader."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        with writing():
            path.write_bytes(content)
        return path

    return write


def look_at(record) -> None:
    """All that is shown of a record."""
    sheet = facts(record)
    assert all(text.isprintable() for pair in sheet.items() for text in pair)
    markdown([record])
    terminal([record], width=80)
    differences(record, measured())
    for row in csv.reader(io.StringIO(_csv([sheet]))):
        for cell in row:
            assert not cell.startswith(tuple("=+-@")) or cell == "-" or float(cell)


@examples
def test_records_of_any_bytes(examples, file):
    def check(content):
        path = file("a.json", content)
        try:
            record = read_record(path)
        except ValueError as error:
            assert len(str(error)) < 2000
            return
        look_at(record)
        assert {one.state for one in verify(record, path)} <= {
            *("sound", "altered", "not checked")
        }

    fuzz(check, damaged([measured(training=TRAINING).to_bytes()]), examples)


@examples
def test_records_of_any_values(examples, file, tmp_path, monkeypatch):
    """With an id that fits; checked against data that is there."""
    data_layouts.make_coco(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = portable(
        Config.fromfile(tiny_configs.write_detection(Path("a.py"))).to_dict()
    )
    part = {key: config[key] for key in ("test_dataloader", "test_evaluator")}
    part["default_scope"] = "mmdet"
    dataset = {"root": "data/coco/", "split": "annotations/instances_val2017.json"}
    seed = json.loads(
        measured(
            config={"name": "a", "resolved": part}, dataset=dataset, training=TRAINING
        ).to_bytes()
    )
    del seed["id"]

    def check(content):
        try:
            record = MeasuredRecord.model_validate_json(json.dumps(content))
        except ValueError:
            return
        path = file("a.json", record.to_bytes())
        record = read_record(path)
        look_at(record)
        found = verify(record, path, data_roots=["data/coco"])
        assert {one.state for one in found} <= {"sound", "altered", "not checked"}
        with suppress(ValueError, OSError):
            build_dataset(record, "data/coco")

    fuzz(check, changed([seed]), examples)


def stored(tmp_path: Path) -> dict[str, bytes]:
    """Predictions of each kind, as a file has them."""
    rng = np.random.default_rng(0)
    kinds = {"boxes": [], "masks": [], "maps": [], "panoptic": [], "scores": []}
    for number in range(3):
        sample = {"img_path": f"a/{number}.jpg", "img_id": number, "ori_shape": (6, 8)}
        boxes = {
            "bboxes": torch.rand(4, 4),
            "scores": torch.rand(4),
            "labels": torch.arange(4),
        }
        masks = torch.from_numpy(rng.random((4, 6, 8)) > 0.5)
        labels = torch.from_numpy(rng.integers(0, 300, (1, 6, 8)))
        kinds["boxes"].append(sample | {"pred_instances": boxes})
        kinds["masks"].append(sample | {"pred_instances": {**boxes, "masks": masks}})
        kinds["maps"].append(sample | {"pred_sem_seg": {"data": labels}})
        kinds["panoptic"].append(sample | {"pred_panoptic_seg": {"sem_seg": labels}})
        kinds["scores"].append(sample | {"pred_score": torch.rand(5)})
    files = {}
    for kind, samples in kinds.items():
        path = tmp_path / f"{kind}.npz"
        dump = DumpPredictions(str(path))
        dump.process(None, samples)
        dump.evaluate(3)
        files[kind] = path.read_bytes()
    return files


def read_all(path: Path) -> None:
    try:
        samples = list(read_predictions(path))
    except ValueError as error:
        assert str(error).startswith(f"predictions {path}: ")
        return
    for _, sample in samples:
        for code in sample.get("pred_instances", {}).get("masks", []):
            assert coco_mask.decode(code).shape == tuple(code["size"])


@examples
def test_predictions_of_any_bytes(examples, file, tmp_path):
    seeds = list(stored(tmp_path).values())
    fuzz(lambda content: read_all(file("a.npz", content)), damaged(seeds), examples)


DTYPES = ["u1", "i4", "i8", "f4", "f8", "U3", "S2", "?", "c8", "O", "M8[s]", "i4,f4"]


@st.composite
def archives(draw, seeds: list[bytes]) -> bytes:
    """Archives whose arrays have other types, shapes, values, headers and sizes."""
    with zipfile.ZipFile(io.BytesIO(draw(st.sampled_from(seeds)))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(members)))
        kind = draw(st.sampled_from(["array", "values", "header", "drop", "swap"]))
        if kind == "drop" and len(members) > 1:
            del members[name]
        elif kind == "swap":
            members[name] = draw(st.sampled_from(sorted(members.values())))
        elif kind == "header":
            members[name] = draw(damaged([members[name]]))
        elif kind == "array":
            shape = draw(st.lists(st.integers(0, 5), max_size=3))
            array = np.zeros(shape, draw(st.sampled_from(DTYPES)))
            members[name] = _npy(array)
        else:
            try:
                array = np.load(io.BytesIO(members[name]))
            except Exception:  # it is damaged already
                continue
            if array.size and array.dtype.kind in "iuf":
                flat = array.reshape(-1)
                number = draw(st.integers(-(2**31), 2**31 - 1) | st.integers(-9, 99))
                place = draw(st.integers(0, len(flat) - 1))
                with np.errstate(all="ignore"):
                    flat[place] = np.array(number).astype(array.dtype)
                members[name] = _npy(array)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", draw(st.sampled_from([0, 8]))) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


@examples
def test_predictions_of_any_arrays(examples, file, tmp_path):
    seeds = list(stored(tmp_path).values())
    fuzz(lambda content: read_all(file("a.npz", content)), archives(seeds), examples)


@examples
def test_run_length_codes(examples):
    """What is accepted is what pycocotools' C code takes without harm."""
    sound = coco_mask.encode(np.asfortranarray(np.eye(7, 9, dtype=np.uint8)))["counts"]
    codes = st.lists(
        damaged([sound]) | st.binary(max_size=30) | st.just(sound), max_size=4
    )

    def check(found):
        try:
            refuse_malformed(found, np.full(len(found), 63))
        except ValueError:
            return
        for code in found:
            mask = coco_mask.decode({"size": [7, 9], "counts": code})
            assert mask.shape == (7, 9) and set(np.unique(mask)) <= {0, 1}

    fuzz(check, codes, examples)


def build(kind: type, path: Path, **settings) -> None:
    try:
        dataset = kind(ann_file=str(path), pipeline=[], **settings)
    except UserError as error:
        assert len(str(error)) < 3000
        return
    for number in range(len(dataset)):
        dataset.get_data_info(number)


KINDS = {
    "instances": (CocoDataset, check_instances, dict(data_prefix=dict(img="a/"))),
    "panoptic": (
        CocoPanopticDataset,
        check_panoptic,
        dict(data_prefix=dict(img="a/", seg="b/")),
    ),
}


def annotations(kind: str, tmp_path: Path) -> dict:
    data_layouts.make_coco(tmp_path)
    if kind == "panoptic":
        data_layouts.make_coco_panoptic(tmp_path)
    path = tmp_path / f"data/coco/annotations/{kind}_val2017.json"
    return json.loads(path.read_text())


@examples
@pytest.mark.parametrize("kind", KINDS)
def test_annotations_of_any_bytes(examples, kind, file, tmp_path):
    use_checked_data()
    seed = annotations(kind, tmp_path)
    seed["categories"] = seed["categories"][:3]
    cls, _, settings = KINDS[kind]
    settings["metainfo"] = dict(classes=[c["name"] for c in seed["categories"]])
    seeds = [json.dumps(seed).encode()]
    fuzz(lambda c: build(cls, file("a.json", c), **settings), damaged(seeds), examples)


@examples
@pytest.mark.parametrize("kind", KINDS)
def test_annotations_of_any_values(examples, kind, file, tmp_path):
    use_checked_data()
    seed = annotations(kind, tmp_path)
    seed["categories"] = seed["categories"][:3]
    classes = [one["name"] for one in seed["categories"]]
    cls, look, settings = KINDS[kind]
    settings["metainfo"] = dict(classes=classes)

    def check(content):
        try:
            look(content, "a.json", classes)
        except UserError as error:
            assert str(error).startswith("a.json: ")
        build(cls, file("a.json", json.dumps(content).encode()), **settings)

    fuzz(check, changed([seed]), examples)


@examples
def test_annotations_of_the_panoptic_metric(examples, file, tmp_path):
    seed = annotations("panoptic", tmp_path)
    seed["categories"] = seed["categories"][:3]
    maps = tmp_path / "data/coco/annotations/panoptic_val2017"

    def check(content):
        path = file("a.json", json.dumps(content).encode())
        with suppress(ValueError):
            assert isinstance(read_truth(path, maps), dict)

    fuzz(check, changed([seed]), examples)


@examples
def test_label_maps(examples, file):
    """The content is that of the header; what a decoder makes of the rest is its."""
    seeds = []
    for mode, kind in (("L", "png"), ("I;16", "png"), ("P", "png"), ("RGB", "bmp")):
        out = io.BytesIO()
        Image.new(mode, (5, 4)).save(out, kind)
        seeds.append(out.getvalue())
    check_map = CheckLabelMap(3, {255})

    def check(content):
        path = file("a.png", content)
        labels = np.zeros((4, 5), np.uint8)
        results = {"seg_map_path": str(path), "gt_seg_map": labels}
        try:
            check_map(results)
        except UserError as error:
            assert str(path) in str(error)

    fuzz(check, damaged(seeds), examples)


def checkpoints() -> list[bytes]:
    content = {
        "state_dict": {"a.weight": torch.rand(3, 2), "b": torch.arange(4)},
        "meta": {"epoch": 1, "args": Namespace(lr=0.1), "rng": np.float64(0.5)},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}},
    }
    files = []
    for zipped in (True, False):
        out = io.BytesIO()
        torch.save(content, out, _use_new_zipfile_serialization=zipped)
        files.append(out.getvalue())
    return [*files, pickle.dumps({"a": [1.0]})]


def load(path: Path) -> None:
    try:
        assert isinstance(load_checkpoint_file(path), dict)
    except ValueError as error:
        assert str(error).startswith(f"Checkpoint {path}")
    try:
        read_resumable(path)
    except UserError as error:
        assert str(error).startswith("Checkpoint ")


@examples
def test_checkpoints_of_any_bytes(examples, file):
    fuzz(lambda c: load(file("a.pth", c)), damaged(checkpoints()), examples)


@st.composite
def repickled(draw, seed: bytes) -> bytes:
    """Checkpoints whose archive is sound, with another pickle in it."""
    with zipfile.ZipFile(io.BytesIO(seed)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from([n for n in members if "/data" in n]))
    members[name] = draw(damaged([members[name]]))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


@examples
def test_checkpoints_of_any_pickle(examples, file):
    fuzz(lambda c: load(file("a.pth", c)), repickled(checkpoints()[0]), examples)


@examples
def test_safetensors(examples, file):
    tensors = {"a": torch.rand(3, 2), "b": torch.arange(4)}
    seeds = [save_safetensors(tensors), save_safetensors({}, {"a": "b"})]
    fuzz(lambda c: load(file("a.safetensors", c)), damaged(seeds), examples)


def config_texts() -> list[bytes]:
    texts = [path.read_bytes() for path in sorted(CONFIGS.glob("*/*/*.py"))]
    # Those of a toolbox are mmengine's to read.
    texts = [text for text in texts if b"::" not in text]
    return [
        *random.Random(0).sample(texts, 12),
        b"a = [1, (2, 3), -4.5e3, 'b' * 3]\nc = dict(a=a[1:], **dict(d=None))\n",
        b"x = {'type': 'SGD', 'y': [*[1, 2], True]}\n_base_ = []\nz = x['y'][-1] + 2\n",
    ]


def read_config(path: Path) -> None:
    """What is accepted is safe to run, and mmengine makes the same of it."""
    try:
        found = read_safely(path)
    except UserError as error:
        assert len(str(error)) < 1000 and "\n" not in str(error)
        return
    if path.suffix == ".py":
        with writing():  # mmengine runs a copy
            expected = Config.fromfile(path)
        assert repr(found.to_dict()) == repr(expected.to_dict())


@examples
def test_configs_of_any_text(examples, file):
    fuzz(lambda c: read_config(file("a.py", c)), damaged(config_texts()), examples)


EXPRESSIONS = st.recursive(
    st.sampled_from(
        ["1", "-2", "0.5", "'a'", "None", "True", "[]", "()", "x", "y", "z"]
    )
    | st.integers(-(2**70), 2**70).map(str)
    | st.sampled_from(["_base_", "dict", "__import__", "os", "...", "b'a'", "1j"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(inner, max_size=4).map(lambda p: f"({''.join(f'{i}, ' for i in p)})"),
        st.tuples(inner, inner).map(lambda pair: f"dict(a={pair[0]}, type={pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"{{{pair[0]}: {pair[1]}}}"),
        st.tuples(inner, st.sampled_from("+-*/%@<&|"), inner).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        ),
        st.tuples(
            inner, st.sampled_from(["//", "**", "<<", "==", "and", "is"]), inner
        ).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
        st.tuples(inner, inner).map(lambda pair: f"{pair[0]}[{pair[1]}]"),
        st.tuples(inner, inner).map(lambda pair: f"{pair[0]}[{pair[1]}:]"),
        inner.map(lambda one: f"[*{one}]"),
        inner.map(lambda one: f"dict(**{one})"),
        inner.map(lambda one: f"dict({one}, b=1)"),
        inner.map(lambda one: f"{one}.__class__"),
        inner.map(lambda one: f"{one}.a"),
        inner.map(lambda one: f"{one}()"),
        inner.map(lambda one: f"(lambda: {one})()"),
        inner.map(lambda one: f"[i for i in {one}]"),
        inner.map(lambda one: f"f'{{{one}}}'"),
        inner.map(lambda one: f"(w := {one})"),
    ),
    max_leaves=8,
)


@examples
def test_configs_of_any_expression(examples, file):
    lines = st.lists(EXPRESSIONS, min_size=1, max_size=4)

    def check(found):
        text = "".join(
            f"{name} = {one}\n" for name, one in zip("xyzw", found, strict=False)
        )
        read_config(file("a.py", text.encode()))

    fuzz(check, lines, examples)


@examples
def test_configs_of_json_and_yaml(examples, file):
    seeds = [
        b'{"_base_": [], "a": {"type": "SGD", "b": [1, 2.5, null]}, "c": "d"}',
        b"a: &x {type: SGD, b: [1, 2.5]}\nc: *x\nd: 2020\ne: !!python/name:os.system\n",
    ]

    def check(content):
        for name in ("a.json", "a.yaml"):
            read_config(file(name, content))

    fuzz(check, damaged(seeds), examples)


@examples
def test_checkpoints_of_several_files(examples, file, tmp_path):
    """Whose list of tensors is a pickle."""
    shape = torch.Size([3])
    chunks = [ChunkStorageMetadata(torch.Size([0]), shape)]
    tensor = TensorStorageMetadata(TensorProperties(), shape, chunks)
    places = {MetadataIndex("a"): _StorageInfo("0.distcp", 0, 12)}
    seed = pickle.dumps(Metadata({"a": tensor}, None, places))

    def check(content):
        file(".metadata", content)
        try:
            _Reader(tmp_path).read_metadata()
        except ValueError as error:
            assert "is damaged" in str(error)

    check(seed)
    fuzz(check, damaged([seed]), examples)


@examples
def test_tables_of_stitches(examples, file, tmp_path):
    cost = StitchCost(id=0, route="0", params=1, params_as_reference=1, flops=1)
    save_costs([cost], tmp_path / "costs.json")

    def check(content):
        path = file("a.json", content)
        try:
            load_costs(path)
        except ValueError as error:
            assert str(path) in str(error)

    fuzz(check, damaged([(tmp_path / "costs.json").read_bytes()]), examples)


@examples
def test_lineages_in_checkpoints(examples, tmp_path):
    told = {"name": "coco", "kind": "DINO", "seed": 1, "starts": [FIRST]}

    def check(content):
        try:
            training = told_training({LINEAGE_KEY: content}, "a.pth")
        except ValueError as error:
            assert "a.pth: expected a lineage" in str(error) and len(str(error)) < 1000
            return
        if training is not None:
            look_at(measured(training={"lineage": training.starts}))

    fuzz(check, changed([told]), examples)


@examples
def test_logs_of_a_training(examples, file, tmp_path):
    folder = tmp_path / "20260101_000000" / "vis_data"
    folder.mkdir(parents=True)
    line = json.dumps({"step": 3, "lr": 0.1, "loss": 1.5, "grad_norm": 2}) + "\n"

    def check(content):
        with writing():
            (folder / "scalars.json").write_bytes(content)
        training_info({}, None, {"iter": 10, "epoch": 1}, tmp_path / "a.pth")

    fuzz(check, damaged([line.encode() * 3]), examples)


@examples
def test_signatures(examples, file, tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    record = file("a.json", b"{}")
    seed = key.sign(b"{}").hex().encode()

    def check(content):
        file("a.sig", content)
        try:
            check_signature(record, key.public_key())
        except ValueError:
            return
        assert bytes.fromhex(content.decode()) == bytes.fromhex(seed.decode())

    fuzz(check, damaged([seed]), examples)
