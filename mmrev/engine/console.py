"""A terminal that shows progress and what needs attention, and nothing else."""

import logging
import os
import warnings

from mmengine.logging import MMLogger
from mmengine.runner import Runner

__all__ = ["ConsoleRunner", "quiet", "say"]

# What the log file keeps and the terminal need not show: reports of more lines than
# this (the config, the environment, a table of 150 classes) ...
_LONGEST_REPORT = 40
# ... and what mmengine says on every run, whatever the config.
_ROUTINE = (
    "\n" + "-" * 60,
    "Config:\n",
    "Hooks will be executed",
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    "Distributed training is not used, all SyncBatchNorm",
    "The prefix is not set in metric class",
    "per class results:",
    "`save_param_scheduler` is True but `self.param_schedulers` is None",
)
# Warnings that nobody can act on: optional packages which mmdet and mmpretrain look
# for, and old spellings inside the packages themselves.
_HARMLESS = (
    ("faster_coco_eval is not installed", UserWarning),
    (".*", DeprecationWarning),
    (".*", FutureWarning),
    (".*MultiScaleDeformableAttention.*has been moved", ImportWarning),
    ("`reduce_zero_label` will be deprecated", UserWarning),
    ("The shape of value will convert from", UserWarning),
    ("Default ``avg_non_ignore`` is False", UserWarning),
    ("Warning: Profiler clears events", UserWarning),
    ("Setting (OMP|MKL)_NUM_THREADS environment variable", UserWarning),
)


def say(message: str) -> None:
    """Print one line, once for all processes of a distributed run."""
    if os.environ.get("RANK", "0") == "0":
        print(message, flush=True)


def quiet() -> None:
    """Silence the known harmless warnings of the packages below."""
    for message, category in _HARMLESS:
        warnings.filterwarnings("ignore", message=message, category=category)
    # On a full disk every log line would print a traceback of the log handler; the
    # disk is reported when a checkpoint cannot be written.
    logging.raiseExceptions = False


class ConsoleRunner(Runner):
    """mmengine's runner whose long reports go to the log file only."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build mmengine's logger; filter what reaches the terminal."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_worth_showing)
        say(f"{self.cfg.filename} -> {self.work_dir} (seed {self.seed})")
        return logger

    def dump_config(self) -> None:
        """Leave the config in the work dir, unless a test would overwrite it."""
        if self._train_loop is not None:
            super().dump_config()


def _worth_showing(entry: logging.LogRecord) -> bool:
    message = str(entry.msg)
    return not message.startswith(_ROUTINE) and message.count("\n") <= _LONGEST_REPORT
