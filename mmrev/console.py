"""A terminal that shows progress and what needs attention, and nothing else."""

import logging
import os
import warnings

__all__ = ["quiet", "say"]

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
