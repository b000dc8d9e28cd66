"""Trial steps of a config's training, of noise, with weights that need not fit."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from math import prod, sqrt

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn

from mmrev.datasets.batches import seeded
from mmrev.engine.strategies.units import find_units
from mmrev.errors import UserError
from mmrev.measure.flops import count_flops
from mmrev.measure.memory import held_memory, peak_memory
from mmrev.measure.phases import phases, shared_weights
from mmrev.measure.speed import paired_times
from mmrev.models.backbones import FrozenBackbone
from mmrev.models.backbones.base import Backbone
from mmrev.models.head_memory import head_parts, recompute_head, store_head
from mmrev.models.layers.keeping import forget_kept
from mmrev.models.stitching import StitchedBackbone
from mmrev.reversible import MEMORY_MODES
from mmrev.runs.costs import Sample, StepCosts, WeightCosts
from mmrev.runs.head_memory import apply_head_memory, head_memory
from mmrev.runs.model import unlogged
from mmrev.runs.nodes import custom_hooks
from mmrev.runs.refusals import named_refusals
from mmrev.runs.scratch import scratch_model, take_size
from mmrev.runs.typical import training_batch

__all__ = ["PRECISIONS", "Trial", "memory_of", "own_precision"]

PRECISIONS = ("float32", "bfloat16")
_PLAIN = ("OptimWrapper", "AGCOptimWrapper", "SAMOptimWrapper")
# Areas of the images that are measured, and those for as many parameters, whose steps
# take long. Their sides are multiples of what levels are padded to.
_AREAS, _LARGE, _AREAS_IF_LARGE = (256**2, 384**2), 5e8, (192**2, 256**2)
_MULTIPLE = 64
# Elements of the parameters by which an optimizer is measured.
_ELEMENTS = 2**16


class Trial:
    """Measures training steps of a config's model, without data, weights or a GPU.

    Args:
        cfg: of `load_config`, whose scope has been entered.
        device: where the steps run.

    Attributes:
        memory: the modes that the whole backbone can have; one of its stages that
            cannot has the one that keeps least.
        head_memory: the mode of the head in what is measured, of the config at first.
        weights: what the weights bring along.

    Raises:
        UserError: the config has a mistake, or no backbone of mmrev.
    """

    def __init__(self, cfg: Config, device: str | torch.device = "cpu"):
        for key in ("train_dataloader", "optim_wrapper"):
            if cfg.get(key) is None:
                raise UserError(f"{cfg.filename}: no {key}; there is no training.")
        self.cfg, self.device = cfg, torch.device(device)
        with shared_weights():
            self.model = scratch_model(cfg)
        self.model.to(self.device).train()
        self._backbones, self._stitched = _with_modes(self.model)
        if not memory_of(self.model):
            raise UserError(
                f"{cfg.filename}: expected a model with a backbone of mmrev, whose "
                "memory modes can be planned, got none."
            )
        for backbone in self._backbones:
            backbone.memory_budget_mb = None
        self._own = [one.memory for one in (*self._backbones, *self._stitched)]
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                # Those of all blocks are never there together.
                parameter.register_post_accumulate_grad_hook(_drop)
        self.head_memory = head_memory(cfg)
        self._images: dict[tuple, float] = {}
        self.weights = self._weights()

    @property
    def memory(self) -> list[str]:
        """The modes that the backbone can have, the one that keeps least last.

        'frozen' alone of one that keeps nothing in any.
        """
        if not self._backbones and not self._stitched:
            return memory_of(self.model)
        found = {
            mode
            for backbone in self._backbones
            for choices in backbone.memory_choices()
            for mode in choices
        }
        for backbone in self._stitched:
            found |= {"store", "recompute", *(["reverse"] * bool(backbone.coupling))}
        return [mode for mode in MEMORY_MODES if mode in found]

    def partly(self, mode: str) -> list[list[str]]:
        """What lies between 'store' and a mode: the first stages in it, ever more.

        Of a model with one backbone of mmrev, whose stages have modes of their own.
        """
        if len(self._backbones) != 1 or self._stitched or mode == "store":
            return []
        choices = self._backbones[0].memory_choices()
        modes = [mode if mode in one else one[-1] for one in choices]
        return [
            [*modes[:count], *["store"] * (len(modes) - count)]
            for count in range(1, len(modes))
        ]

    @property
    def heads(self) -> list[str]:
        """The modes that the head can have beside the config's, which is the first."""
        own = head_memory(self.cfg)
        other = own == "store" and head_parts(self.model)
        return [own, "recompute"] if other else [own]

    def set_head_memory(self, memory: str) -> None:
        """Measure with the head in one of `heads`."""
        store_head(self.model)
        apply_head_memory(self.cfg, self.model)
        if memory == "recompute":
            recompute_head(self.model)
        self.head_memory = memory

    def step_costs(
        self, memory: str | Sequence[str] | None, precision: str, size: tuple[int, int]
    ) -> StepCosts:
        """Measure how a step grows up to a size of the images.

        Args:
            memory: a mode; modes of the stages of the only backbone; None, those of the
                config.
            precision: one of `PRECISIONS`.
            size: height and width, pixels. Images that are not much larger than those
                measured otherwise are measured themselves.
        """
        self._set_memory(memory)
        wrapper = self._optim_wrapper(precision)
        places = itertools.product(self.sizes(size), (1, 2))
        return StepCosts(self.weights, [self._sample(wrapper, *one) for one in places])

    def flops(
        self, memory: str | Sequence[str] | None, batch: int, size: tuple[int, int]
    ) -> float:
        """Multiply-adds of a step, what runs again in a memory mode included.

        They are counted for one image at the sizes of `step_costs`.

        Args:
            memory: as of `step_costs`.
            batch: images.
            size: height and width, pixels.
        """

        def count(step: Callable[[], None]) -> int:
            return count_flops(step)

        # Every precision has as many.
        return batch * self._image(count, memory, PRECISIONS[0], size)

    def seconds(
        self,
        memory: str | Sequence[str] | None,
        precision: str,
        batch: int,
        size: tuple[int, int],
    ) -> float:
        """Seconds of forward and backward pass here, from one image as `flops`.

        Of small images as many are measured at once as have the pixels of a large one:
        most of what one alone takes is not its own.
        """

        def timed(step: Callable[[], None]) -> float:
            return paired_times({"": step}, 1, self.device)[""]

        if (count := min(batch, _AREAS[1] // prod(size))) > 1:
            self._set_memory(memory)
            step = self._step(self._optim_wrapper(precision), size, count)
            return batch / count * timed(step)
        return batch * self._image(timed, memory, precision, size)

    def _image(
        self,
        measure: Callable[[Callable[[], None]], float],
        memory: str | Sequence[str] | None,
        precision: str,
        size: tuple[int, int],
    ) -> float:
        """What a step with one image of a size costs, measured once for all batches."""
        key = measure.__name__, str(memory), self.head_memory, precision, size
        if key not in self._images:
            self._set_memory(memory)
            wrapper = self._optim_wrapper(precision)
            sizes = self.sizes(size)
            found = [measure(self._step(wrapper, one, 1)) for one in sizes]
            self._images[key] = found[0]
            if len(sizes) > 1:
                small, large = map(prod, sizes)
                slope = max(0.0, found[1] - found[0]) / (large - small)
                self._images[key] += slope * (prod(size) - small)
        return self._images[key]

    def _set_memory(self, memory: str | Sequence[str] | None) -> None:
        every = (*self._backbones, *self._stitched)
        for backbone, own in zip(every, self._own, strict=True):
            if memory is None:
                modes = own
            elif isinstance(memory, str) and isinstance(backbone, Backbone):
                choices = backbone.memory_choices()
                modes = [memory if memory in one else one[-1] for one in choices]
            else:
                modes = memory
            if isinstance(backbone, Backbone):
                backbone.set_memory(modes)
            else:
                backbone.memory = modes

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """The sizes to measure, of the shape of images of a size."""
        large = self.weights.weights > 4 * _LARGE
        areas = _AREAS_IF_LARGE if large else _AREAS
        if prod(size) <= areas[1]:
            return [size]
        return [
            tuple(
                _MULTIPLE * max(1, round(side * sqrt(area / prod(size)) / _MULTIPLE))
                for side in size
            )
            for area in areas
        ]

    def _sample(
        self, wrapper: OptimWrapper, size: tuple[int, int], batch: int
    ) -> Sample:
        step = self._step(wrapper, size, batch)
        # What was computed once for a size, or for frozen weights, is there in a
        # training, too.
        forget_kept()
        self.model.train()
        found = phases(step, self.model, self.device)
        return Sample(size, batch, found)

    def _step(
        self, wrapper: OptimWrapper, size: tuple[int, int], batch: int
    ) -> Callable[[], None]:
        """Forward and backward pass, as the wrapper has them, without its update."""
        take_size(self.model, size)
        data = training_batch(self.cfg, size, batch)

        @torch.enable_grad()
        def step() -> None:
            # The preprocessor changes samples.
            samples = [sample.clone() for sample in data["data_samples"]]
            with seeded(0):
                self.model.train_step({**data, "data_samples": samples}, wrapper)

        return step

    def _optim_wrapper(self, precision: str) -> OptimWrapper:
        settings = ConfigDict(self.cfg.optim_wrapper)
        for key in ("loss_scale", "dtype", "use_fp16"):
            settings.pop(key, None)
        kind = _plain_wrapper(self.cfg)
        if precision == "bfloat16":
            kind = kind.replace("Optim", "BFloat16Optim")
        settings.type = kind if kind == "OptimWrapper" else f"mmrev.{kind}"
        with named_refusals(self.cfg), unlogged():
            wrapper = build_optim_wrapper(self.model, settings)
        wrapper.optimizer.step = lambda: None
        return wrapper

    def _weights(self) -> WeightCosts:
        parameters = _bytes(self.model.parameters())
        weights = parameters + _bytes(self.model.buffers())
        trained = [p.nbytes for p in self.model.parameters() if p.requires_grad]
        gradients, largest = sum(trained), max(trained)
        units = find_units(self.model)
        blocks = sorted((_bytes(unit.parameters()) for unit in units), reverse=True)
        alone, both = (self._optimizer(count) for count in (1, 2))
        in_turn = both[1] < 1.5 * alone[1]  # or all together
        averages = len(list(custom_hooks(self.cfg, EMAHook)))
        displaced = _plain_wrapper(self.cfg).startswith("SAM")
        return WeightCosts(
            weights=weights,
            gradients=gradients,
            state=round(alone[0] * gradients),
            copies=averages * weights + displaced * gradients,
            update=round(alone[1] * (largest if in_turn else gradients)),
            gathered=sum(blocks[:1]) + parameters - sum(blocks[1:]),
        )

    def _optimizer(self, count: int) -> tuple[float, float]:
        """What the optimizer keeps of some parameters, and takes beside at a step.

        Both over the bytes of one of them.
        """
        parameters = [
            nn.Parameter(torch.ones(_ELEMENTS, device=self.device))
            for _ in range(count)
        ]
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        settings = {**self.cfg.optim_wrapper.optimizer, "params": parameters}
        with named_refusals(self.cfg):
            optimizer = OPTIMIZERS.build(settings)
        size = parameters[0].nbytes
        kept = held_memory(optimizer.step, self.device)
        return kept / size, peak_memory(optimizer.step, self.device) / size


def _with_modes(model: nn.Module) -> tuple[list[Backbone], list[StitchedBackbone]]:
    """What has memory modes in a model; of stitched ones, for anchors of others."""
    frozen = {id(inner) for one in _frozen(model) for inner in one.modules()}
    modules = [module for module in model.modules() if id(module) not in frozen]
    stitched = [
        module
        for module in modules
        if isinstance(module, StitchedBackbone)
        and not all(anchor.has_modes for anchor in module.runners)
    ]
    return [module for module in modules if isinstance(module, Backbone)], stitched


def _frozen(model: nn.Module) -> list[FrozenBackbone]:
    return [module for module in model.modules() if isinstance(module, FrozenBackbone)]


def memory_of(model: nn.Module) -> list[str]:
    """The memory modes in which the stages of a model's backbones train.

    'frozen' if none trains.
    """
    backbones, stitched = _with_modes(model)
    modes = [mode for backbone in backbones for mode in backbone.memory]
    modes += [backbone.memory for backbone in stitched]
    return modes or ["frozen"] * bool(_frozen(model))


def own_precision(cfg: Config) -> str:
    """Of `PRECISIONS`, the one in which a config trains."""
    kind = _wrapper(cfg)
    return "bfloat16" if "Amp" in kind or "BFloat16" in kind else "float32"


def _wrapper(cfg: Config) -> str:
    return str(cfg.optim_wrapper.get("type", "OptimWrapper")).removeprefix("mmrev.")


def _plain_wrapper(cfg: Config) -> str:
    """The type of a config's optimizer wrapper in single precision.

    Raises:
        UserError: it is not one of those whose half-precision forms are known.
    """
    kind = _wrapper(cfg)
    plain = kind.replace("Amp", "").replace("BFloat16", "")
    if plain not in _PLAIN:
        raise UserError(
            f"{cfg.filename}: expected optim_wrapper.type one of {', '.join(_PLAIN)}, "
            f"or a half-precision form of one, got {kind}; its steps are not known."
        )
    return plain


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
