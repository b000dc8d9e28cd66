"""A run whose model is sharded, see `mmrev.FSDP2Strategy`."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmengine
from mmengine.dist import is_main_process
from mmengine.model import convert_sync_batchnorm
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn
from torch.distributed.tensor.experimental import implicit_replication

from mmrev.checkpoints.files import local_file
from mmrev.engine.strategies.checkpoints import Parts
from mmrev.registry import STRATEGIES
from mmrev.runs.console import ConsoleRunner

__all__ = ["ShardedRunner"]


class ShardedRunner(ConsoleRunner):
    """The suite's runner with a model, an optimizer and checkpoints in parts.

    The model is initialised and sharded before the optimizer is built. Loops and hooks
    are those of any other run.
    """

    def build_model(self, model: dict) -> nn.Module:
        """Build the model: the first process with its weights, all others without."""
        self.strategy = STRATEGIES.get(self.cfg.strategy.type)()
        model = _with_local_files(model)
        with self.strategy.building():
            return super().build_model(model)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Initialise and shard it; it stays the module that it is."""
        if kind := self.cfg.get("sync_bn"):
            model = convert_sync_batchnorm(model, kind)
        if is_main_process() and hasattr(model, "init_weights"):
            model.init_weights()
        return self.strategy.shard(model)

    def _init_model_weights(self) -> None:
        """They were initialised before the model was sharded."""

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = "cpu",
        strict: bool = False,
        revise_keys: Sequence = ((r"^module.", ""),),
    ) -> dict:
        """Load a checkpoint, a file or a folder, each process its part."""
        checkpoint = self._parts().load(filename)
        # What no parameter is spread as, is whole in all processes.
        with implicit_replication():
            self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
            _load_checkpoint_to_model(self.model, checkpoint, strict, None, revise_keys)
        self._has_loaded = True
        self.logger.info(f"Load checkpoint from {filename}")
        return checkpoint

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Save a folder that says what a file of mmengine does; by all processes."""
        place = {"epoch": self.epoch + by_epoch, "iter": self.iter + (not by_epoch)}
        checkpoint = {
            "meta": {
                **place,
                **(meta or {}),
                "cfg": self.cfg.pretty_text,
                "seed": self.seed,
                "experiment_name": self.experiment_name,
                "time": time.strftime("%Y%m%d_%H%M%S"),
                "mmengine_version": mmengine.__version__,
                "dataset_meta": getattr(self.train_dataloader.dataset, "metainfo", {}),
            },
            "state_dict": self.model.state_dict(),
            "message_hub": self.message_hub.state_dict(),
        }
        if save_optimizer:
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            states = [one.state_dict() for one in self.param_schedulers]
            checkpoint["param_schedulers"] = states
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        self._parts().save(Path(out_dir, filename), checkpoint)

    def _parts(self) -> Parts:
        optimizer = getattr(self.optim_wrapper, "optimizer", None)
        return Parts(self.model, optimizer, self.strategy.scalars)


def _with_local_files(value: Any) -> Any:
    """A part of a config with the files of its URLs, downloaded by all together.

    Later the first process alone reads weights, and would wait for the others.
    """
    if isinstance(value, Mapping):
        return type(value)({key: _with_local_files(one) for key, one in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(map(_with_local_files, value))
    if isinstance(value, str) and re.match(r"https?://", value):
        return str(local_file(value))
    return value
