"""Losses of the first steps of each family, and how ``training.json`` was made of them.

From the root, with what the file's ``origin`` names:
``PYTHONPATH=. python tests/goldens/training.py``. The steps are those of
``tools/train.py CONFIG --deterministic`` for configs of ``configs/demo`` on embedded
scenes, with weights drawn at random, but in float64. In float32 what two CPUs round
differently grows in 20 steps to some percent of a loss; here it stays below 1e-12.
"""

import json
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from mmrev.datasets.scenes import SceneSettings, ensure_scenes

ROOT = Path(__file__).parents[2]
STEPS, BATCH = 20, 2
FAMILIES = ("revcol", "swinv2", "nfnet", "vanillanet", "reducenet", "stitched")
HEADS = {"dino": "dino-3scale", "mask2former": "mask2former"}
CASES = tuple(product(FAMILIES, HEADS))
DROP_PATH = ("revcol", "swinv2", "nfnet")
SCENES = {
    "num_training": STEPS * BATCH,
    "num_validation": 1,
    "size": 64,
    "digit_size": (16, 28),
}


class _Widened(TorchFunctionMode):
    """Gives every function of torch float64 where it was to get float32."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func.__name__ == "__get__":  # a shape, a device, most of all calls
            return func(*args)
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        named = {key: _widened(value) for key, value in (kwargs or {}).items()}
        return func(*map(_widened, args), **named)


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.dtype == torch.float32 else value
    if type(value) in (list, tuple):
        return type(value)(map(_widened, value))
    return torch.float64 if value is torch.float32 else value


@contextmanager
def in_double() -> Iterator[None]:
    """Compute in float64 inside, whatever asks for float32."""
    torch.set_default_dtype(torch.float64)
    try:
        with _Widened():
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def train_steps(
    family: str,
    head: str,
    work_dir: Path,
    data_root: Path,
    steps: int = STEPS,
    **options: Any,
) -> list[float]:
    """Train, deterministically.

    Args:
        family: of FAMILIES.
        head: of HEADS.
        work_dir: empty.
        data_root: of the scenes, composed if need be.
        steps: how many.
        **options: of the config, dots as double underscores.

    Returns:
        The loss of each step.
    """
    settings = {
        "train_dataloader.batch_size": BATCH,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_dataloader.dataset.data_root": str(data_root),
        "train_dataloader.dataset.scenes": SCENES,
        "val_dataloader": None,
        "val_cfg": None,
        "val_evaluator": None,
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 5}
        ],
        "default_hooks.logger.interval": 1,
        "log_processor.window_size": 1,
        "absent_classes": "said",
        # Of their own, for mmengine keeps both by name.
        "experiment_name": str(work_dir),
        "visualizer.name": str(work_dir),
    }
    if head == "dino":
        settings["train_cfg.max_epochs"] = 1
        settings["train_dataloader.dataset.indices"] = steps * BATCH
    else:
        settings["train_cfg.max_iters"] = steps
        settings["model.data_preprocessor.size"] = (SCENES["size"], SCENES["size"])
    if family == "stitched":
        for anchor in (0, 1):
            settings[f"model.backbone.anchors.{anchor}.init_cfg"] = None
        if head == "dino":
            settings["custom_hooks.0.num_images"] = 4
    if family != "stitched" or head == "mask2former":
        settings["model.backbone.init_cfg"] = None
    if family in DROP_PATH:
        settings["model.backbone.drop_path_rate"] = 0.2
    settings |= {key.replace("__", "."): value for key, value in options.items()}
    config = ROOT / f"configs/demo/{family}-demo_{HEADS[head]}_scenes.py"
    argv = [str(config), "--work-dir", str(work_dir), "--deterministic"]
    main = runpy.run_path(str(ROOT / "tools/train.py"))["main"]
    main([*argv, "--cfg-options", *(f"{k}={v!r}" for k, v in settings.items())])
    (log,) = work_dir.glob("*/vis_data/scalars.json")
    return [json.loads(line)["loss"] for line in log.read_text().splitlines()]


def main() -> None:
    """Write the file anew."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fingerprint = ensure_scenes(root / "scenes", SceneSettings(**SCENES))
        losses = {}
        for family, head in CASES:
            name = f"{family} {head}"
            with in_double():
                losses[name] = train_steps(family, head, root / name, root / "scenes")
    commit = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    golden = {
        "origin": {
            "command": "PYTHONPATH=. python tests/goldens/training.py",
            "torch": torch.__version__.partition("+")[0],
            "commit": subprocess.check_output(commit, text=True).strip(),
        },
        "scenes": fingerprint,
        "losses": losses,
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden, indent=1) + "\n")
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
