"""A run's weights as .safetensors, and back."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from mmrev.checkpoints import load_checkpoint_file, rewrite_run


@pytest.fixture
def run(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3)
    path = tmp_path / "epoch_2.pth"
    torch.save(
        {
            "meta": {
                "epoch": 2,
                "cfg": "model = dict()\n",
                "dataset_meta": {"classes": ("a", "\u00e9")},
                "batches_done": [0, 4],
                "array": np.arange(2),
            },
            "state_dict": {
                "w": weight,
                "tied": weight,
                "turned": weight.t(),
                "steps": torch.tensor(3),
                "half": weight.bfloat16(),
            },
            "optimizer": {"state": {}, "param_groups": []},
            "message_hub": {},
        },
        path,
    )
    return path


def test_there_and_back(run, tmp_path):
    original = load_checkpoint_file(run)
    there, back = tmp_path / "w.safetensors", tmp_path / "w.pth"
    assert rewrite_run(run, there) == (
        f"{there}: 5 tensors; of the run, epoch, cfg, dataset_meta, batches_done; "
        "left out: message_hub, optimizer, meta.array."
    )
    assert rewrite_run(there, back).endswith("left out: nothing.")
    for path in (there, back):
        content = load_checkpoint_file(path)
        assert content.keys() == {"state_dict", "meta"}
        for name, value in original["state_dict"].items():
            assert torch.equal(content["state_dict"][name], value)
            assert content["state_dict"][name].dtype == value.dtype
        assert content["meta"] == {
            "epoch": 2,
            "cfg": "model = dict()\n",
            "dataset_meta": {"classes": ["a", "\u00e9"]},
            "batches_done": [0, 4],
        }
        assert path.stat().st_mode & 0o777 == run.stat().st_mode & 0o777


def test_averaged_weights_are_said_to_be(run, tmp_path):
    content = torch.load(run, weights_only=False)
    torch.save({**content, "ema_state_dict": {}}, run)
    said = rewrite_run(run, tmp_path / "w.safetensors")
    assert "they are the averaged ones" in said and "left out: ema_state_dict" in said


def damaged(path: Path):
    Path(f"{path}.sha256").write_text("0" * 64)


def weights_of_others(path: Path):
    torch.save({"model": {"w": torch.ones(1)}}, path)


def not_tensors(path: Path):
    torch.save({"state_dict": {"w": 3}}, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged, r"epoch_2\.pth is damaged: its SHA-256 is not"),
        (
            weights_of_others,
            r"with state_dict, got model\. For weights of others, ",
        ),
        (not_tensors, "expected tensors by name, .* got other values for w"),
        (lambda path: path.unlink(), r"epoch_2\.pth does not exist"),
        (lambda path: path.write_bytes(b"PK"), r"epoch_2\.pth cannot be read"),
    ],
)
def test_what_cannot_be_rewritten(run, tmp_path, change, message):
    change(run)
    target = tmp_path / "w.safetensors"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        rewrite_run(run, target)
    assert not target.exists()


def test_nothing_is_overwritten(run):
    with pytest.raises(FileExistsError, match="exists already"):
        rewrite_run(run, run)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("{", r"w\.safetensors cannot be read .*Expecting property name"),
        ("[" * 100_000, r"w\.safetensors cannot be read .*recursion"),
        (json.dumps([1]), "mmrev.meta to be an object of JSON, got a list"),
    ],
    ids=["broken", "deep", "list"],
)
def test_what_it_says_of_itself_may_be_anything(tmp_path, meta, message):
    path = tmp_path / "w.safetensors"
    strings = {"mmrev.meta": meta}
    safetensors.torch.save_file({"w": torch.ones(1)}, path, strings)
    with pytest.raises(ValueError, match=message):
        load_checkpoint_file(path)
