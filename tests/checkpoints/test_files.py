import argparse
import pickle
import zipfile
from collections import OrderedDict
from datetime import timedelta
from http.client import RemoteDisconnected
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader

from mmrev.checkpoints import files, load_checkpoint_file, save_state_dict
from mmrev.checkpoints.runs import use_safe_loading
from mmrev.errors import UserError


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


class Getter:
    """Pickles as a look-up of something that getattr must not give away."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, "__init__")


def test_mmengine_checkpoint(tmp_path):
    hub = MessageHub.get_instance("test_mmengine_checkpoint")
    for step in range(3):
        hub.update_scalar("train/loss", 1.0 / (1 + step))
    hub.update_info("best", np.float64(0.5))
    hub.update_info("box", np.arange(3, dtype=np.int16))
    path = tmp_path / "epoch_1.pth"
    torch.save(
        {
            "meta": {"epoch": 1, "seed": 7, "dataset_meta": {"classes": ("a", "b")}},
            "state_dict": OrderedDict(weight=torch.ones(2)),
            "optimizer": torch.optim.AdamW(
                [torch.nn.Parameter(torch.ones(1))]
            ).state_dict(),
            "message_hub": hub.state_dict(),
        },
        path,
    )
    content = load_checkpoint_file(path)
    history = content["message_hub"]["log_scalars"]["train/loss"]
    assert history.statistics("mean") == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert content["message_hub"]["runtime_info"]["best"] == 0.5
    assert content["meta"]["dataset_meta"]["classes"] == ("a", "b")


@pytest.mark.parametrize(
    ("surprise", "wanted"),
    [
        (timedelta(1), "datetime.timedelta"),
        (input, "input"),
        (Bomb(), "exec"),
        (Getter(), "builtins.getattr"),
    ],
    ids=["class", "builtin", "code", "getattr"],
)
def test_pickled_surprise_is_refused(tmp_path, surprise, wanted):
    path = tmp_path / "surprise.pth"
    torch.save({"model": {"w": torch.ones(1)}, "config": surprise}, path)
    with pytest.raises(ValueError, match=rf"wants to build {wanted}.*keep only the w"):
        load_checkpoint_file(path)


def test_nobody_is_advised_to_load_it_all_the_same(tmp_path):
    """As torch does, of a pickle of an operand that it does not take."""
    path = tmp_path / "a.pth"
    path.write_bytes(pickle.dumps(Bomb(), protocol=4))
    with pytest.raises(ValueError, match="cannot be read") as error:
        load_checkpoint_file(path)
    assert "weights_only" not in str(error.value)


def test_arguments_of_a_trainer_are_read(tmp_path):
    path = tmp_path / "trained.pth"
    args = argparse.Namespace(lr=1, decays=[0.9], inner=argparse.Namespace(a="b"))
    torch.save({"model": {"w": torch.ones(1)}, "args": args}, path)
    content = load_checkpoint_file(path)
    assert content["args"] == args
    torch.save({"args": argparse.Namespace(hidden=Bomb())}, path)
    with pytest.raises(ValueError, match="wants to build exec"):
        load_checkpoint_file(path)


def test_safe_globals_do_not_outlive_the_call(tmp_path):
    path = tmp_path / "history.pth"
    torch.save({"history": HistoryBuffer([1.0], [1])}, path)
    load_checkpoint_file(path)
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_file(tmp_path, content, suffix):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read") as error:
        load_checkpoint_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_truncated_file(tmp_path):
    path = tmp_path / "cut.pth"
    torch.save({"w": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cannot be read"):
        load_checkpoint_file(path)


def test_an_archive_that_unpacks_to_more_than_it_has(tmp_path):
    """torch packs nothing; packed zeros would fill the memory."""
    torch.save({"a": torch.zeros(200_000)}, tmp_path / "sound.pth")
    path = tmp_path / "a.pth"
    with (
        zipfile.ZipFile(tmp_path / "sound.pth") as sound,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in sound.namelist():
            packed.writestr(name, sound.read(name))
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="it says to unpack to 80") as error:
        load_checkpoint_file(path)
    assert str(path) in str(error.value)


def test_missing_and_wrong_content(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth does not exist"):
        load_checkpoint_file(tmp_path / "gone.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="expected a dict with tensors, got a list"):
        load_checkpoint_file(tmp_path / "list.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_save_and_load(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    weights = {"a": torch.arange(6.0).reshape(2, 3).t(), "b": torch.ones(1)}
    save_state_dict(weights, path)
    content = load_checkpoint_file(path)
    content = content.get("state_dict", content)
    assert all(torch.equal(content[key], weights[key]) for key in weights)


def test_url_is_cached_and_read_safely(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    fetched = []

    def download(url, path):
        fetched.append(url)
        torch.save({"model": {"w": torch.ones(1)}}, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        content = load_checkpoint_file("https://example.org/v1/revcol_tiny_1k.pth")
        assert torch.equal(content["model"]["w"], torch.ones(1))
    assert len(fetched) == 1


@pytest.mark.parametrize(
    ("weights", "url"),
    [
        ("https://example.org/v1/w.pth", "https://example.org/v1/w.pth"),
        ("torchvision://resnet50", "https://download.pytorch.org/models/resnet50-"),
        ("open-mmlab://detectron/resnet50_gn", "https://"),
        ("mmcls://resnet18", "https://"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        URLError("Name or service not known"),
        HTTPError("https://example.org", 404, "Not Found", {}, None),
        RemoteDisconnected("Remote end closed connection without response"),
        TimeoutError("timed out"),
    ],
)
def test_weights_that_cannot_be_downloaded(tmp_path, monkeypatch, weights, url, error):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    use_safe_loading()

    def download(url, path):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(UserError) as caught:
        CheckpointLoader.load_checkpoint(weights, "cpu", logger=None)
    line = str(caught.value)
    assert line.startswith(f"Checkpoint {url}")
    name = line.split()[1].rpartition("/")[2]
    assert line.endswith(
        f" cannot be downloaded ({error}). Get it elsewhere and put it at "
        f"{tmp_path / 'checkpoints' / name}, or give the path of a file in place of "
        "the URL."
    )
    assert not list(tmp_path.rglob("*.pth*"))


def test_named_weights_are_read_safely(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    use_safe_loading()

    def download(url, path):
        torch.save({"state_dict": {}, "extra": Bomb()}, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(UserError, match="it wants to build exec, which"):
        CheckpointLoader.load_checkpoint("torchvision://resnet50", "cpu", logger=None)


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    save_state_dict({"w": torch.ones(1)}, path)

    def fail(content, part):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        save_state_dict({"w": torch.zeros(1)}, path)
    monkeypatch.undo()
    assert load_checkpoint_file(path)["state_dict"]["w"].item() == 1
    assert list(tmp_path.iterdir()) == [path]


def test_numpy_of_other_generations(tmp_path):
    path = tmp_path / "numpy1.pth"
    torch.save({"array": np.arange(3.0)}, path)
    assert load_checkpoint_file(path)["array"].tolist() == [0, 1, 2]
    names = {entry[1] for entry in files.SAFE_GLOBALS if isinstance(entry, tuple)}
    assert "numpy.core.multiarray._reconstruct" in names
    assert "numpy._core.multiarray.scalar" in names
