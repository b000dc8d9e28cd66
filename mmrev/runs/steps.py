"""The edits that make a run of a config, one by one, in the order of the lists.

Each takes the config and the arguments of the tool, says what it needs and what it
changes, and leaves the config alone where the tool was not asked for it. What is at
fault is a `UserError` that names path or key.
"""

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

from mmrev.checkpoints.folders import SUFFIX, is_folder
from mmrev.checkpoints.runs import find_resumable, read_checkpoint, read_resumable
from mmrev.class_order import order_classes
from mmrev.console import say
from mmrev.errors import UserError
from mmrev.leaderboard.tracks import track_of
from mmrev.models.backbones.base import Backbone
from mmrev.runs.config import check_data, evaluators
from mmrev.runs.expected import expected_results
from mmrev.runs.folders import checkpoint_folder, require_writable_folders
from mmrev.runs.head_memory import head_memory
from mmrev.runs.nodes import components
from mmrev.runs.track import unfreeze
from mmrev.wrappers import change_settings, plain_settings

__all__ = ["TEST_STEPS", "TRAIN_STEPS", "require_file", "section"]

# The single-precision wrappers, whose half-precision forms --amp takes.
_PLAIN_WRAPPERS = ("OptimWrapper", "mmrev.AGCOptimWrapper", "mmrev.SAMOptimWrapper")
_COPIES = (
    "copies a whole model; train without one of them (--cfg-options custom_hooks=... "
    "replaces the hooks)."
)


def require_training_data(cfg: Config, args: Namespace) -> None:
    """Look for the files of training and validation; changes nothing."""
    check_data(cfg, "train", "val")
    if cfg.get("train_dataloader") is None:
        raise UserError(f"config {args.config}: no train_dataloader; nothing to train.")


def require_test_data(cfg: Config, args: Namespace) -> None:
    """Look for the files of the test; changes nothing."""
    check_data(cfg, "test")
    if cfg.get("test_dataloader") is None:
        raise UserError(f"config {args.config}: no test_dataloader; nothing to test.")


def order_training_classes(cfg: Config, args: Namespace) -> None:
    """Change ``metainfo.classes`` of training and validation to the labels' order."""
    _order_classes(cfg, "train", "val")


def order_test_classes(cfg: Config, args: Namespace) -> None:
    """Change ``metainfo.classes`` of the test to the labels' order."""
    _order_classes(cfg, "test")


def use_amp(cfg: Config, args: Namespace) -> None:
    """``--amp``: needs a plain ``optim_wrapper``, gives its half-precision form."""
    if not args.amp:
        return
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


def scale_lr(cfg: Config, args: Namespace) -> None:
    """``--auto-scale-lr``: needs and enables ``auto_scale_lr``."""
    if not args.auto_scale_lr:
        return
    if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
        raise UserError(
            f"--auto-scale-lr: config {args.config} sets no "
            "auto_scale_lr.base_batch_size, the batch size its lr is meant for."
        )
    cfg.auto_scale_lr.enable = True


def resume(cfg: Config, args: Namespace) -> None:
    """``--resume``: needs ``work_dir``; sets ``load_from``, ``resume`` and the seed."""
    if args.resume is None:
        return
    track = track_of(cfg)
    cfg.resume = True
    if args.resume == "auto":
        folders = [Path(cfg.work_dir), checkpoint_folder(cfg)]
        path, meta, skipped = find_resumable(*filter(None, folders))
        for line in skipped:
            say(f"resume: {line}")
        if path is None:
            say(f"resume: no checkpoint in {cfg.work_dir}; starting anew")
            cfg.resume = False
            return
    else:
        path, meta = args.resume, read_resumable(args.resume)
    say(f"resume: {path} (epoch {meta.get('epoch')}, iteration {meta.get('iter')})")
    if (then := meta.get("track") or track) != track:
        raise UserError(
            f"--resume: {path} is of a training with track={then}, the config's is "
            f"track={track}; resume with --cfg-options track={then}, or start anew "
            f"from its weights, without --resume and with --cfg-options "
            f"load_from={path}."
        )
    if track:
        cfg.track = track  # from here on load_from tells of this run alone
    cfg.load_from = str(path)
    # The sampler is seeded before mmengine reads the checkpoint's seed.
    randomness = section(cfg, "randomness")
    if randomness.get("seed") is None:
        randomness["seed"] = meta.get("seed")
    _add_hook(cfg, type="mmrev.StrictCheckpointHook")


def shard(cfg: Config, args: Namespace) -> None:
    """``--shard``: needs processes; sets ``strategy``, ``optim_wrapper``, checkpoints.

    Checkpoints become folders, and half precision bfloat16, whose losses need no scale.
    """
    if not args.shard:
        return
    if cfg.launcher == "none":
        raise UserError(
            "--shard spreads the model over the processes of a run: start them by "
            "torchrun --nproc-per-node=N tools/train.py CONFIG --launcher pytorch "
            "--shard."
        )
    if refused := _cannot_be_sharded(cfg):
        raise UserError(f"--shard: {refused}")
    cfg.strategy = {"type": "mmrev.FSDP2Strategy"}
    _scale_no_losses(cfg)
    hooks = section(cfg, "default_hooks")
    hooks.setdefault("checkpoint", {"type": "CheckpointHook", "interval": 1})
    if hooks.checkpoint:
        unit = "epoch" if hooks.checkpoint.get("by_epoch", True) else "iter"
        hooks.checkpoint.setdefault("filename_tmpl", f"{unit}_{{}}{SUFFIX}")
    _add_hook(cfg, type="mmrev.GatherWeightsHook")


def divide_experts(cfg: Config, args: Namespace) -> None:
    """``--expert-parallel``: needs processes; sets ``strategy``, ``optim_wrapper``.

    Half precision becomes bfloat16: a scale of losses would be each process's own.
    """
    if not args.expert_parallel:
        return
    if cfg.launcher == "none":
        raise UserError(
            "--expert-parallel divides the experts over the processes of a run: start "
            "them by torchrun --nproc-per-node=N tools/train.py CONFIG --launcher "
            "pytorch --expert-parallel."
        )
    if refused := _cannot_be_divided(cfg, args):
        raise UserError(f"--expert-parallel: {refused}")
    cfg.strategy = {"type": "mmrev.ExpertParallelStrategy"}
    _scale_no_losses(cfg)
    _add_hook(cfg, type="mmrev.GatherWeightsHook")


def _cannot_be_divided(cfg: Config, args: Namespace) -> str | None:
    """What wants all experts in one process, and what to do."""
    if args.shard:
        return "--shard spreads the experts, too; use one of them."
    if "runner_type" in cfg:
        return f"it has a runner of its own, got runner_type={cfg.runner_type}."
    kinds = [str(hook.get("type")) for hook in cfg.get("custom_hooks") or []]
    if "EMAHook" in kinds:
        return f"EMAHook {_COPIES}"
    kind = str(cfg.optim_wrapper.get("type"))
    if "SAM" in kind:
        return (
            f"{kind} climbs by the gradient of one process's experts; use "
            f"{kind.replace('SAM', 'AGC')} or OptimWrapper."
        )
    if cfg.optim_wrapper.get("accumulative_counts", 1) > 1:
        return (
            "a checkpoint inside an accumulated batch would lose gradients of experts; "
            "set optim_wrapper.accumulative_counts=1 and a larger batch."
        )
    return None


def _scale_no_losses(cfg: Config) -> None:
    """Change half precision with a scale of losses to bfloat16, which needs none."""
    kind = cfg.optim_wrapper.setdefault("type", "OptimWrapper")
    if kind.endswith("AmpOptimWrapper"):
        own = f"mmrev.{kind.removeprefix('mmrev.')}"
        cfg.optim_wrapper.type = own.replace("AmpOptim", "BFloat16Optim")
        for key in ("loss_scale", "dtype", "use_fsdp"):
            cfg.optim_wrapper.pop(key, None)


def _cannot_be_sharded(cfg: Config) -> str | None:
    """What of a config wants whole weights, and what to do."""
    kinds = [str(hook.get("type")) for hook in cfg.get("custom_hooks") or []]
    if "runner_type" in cfg:
        return f"it has a runner of its own, got runner_type={cfg.runner_type}."
    if "EMAHook" in kinds:
        return f"EMAHook {_COPIES}"
    if any(kind.endswith("StitchFitHook") for kind in kinds) and not cfg.get(
        "load_from"
    ):
        return (
            "mmrev.StitchFitHook fits whole stitches; fit them without --shard for one "
            "iteration, then start from that checkpoint by --cfg-options load_from=."
        )
    for backbone in components(cfg.model, Backbone):
        if backbone.get("memory") == "auto":
            return (
                f"memory='auto' of {backbone.type} measures a step with whole weights; "
                "set the modes that tools/plan.py recommends."
            )
    return None


def be_deterministic(cfg: Config, args: Namespace) -> None:
    """``--deterministic``: sets ``randomness``, with a seed if there is none."""
    if not args.deterministic:
        return
    # Read when cuBLAS starts; without it torch refuses matrix products on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    randomness = section(cfg, "randomness")
    randomness.deterministic = True
    if randomness.get("seed") is None:
        randomness.seed = 0


def require_initial_weights(cfg: Config, args: Namespace) -> None:
    """Read ``load_from`` of a run that does not resume; changes nothing."""
    if args.resume is None and cfg.get("load_from"):
        read_checkpoint(cfg.load_from)


def write_whole_checkpoints(cfg: Config, args: Namespace) -> None:
    """Change ``default_hooks.checkpoint`` so that no checkpoint is half written."""
    hooks = section(cfg, "default_hooks")
    hooks.setdefault("checkpoint", {"type": "CheckpointHook", "interval": 1})
    if hooks.checkpoint and hooks.checkpoint.type == "CheckpointHook":
        hooks.checkpoint.type = "mmrev.AtomicCheckpointHook"


def end_when_asked(cfg: Config, args: Namespace) -> None:
    """Add a hook: SIGTERM and SIGUSR1 save the run and end it."""
    _add_hook(cfg, type="mmrev.PreemptionHook")


def resume_exactly(cfg: Config, args: Namespace) -> None:
    """Add a hook: a resumed run sees and draws what an uninterrupted one does."""
    _add_hook(cfg, type="mmrev.ExactResumeHook")


def tell_lineage(cfg: Config, args: Namespace) -> None:
    """Add a hook: checkpoints tell what they were trained from."""
    _add_hook(cfg, type="mmrev.LineageHook")


def stop_when_diverged(cfg: Config, args: Namespace) -> None:
    """Add the hook that looks at every loss and gradient; reads ``skip_steps``."""
    skipped = cfg.get("skip_steps", 0)
    _add_hook(cfg, type="mmrev.DivergenceHook", skip_steps=skipped)


def recompute_head(cfg: Config, args: Namespace) -> None:
    """Add a hook where ``head_memory`` asks for it."""
    if head_memory(cfg) == "recompute":
        _add_hook(cfg, type="mmrev.RecomputeHook")


def require_file(checkpoint: str) -> None:
    """Refuse a checkpoint that no hash is told of.

    Raises:
        UserError: It is an address, or a folder.
    """
    if "://" in checkpoint:
        raise UserError(
            f"checkpoint {checkpoint}: download it and give the file, so that the "
            "record can tell its hash."
        )
    if is_folder(checkpoint):
        raise UserError(
            f"checkpoint {checkpoint} is that of a sharded run; make one file of it: "
            f"python tools/convert_checkpoint.py {checkpoint} OUT.pth"
        )


def load_tested_checkpoint(cfg: Config, args: Namespace) -> None:
    """Set ``load_from`` to the file to be tested, which must fit in every weight."""
    require_file(args.checkpoint)
    read_checkpoint(args.checkpoint)
    cfg.load_from, cfg.resume = args.checkpoint, False
    _add_hook(cfg, type="mmrev.StrictCheckpointHook")


def require_expected_results(cfg: Config, args: Namespace) -> None:
    """``--check``: needs ``expected_results``; changes nothing."""
    if args.check:
        expected_results(cfg)


def drop_training(cfg: Config, args: Namespace) -> None:
    """Empty what training and validation need: their data may be missing.

    The model is tested as it is used, without what keeps its backbone frozen.
    """
    unfreeze(cfg)
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[key] = None
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg[key] = None


def use_tta(cfg: Config, args: Namespace) -> None:
    """``--tta``: needs ``tta_model``, ``tta_pipeline``; wraps the model, sets them."""
    if not args.tta:
        return
    if missing := [key for key in ("tta_model", "tta_pipeline") if key not in cfg]:
        raise UserError(
            f"--tta: config {cfg.filename} has no {' and no '.join(missing)}; add it, "
            "or test without --tta."
        )
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    loader = cfg.test_dataloader
    loader.dataset = change_settings(
        loader.dataset, lambda plain: {**plain, "pipeline": cfg.tta_pipeline}
    )


def dump_predictions(cfg: Config, args: Namespace) -> None:
    """``--out``: reads the test's ``data_root``; adds to ``test_evaluator``."""
    if not args.out:
        return
    if not args.out.endswith(".npz"):
        raise UserError(f"--out: expected an .npz file, got {args.out}.")
    settings = plain_settings(cfg.test_dataloader.dataset, "test_dataloader.dataset")
    roots = dict.fromkeys(one.get("data_root") or "" for _, one in settings)
    dump = {
        "type": "mmrev.DumpPredictions",
        "out_file_path": args.out,
        "data_root": list(roots),
    }
    cfg.test_evaluator = [*evaluators(cfg, "test"), dump]


def draw_predictions(cfg: Config, args: Namespace) -> None:
    """``--show-dir``: adds the hook that draws."""
    if args.show_dir:
        _add_hook(cfg, type="mmrev.DrawPredictionsHook", out_dir=args.show_dir)


Step = Callable[[Config, Namespace], None]

TRAIN_STEPS: tuple[Step, ...] = (
    require_training_data,
    order_training_classes,
    use_amp,
    scale_lr,
    resume,
    shard,
    divide_experts,
    be_deterministic,
    require_initial_weights,
    write_whole_checkpoints,
    end_when_asked,
    resume_exactly,
    tell_lineage,
    stop_when_diverged,
    recompute_head,
    require_writable_folders,
)
TEST_STEPS: tuple[Step, ...] = (
    require_test_data,
    order_test_classes,
    load_tested_checkpoint,
    be_deterministic,
    require_expected_results,
    drop_training,
    use_tta,
    dump_predictions,
    draw_predictions,
    require_writable_folders,
)


def section(cfg: Config, name: str) -> ConfigDict:
    """The part of a config by name; an empty one where it has none."""
    if cfg.get(name) is None:
        cfg[name] = {}
    return cfg[name]


def _add_hook(cfg: Config, **hook) -> None:
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), hook]


def _order_classes(cfg: Config, *splits: str) -> None:
    for split in splits:
        if loader := cfg.get(f"{split}_dataloader"):
            loader.dataset = change_settings(loader.dataset, order_classes)
