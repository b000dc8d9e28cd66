"""From the arguments of ``tools/`` to a finished run."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import METRICS, RUNNERS
from mmengine.runner import Runner
from torch import distributed as dist

from mmrev.atomic import use_atomic_files
from mmrev.checkpoints.runs import (
    find_resumable,
    read_checkpoint,
    read_resumable,
    use_safe_loading,
)
from mmrev.console import quiet, say
from mmrev.engine.hooks.record import RecordHook
from mmrev.errors import UserError, nearest
from mmrev.runs.config import OverrideAction, check_data, evaluators, load_config
from mmrev.runs.console import ConsoleRunner

__all__ = ["add_common_arguments", "test", "train"]

# The single-precision wrappers, whose half-precision forms --amp takes.
_PLAIN_WRAPPERS = ("OptimWrapper", "mmrev.AGCOptimWrapper", "mmrev.SAMOptimWrapper")
# Where each launcher tells a process its number.
_RANKS = {
    "pytorch": "RANK",
    "slurm": "SLURM_PROCID",
    "mpi": "OMPI_COMM_WORLD_RANK",
}


def add_common_arguments(parser: ArgumentParser) -> None:
    """Add what training and testing share."""
    parser.add_argument("--work-dir", help="default: work_dirs/<name of the config>")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OverrideAction,
        metavar="KEY=VALUE",
        help="override the config, for example model.backbone.drop_path_rate=0.2",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="what started the processes of a distributed run",
    )


def train(args: Namespace) -> None:
    """Train as ``tools/train.py`` was asked to.

    Raises:
        UserError: Names the path or key at fault, before anything is written.
    """
    cfg = _prepare(args)
    check_data(cfg, "train", "val")
    if cfg.get("train_dataloader") is None:
        raise UserError(f"config {args.config}: no train_dataloader; nothing to train.")
    if args.amp:
        _use_amp(cfg)
    if args.auto_scale_lr:
        if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
            raise UserError(
                f"--auto-scale-lr: config {args.config} sets no "
                "auto_scale_lr.base_batch_size, the batch size its lr is meant for."
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        _resume(cfg, args.resume)
    elif cfg.get("load_from"):
        read_checkpoint(cfg.load_from)
    hooks = _section(cfg, "default_hooks")
    hooks.setdefault("checkpoint", {"type": "CheckpointHook", "interval": 1})
    if hooks.checkpoint and hooks.checkpoint.type == "CheckpointHook":
        hooks.checkpoint.type = "mmrev.AtomicCheckpointHook"
    _add_hook(cfg, type="mmrev.IterationSeedHook")
    cfg.train_dataloader.setdefault("worker_init_fn", {"type": "mmrev.seed_worker"})
    if cfg.get("val_dataloader") is not None:
        _survive_unreadable(cfg, "val")
    with _runner(cfg) as runner:
        runner.train()


def test(args: Namespace) -> None:
    """Test as ``tools/test.py`` was asked to; leaves a record in the work dir.

    Raises:
        UserError: Names the path or key at fault, before anything is written; or, with
            ``--check``, the result that is outside its tolerance.
    """
    cfg = _prepare(args)
    check_data(cfg, "test")
    if cfg.get("test_dataloader") is None:
        raise UserError(f"config {args.config}: no test_dataloader; nothing to test.")
    if "://" in args.checkpoint:
        raise UserError(
            f"checkpoint {args.checkpoint}: download it and give the file, so that "
            "the record can tell its hash."
        )
    read_checkpoint(args.checkpoint)
    config = cfg.to_dict()
    expected = _expected_results(cfg) if args.check else []
    # Only what testing needs is built, so that a missing training set does not matter.
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[key] = None
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg[key] = None
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.tta:
        _use_tta(cfg)
    _survive_unreadable(cfg, "test")
    if args.out:
        _dump_predictions(cfg, args.out)
    _add_hook(cfg, type="mmrev.StrictCheckpointHook")
    if args.show_dir:
        _add_hook(cfg, type="mmrev.DrawPredictionsHook", out_dir=args.show_dir)
    with _runner(cfg) as runner:
        out_dir = str(Path(cfg.work_dir, "records"))
        runner.register_hook(RecordHook(out_dir, config, args.tta))
        metrics = runner.test()
    _check_results(expected, metrics)


def _prepare(args: Namespace) -> Config:
    quiet()
    use_atomic_files()
    use_safe_loading()
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    name = Path(args.config).stem
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or f"work_dirs/{name}"
    folder = Path(cfg.work_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--work-dir: cannot make {folder} ({error.strerror}); choose another."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--work-dir: cannot write to {folder}; choose another place.")
    return cfg


def _resume(cfg: Config, wanted: str) -> None:
    cfg.resume = True
    if wanted == "auto":
        path, meta, skipped = find_resumable(cfg.work_dir)
        for line in skipped:
            say(f"resume: {line}")
        if path is None:
            say(f"resume: no checkpoint in {cfg.work_dir}; starting anew")
            cfg.resume = False
            return
    else:
        path, meta = wanted, read_resumable(wanted)
    say(f"resume: {path} (epoch {meta.get('epoch')}, iteration {meta.get('iter')})")
    cfg.load_from = str(path)
    # The sampler is seeded before mmengine reads the checkpoint's seed.
    randomness = _section(cfg, "randomness")
    if randomness.get("seed") is None:
        randomness["seed"] = meta.get("seed")
    _add_hook(cfg, type="mmrev.StrictCheckpointHook")


def _use_amp(cfg: Config) -> None:
    kind = cfg.optim_wrapper.setdefault("type", "OptimWrapper")
    if kind in _PLAIN_WRAPPERS and torch.cuda.is_available():
        kind = kind.replace("OptimWrapper", "AmpOptimWrapper")
        cfg.optim_wrapper.update(type=kind, loss_scale="dynamic")
    elif kind in _PLAIN_WRAPPERS:
        kind = kind.removeprefix("mmrev.").replace("Optim", "BFloat16Optim")
        cfg.optim_wrapper.type = f"mmrev.{kind}"
    elif not kind.endswith(("AmpOptimWrapper", "BFloat16OptimWrapper")):
        raise UserError(
            "--amp: expected optim_wrapper.type "
            f"{' or '.join(_PLAIN_WRAPPERS)}, got {kind}."
        )


def _expected_results(cfg: Config) -> list[Mapping]:
    """The results that a config expects, which ``--check`` compares with."""
    stated = cfg.get("expected_results") or []
    stated = stated if isinstance(stated, list) else [stated]
    if not stated:
        raise UserError(
            f"--check: config {cfg.filename} has no expected_results; add for example "
            "expected_results = dict(metric='coco/bbox_mAP', value=0.49, "
            "tolerance=0.002)."
        )
    for one in stated:
        if not _is_expectation(one):
            raise UserError(
                f"config {cfg.filename}: expected_results: expected dict(metric='...', "
                f"value=..., tolerance=...) or a list of such, got {one}."
            )
    return stated


def _is_expectation(one: Any) -> bool:
    if not isinstance(one, Mapping) or set(one) != {"metric", "value", "tolerance"}:
        return False
    numbers = one["value"], one["tolerance"]
    if not all(isinstance(number, int | float) for number in numbers):
        return False
    return isinstance(one["metric"], str) and one["tolerance"] >= 0


def _check_results(expected: list[Mapping], metrics: Mapping[str, float]) -> None:
    outside = 0
    for one in expected:
        if one["metric"] not in metrics:
            raise UserError(
                f"expected_results: there is no metric '{one['metric']}'; "
                f"{nearest(one['metric'], metrics)}"
            )
        found = metrics[one["metric"]]
        # Not a number is outside, too.
        sound = abs(found - one["value"]) <= one["tolerance"]
        outside += not sound
        say(
            f"{one['metric']}: {found:.6g}, expected {one['value']:g} "
            f"+- {one['tolerance']:g}: {'as expected' if sound else 'OUTSIDE'}"
        )
    if outside:
        raise UserError(f"--check: {outside} of {len(expected)} results are outside.")


def _use_tta(cfg: Config) -> None:
    if missing := [key for key in ("tta_model", "tta_pipeline") if key not in cfg]:
        raise UserError(
            f"--tta: config {cfg.filename} has no {' and no '.join(missing)}; add it, "
            "or test without --tta."
        )
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    _test_dataset(cfg).pipeline = cfg.tta_pipeline


def _survive_unreadable(cfg: Config, split: str) -> None:
    """Let a split be evaluated without its unreadable images, where they are counted.

    Other metrics would take what `ReadableDataset` gives in their place for theirs.
    """
    loader = cfg[f"{split}_dataloader"]
    if all(map(_counts_each_image_once, evaluators(cfg, split))):
        loader.dataset = {"type": "mmrev.ReadableDataset", "dataset": loader.dataset}


def _counts_each_image_once(metric: ConfigDict) -> bool:
    kind = METRICS.get(metric.type) if isinstance(metric.type, str) else metric.type
    return getattr(kind, "counts_each_image_once", False)


def _dump_predictions(cfg: Config, path: str) -> None:
    if not path.endswith(".npz"):
        raise UserError(f"--out: expected an .npz file, got {path}.")
    dump = {
        "type": "mmrev.DumpPredictions",
        "out_file_path": path,
        "data_root": _test_dataset(cfg).get("data_root") or "",
    }
    cfg.test_evaluator = [*evaluators(cfg, "test"), dump]


def _test_dataset(cfg: Config) -> ConfigDict:
    """The data set of the test, without wrappers."""
    dataset = cfg.test_dataloader.dataset
    while "dataset" in dataset:
        dataset = dataset.dataset
    return dataset


def _section(cfg: Config, name: str) -> ConfigDict:
    if cfg.get(name) is None:
        cfg[name] = {}
    return cfg[name]


def _add_hook(cfg: Config, **hook) -> None:
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), hook]


@contextmanager
def _runner(cfg: Config) -> Iterator[Runner]:
    if cfg.launcher != "none":
        _join_processes(cfg)
    try:
        if "runner_type" in cfg:
            yield RUNNERS.build(cfg)
        else:
            yield ConsoleRunner.from_cfg(cfg)
        if dist.is_initialized():
            # Process 0 keeps the store; gone early, it can take the others along.
            dist.barrier()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _join_processes(cfg: Config) -> None:
    """Let processes talk over NCCL on GPUs and gloo without, whatever the config."""
    rank = _RANKS[cfg.launcher]
    if rank not in os.environ:
        raise UserError(
            f"--launcher {cfg.launcher}: {rank} is not set; start the processes with "
            "torchrun --nproc-per-node=N (pytorch), srun (slurm) or mpirun (mpi)."
        )
    if torch.cuda.is_available():
        local = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK")
        if cfg.launcher == "mpi" and local is not None:
            os.environ.setdefault("LOCAL_RANK", local)  # mmengine wraps the model by it
        return
    if cfg.launcher != "pytorch":
        raise UserError(
            f"--launcher {cfg.launcher} needs GPUs; without, use torchrun and "
            "--launcher pytorch."
        )
    # mmengine's own start selects a GPU first.
    dist.init_process_group("gloo")
    _section(cfg, "env_cfg").dist_cfg = {"backend": "gloo"}
    wrapper = _section(cfg, "model_wrapper_cfg")
    wrapper.device_ids = None
    wrapper.setdefault("type", "MMDistributedDataParallel")
    wrapper.setdefault("broadcast_buffers", False)
    wrapper.setdefault(
        "find_unused_parameters", cfg.get("find_unused_parameters", False)
    )
