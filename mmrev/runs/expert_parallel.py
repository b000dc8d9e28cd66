"""A run whose experts are divided, see `mmrev.ExpertParallelStrategy`."""

from typing import Any

from mmengine.device import get_device
from mmengine.dist import broadcast
from mmengine.optim import OptimWrapper
from torch import nn

from mmrev.engine.hooks.checkpoint import unwrapped
from mmrev.engine.strategies.experts import whole_experts
from mmrev.errors import UserError
from mmrev.registry import STRATEGIES
from mmrev.runs.console import ConsoleRunner

__all__ = ["ExpertParallelRunner"]


class ExpertParallelRunner(ConsoleRunner):
    """The suite's runner with a share of the experts in every process.

    The model is initialised and divided before it is wrapped for the processes.
    Checkpoints are files as of any other run, for any number of processes.
    """

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Initialise the model, divide its experts, and wrap it.

        Raises:
            UserError: They do not divide.
        """
        model = model.to(get_device())
        if hasattr(model, "init_weights"):
            model.init_weights()
        for tensor in model.state_dict().values():
            broadcast(tensor)
        self.strategy = STRATEGIES.get(self.cfg.strategy.type)()
        try:
            self.strategy.divide(model)
        except ValueError as error:
            raise UserError(str(error)) from error
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        """They were initialised before they were divided."""

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Build it; gradients are clipped by the norm of all."""
        wrapper = super().build_optim_wrapper(optim_wrapper)
        if getattr(wrapper, "grad_name", None) == "grad_norm":
            wrapper.clip_func = self.strategy.clip_grad_norm
        return wrapper

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict:
        """Load a checkpoint of all experts; keep this process's."""
        with whole_experts(unwrapped(self.model)):
            return super().load_checkpoint(*args, **kwargs)

    def resume(self, *args: Any, **kwargs: Any) -> None:
        """Resume; keep the optimizer's state of this process's experts."""
        super().resume(*args, **kwargs)
        self.strategy.forget_states(self.optim_wrapper.optimizer)

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint of all experts; every process gives its own."""
        whole = self.strategy.whole_states(self.optim_wrapper.optimizer)
        with whole_experts(unwrapped(self.model)), whole:
            super().save_checkpoint(*args, **kwargs)
