"""Checkpoints of many processes: whole, checked, and read by another number of them."""

import errno
import os
import pickle
import shutil

import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from mmrev.checkpoints import folders
from mmrev.checkpoints.folders import (
    load_parts,
    read_folder,
    read_rest,
    write_folder,
)
from mmrev.checkpoints.rewrite import rewrite_run
from mmrev.checkpoints.runs import find_resumable, read_checkpoint, read_resumable
from mmrev.errors import UserError

# Of an axis shorter than the processes are many, and of one that they cannot share.
WHOLE = {
    "layer.weight": torch.arange(35.0).view(7, 5),
    "short": torch.randn(1, 3, generator=torch.Generator().manual_seed(0)),
    "half": torch.arange(5).bfloat16(),
    "a.scalar": torch.tensor([2.5]),
}


def spread():
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    return {
        name: distribute_tensor(value, mesh, [Shard(0)])
        for name, value in WHOLE.items()
    }


def written(rank, folder, iteration=3):
    write_folder(
        folder,
        {
            "meta": {"iter": iteration, "epoch": 1},
            "state_dict": {**spread(), "mean": torch.tensor([rank + 1.0])},
            "optimizer": {
                "state": {0: {"step": torch.tensor(3.0), "moment": spread()["half"]}},
                "param_groups": [{"lr": 0.1, "params": [0]}],
            },
            "message_hub": {"loss": HistoryBuffer([1.0], [1])},
        },
        [("state_dict", "a.scalar")],
    )


@pytest.fixture(scope="module")
def folder(process_pair, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "iter_3.dcp"
    process_pair.run(written, path)
    return path


@pytest.fixture
def another(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / folder.name)


def test_is_read_as_one_file_would_be(folder):
    checkpoint = read_checkpoint(folder)
    assert list(checkpoint) == ["meta", "state_dict", "optimizer", "message_hub"]
    state = checkpoint["state_dict"]
    assert list(state) == [*WHOLE, "mean"]
    for name, value in WHOLE.items():
        expected = value[0] if name == "a.scalar" else value
        assert torch.equal(state[name], expected) and state[name].dtype == value.dtype
    assert torch.equal(state["mean"], torch.tensor([1.0]))  # of the first process
    moment = checkpoint["optimizer"]["state"][0]["moment"]
    assert torch.equal(moment, WHOLE["half"])
    assert checkpoint["message_hub"]["loss"].current() == 1.0
    assert not list(folder.parent.glob(".*"))


def loaded(rank, folder):
    parts = {}
    for name, key in ((name, f"state_dict/{name}") for name in WHOLE):
        parts[key] = spread()[name] * 0
    load_parts(folder, parts)
    return {key: part.full_tensor() for key, part in parts.items()}


@pytest.mark.parametrize(
    "group",
    [
        "process_pair",
        pytest.param("process_trio", marks=[pytest.mark.slow, pytest.mark.ci]),
    ],
)
def test_is_read_in_parts(group, folder, request):
    for found in request.getfixturevalue(group).run(loaded, folder):
        for name, value in WHOLE.items():
            assert torch.equal(found[f"state_dict/{name}"], value)


def test_one_file_of_it(folder, tmp_path):
    rewrite_run(folder, tmp_path / "one.pth")
    whole = read_folder(folder)
    one = read_checkpoint(tmp_path / "one.pth")
    assert one.keys() == whole.keys() and one["meta"] == whole["meta"]
    assert all(
        torch.equal(one["state_dict"][k], v) for k, v in whole["state_dict"].items()
    )
    rewrite_run(folder, tmp_path / "one.safetensors")
    weights = read_checkpoint(tmp_path / "one.safetensors")["state_dict"]
    assert weights.keys() == {*WHOLE, "mean"}
    with pytest.raises(FileExistsError, match=r"one.pth exists already"):
        rewrite_run(folder, tmp_path / "one.pth")


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def change(path):
    path.write_bytes(path.read_bytes()[:-1] + b"#")


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("__1_0.distcp", os.unlink, "incomplete .*__1_0.distcp"),
        ("__1_0.distcp", cut, "damaged: of __1_0.distcp the SHA-256"),
        ("rest.pth", change, "damaged: of rest.pth"),
        (".metadata", change, "damaged: of .metadata"),
        ("SHA256SUMS", os.unlink, "incomplete"),
        ("SHA256SUMS", cut, "incomplete"),
    ],
)
def test_an_incomplete_or_damaged_one_is_passed_over(another, name, harm, message):
    older = shutil.copytree(another, another.with_name("iter_2.dcp"))
    os.utime(older, (1, 1))
    harm(another / name)
    with pytest.raises(UserError, match=message):
        read_resumable(another)
    path, meta, skipped = find_resumable(another.parent)
    assert path == older and meta["iter"] == 3 and "iter_3.dcp" in skipped[0]


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"none.dcp does not exist. Give the path of"):
        read_checkpoint(tmp_path / "none.dcp")


class Bomb:
    def __reduce__(self):
        return os.system, ("true",)


def restated(folder, content):
    """With checksums that agree."""
    (folder / ".metadata").write_bytes(content)
    files = [file for file in folder.iterdir() if file.name != "SHA256SUMS"]
    lines = [f"{folders.file_sha256(file)}  {file.name}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_nothing_in_it_is_executed(another):
    restated(another, pickle.dumps(Bomb()))
    with pytest.raises(
        UserError, match=r"iter_3.dcp is damaged \(it wants to build posix.system"
    ):
        read_checkpoint(another)


def test_it_reads_no_other_place(another):
    content = (another / ".metadata").read_bytes()
    restated(another, content.replace(b"__1_0.distcp", b"../_0.distcp"))
    with pytest.raises(UserError, match="it names files elsewhere"):
        read_checkpoint(another)


def written_on_a_full_disk(rank, folder, where):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with pytest.MonkeyPatch.context() as patch:
        if rank == where:
            # What the first process writes by itself, or the second its part by.
            owner = folders.torch if where == 0 else FileSystemWriter
            patch.setattr(owner, "save" if where == 0 else "write_data", full)
        with pytest.raises(OSError, match="No space left"):
            written(rank, folder, iteration=4)


@pytest.mark.parametrize("where", [0, 1])
def test_a_full_disk_costs_the_new_one_only(process_pair, another, where):
    process_pair.run(written_on_a_full_disk, another, where)
    assert read_resumable(another)["iter"] == 3
    assert not list(another.parent.glob(".*"))
    process_pair.run(written, another, 5)
    assert read_rest(another)["meta"]["iter"] == 5
