"""From the arguments of ``tools/`` to a finished run."""

import os
import subprocess
from argparse import Namespace
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import distributed as dist

from mmrev.checkpoints.runs import use_safe_loading
from mmrev.console import quiet, say
from mmrev.datasets.checked import use_checked_data
from mmrev.engine.hooks.preemption import preemptible
from mmrev.engine.hooks.record import RecordHook
from mmrev.errors import UserError
from mmrev.runs.check import data_hooks
from mmrev.runs.config import load_config
from mmrev.runs.console import ConsoleRunner
from mmrev.runs.expected import compare_results, expected_results
from mmrev.runs.expert_parallel import ExpertParallelRunner
from mmrev.runs.folders import require_writable
from mmrev.runs.lock import locked
from mmrev.runs.refusals import named_refusals
from mmrev.runs.sharded import ShardedRunner
from mmrev.runs.steps import TEST_STEPS, TRAIN_STEPS, section
from mmrev.storage import use_atomic_files
from mmrev.threads import has_gpu

__all__ = ["test", "train"]

# Where each launcher tells a process its number.
_RANKS = {
    "pytorch": "RANK",
    "slurm": "SLURM_PROCID",
    "mpi": "OMPI_COMM_WORLD_RANK",
}
# By the strategy that spreads the model over processes.
_RUNNERS = {
    None: ConsoleRunner,
    "mmrev.FSDP2Strategy": ShardedRunner,
    "mmrev.ExpertParallelStrategy": ExpertParallelRunner,
}


def train(args: Namespace) -> None:
    """Train as ``tools/train.py`` was asked to.

    Raises:
        SystemExit: Status 75, where the run was asked to end: it is to be continued.
        UserError: Names the path or key at fault, before anything is written.
    """
    cfg = _prepare(args)
    with _alone(cfg), preemptible(), named_refusals(cfg):
        for step in TRAIN_STEPS:
            step(cfg, args)
        with _runner(cfg) as runner:
            runner.train()


def test(args: Namespace) -> None:
    """Test as ``tools/test.py`` was asked to; leaves a record in the work dir.

    Raises:
        UserError: Names the path or key at fault, before anything is written; or, with
            ``--check``, the result that is outside its tolerance.
    """
    cfg = _prepare(args)
    config = cfg.to_dict()
    with named_refusals(cfg):
        for step in TEST_STEPS:
            step(cfg, args)
        with _runner(cfg) as runner:
            out_dir = str(Path(cfg.work_dir, "records"))
            runner.register_hook(RecordHook(out_dir, config, args.tta))
            metrics = runner.test()
    if args.check:
        compare_results(expected_results(cfg), metrics)


def _prepare(args: Namespace) -> Config:
    """Read the config, and set its launcher and a work dir that can be written."""
    quiet()
    use_atomic_files()
    use_safe_loading()
    use_checked_data()
    cfg = load_config(args.config, args.cfg_options, args.safe_config)
    cfg.launcher = args.launcher
    if cfg.launcher != "none":
        _number_processes(cfg.launcher)
    name = Path(args.config).stem
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or f"work_dirs/{name}"
    require_writable(cfg.work_dir, "--work-dir")
    if has_gpu() and not torch.cuda.is_available():
        build = f"of CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
        say(
            f"a GPU is here, but torch {torch.__version__} ({build}) cannot use it, so "
            "this runs on the CPU; python -m mmrev.doctor says what is missing."
        )
    return cfg


def _alone(cfg: Config) -> AbstractContextManager:
    """Of the processes of a run, the first keeps its work dir."""
    first = os.environ.get(_RANKS.get(cfg.launcher, ""), "0") == "0"
    return locked(cfg.work_dir) if first else nullcontext()


def _kind_of_runner(cfg: Config) -> type[Runner]:
    kind = cfg.get("strategy", {}).get("type")
    if kind not in _RUNNERS:
        raise UserError(
            f"strategy.type={kind}: only mmengine's FlexibleRunner takes it; add "
            "runner_type='FlexibleRunner' to the config, or leave it out and use "
            "--shard or --expert-parallel."
        )
    return _RUNNERS[kind]


@contextmanager
def _runner(cfg: Config) -> Iterator[Runner]:
    if cfg.launcher != "none":
        _join_processes(cfg)
    try:
        if "runner_type" in cfg:
            runner = RUNNERS.build(cfg)
        else:
            runner = _kind_of_runner(cfg).from_cfg(cfg)
        for hook in data_hooks(cfg):
            runner.register_hook(hook)
        yield runner
        if dist.is_initialized():
            # Process 0 keeps the store; gone early, it can take the others along.
            dist.barrier()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _number_processes(launcher: str) -> None:
    """See to it that each process knows its number, by torchrun's name if srun told it.

    Raises:
        UserError: Nobody did.
    """
    rank = _RANKS[launcher]
    if rank not in os.environ:
        raise UserError(
            f"--launcher {launcher}: {rank} is not set; start the processes with "
            "torchrun --nproc-per-node=N (pytorch), srun (slurm) or mpirun (mpi)."
        )
    if launcher != "slurm":
        return
    own = {"RANK": "PROCID", "WORLD_SIZE": "NTASKS", "LOCAL_RANK": "LOCALID"}
    for name, slurms in own.items():
        os.environ[name] = os.environ[f"SLURM_{slurms}"]
    first = "127.0.0.1"
    if int(os.environ["SLURM_NNODES"]) > 1:
        nodes = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
        first, *_ = subprocess.check_output(nodes, text=True).split()
    os.environ.setdefault("MASTER_ADDR", first)
    os.environ.setdefault("MASTER_PORT", "29500")  # torch's own


def _join_processes(cfg: Config) -> None:
    """Let processes talk over NCCL on GPUs and gloo without, whatever the config."""
    if torch.cuda.is_available():
        local = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK")
        if cfg.launcher == "mpi" and local is not None:
            os.environ.setdefault("LOCAL_RANK", local)  # mmengine wraps the model by it
        return
    if cfg.launcher == "mpi":
        raise UserError(
            "--launcher mpi needs GPUs; without, use torchrun and --launcher pytorch, "
            "or srun and --launcher slurm."
        )
    # mmengine's own start selects a GPU first.
    store, number, count = next(dist.rendezvous("env://"))
    # torchrun keeps its store when it starts the processes again: without a prefix they
    # would wait for those that are gone.
    store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    dist.init_process_group("gloo", store=store, rank=number, world_size=count)
    section(cfg, "env_cfg").dist_cfg = {"backend": "gloo"}
    wrapper = section(cfg, "model_wrapper_cfg")
    wrapper.device_ids = None
    wrapper.setdefault("type", "MMDistributedDataParallel")
    wrapper.setdefault("broadcast_buffers", False)
    wrapper.setdefault(
        "find_unused_parameters", cfg.get("find_unused_parameters", False)
    )
