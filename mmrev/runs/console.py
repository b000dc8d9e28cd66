"""What the terminal shows of a run; the log file keeps everything."""

import logging

from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn

from mmrev.console import say
from mmrev.engine.hooks.divergence import divergence
from mmrev.runs.out_of_memory import is_out_of_memory, out_of_memory
from mmrev.text import printable_lines

__all__ = ["ConsoleRunner"]

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
    # Before the pipeline, of mmseg: after it they are alike, or refused.
    "Image shapes are different in the batch",
    "Parameter groups of layer decay:",
    # Not with checkpoints of ours, which keep them.
    "Resumed iteration number is not divisible by `_accumulative_counts`",
    "`save_param_scheduler` is True but `self.param_schedulers` is None",
)

# What scipy says of predictions that are not finite, when it matches them to objects.
_UNMATCHABLE = ("matrix contains invalid numeric", "cost matrix is infeasible")


class ConsoleRunner(Runner):
    """mmengine's runner whose long reports go to the log file only."""

    def train(self) -> nn.Module:
        """Train.

        Raises:
            UserError: Training has diverged, as a matcher found, or ran out of memory.
        """
        try:
            return super().train()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(self, error) from None
        except ValueError as error:
            if not str(error).startswith(_UNMATCHABLE):
                raise
            raise divergence(self, "predictions, before the matching") from error

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build mmengine's logger; filter what reaches the terminal."""
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(_made_printable)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_worth_showing)
        say(f"{self.cfg.filename} -> {self.work_dir} (seed {self.seed})")
        return logger

    def dump_config(self) -> None:
        """Leave the config in the work dir, unless a test would overwrite it."""
        if self._train_loop is not None:
            super().dump_config()


def _made_printable(entry: logging.LogRecord) -> bool:
    """Names of classes and files are foreign text, in the log file, too."""
    entry.msg, entry.args = printable_lines(entry.getMessage()), ()
    return True


def _worth_showing(entry: logging.LogRecord) -> bool:
    message = str(entry.msg)
    return not message.startswith(_ROUTINE) and message.count("\n") <= _LONGEST_REPORT
