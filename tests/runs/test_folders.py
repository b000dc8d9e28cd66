"""Folders that a run writes to, tried before it starts."""

from argparse import Namespace

import pytest
from mmengine.config import Config

from mmrev.checkpoints.runs import find_resumable
from mmrev.errors import UserError
from mmrev.runs.folders import checkpoint_folder, require_writable_folders


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("default_hooks.checkpoint.out_dir", {"out_dir": "{}"}),
        ("default_hooks.logger.out_dir", {"out_dir": "{}"}),
        ("custom_hooks[0].out_dir", {"out_dir": "{}"}),
        ("visualizer.save_dir", {"save_dir": "{}"}),
        ("visualizer.vis_backends[0].save_dir", {"save_dir": "{}"}),
        ("--out", None),
        ("--show-dir", None),
        ("--work-dir", None),
    ],
)
def test_what_cannot_be_made_is_named_at_start(tmp_path, key, place):
    file = tmp_path / "file"
    file.touch()
    blocked = str(file / "below")
    node = {name: value.format(blocked) for name, value in (place or {}).items()}
    config = {
        "default_hooks.checkpoint.out_dir": {"default_hooks": {"checkpoint": node}},
        "default_hooks.logger.out_dir": {"default_hooks": {"logger": node}},
        "custom_hooks[0].out_dir": {"custom_hooks": [node]},
        "visualizer.save_dir": {"visualizer": node},
        "visualizer.vis_backends[0].save_dir": {"visualizer": {"vis_backends": [node]}},
    }.get(key, {})
    args = Namespace()
    if key.startswith("--"):
        args = Namespace(checkpoint="some.pth")
        value = blocked + "/some.npz" if key == "--out" else blocked
        setattr(args, key[2:].replace("-", "_"), value)
    work_dir = blocked if key == "--work-dir" else str(tmp_path / "run")
    cfg = Config({"work_dir": work_dir, **config})
    with pytest.raises(UserError, match=r": cannot make .*below") as refused:
        require_writable_folders(cfg, args)
    assert str(refused.value).startswith(f"{key}: ")


def test_checkpoints_go_below_the_folder_asked_for(tmp_path):
    out_dir = str(tmp_path / "disk")
    cfg = Config({"work_dir": str(tmp_path / "runs/one")})
    assert checkpoint_folder(cfg) is None
    cfg.default_hooks = {"checkpoint": {"out_dir": out_dir}}
    require_writable_folders(cfg, Namespace())
    folder = tmp_path / "disk/one"
    assert checkpoint_folder(cfg) == folder and folder.is_dir()
    (folder / "iter_1.pth").write_bytes(b"no checkpoint")
    _, _, skipped = find_resumable(cfg.work_dir, folder)
    assert len(skipped) == 1 and "iter_1.pth" in skipped[0]
    cfg.default_hooks.checkpoint.out_dir = "s3://bucket/runs"
    require_writable_folders(cfg, Namespace())
    assert checkpoint_folder(cfg) is None
