"""What is measured: a whole model of a config, or a backbone, ours or of others."""

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS as ROOT
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmrev.datasets.batches import seeded
from mmrev.datasets.synthetic import BOXES
from mmrev.errors import UserError, nearest
from mmrev.measure.training_step import mean_square
from mmrev.models.backbones.base import Backbone
from mmrev.models.layers import Deployable, FadedReLU
from mmrev.models.stitching import StitchedBackbone
from mmrev.registry import MODELS
from mmrev.runs.config import load_config
from mmrev.runs.model import unlogged
from mmrev.runs.refusals import named_refusals
from mmrev.runs.scratch import scratch_model, take_size
from mmrev.runs.track import without_weights
from mmrev.runs.typical import training_batch
from mmrev.studies.memory_modes.networks import DTYPES, awake

__all__ = [
    "Levels",
    "Place",
    "Subject",
    "Whole",
    "build",
    "deploy",
    "deployable",
    "end_fades",
]

SOURCES = ("mmrev", "timm", "mmpretrain")
"""What may precede a backbone's name, as in mmrev:RevCol."""


@dataclass(frozen=True)
class Place:
    """On what a model is measured.

    Attributes:
        task: 'forward', evaluation without gradients; 'train', forward and backward.
        size: height and width of the images, pixels.
        batch: images.
        dtype: of autocast, of `DTYPES`.
        layout: of images and weights, 'contiguous' or 'channels_last'.
        boxes: in an image that a detector sees; None for the usual number.
        device: where.
    """

    task: str
    size: tuple[int, int]
    batch: int = 1
    dtype: str = "fp32"
    layout: str = "contiguous"
    boxes: int | None = None
    device: str = "cpu"

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the layout."""
        last = self.layout == "channels_last"
        return torch.channels_last if last else torch.contiguous_format

    @property
    def told(self) -> str:
        """In words."""
        height, width = self.size
        return f"{self.task} of {self.batch} x {height}x{width}"

    def autocast(self) -> Any:
        """Around a forward pass."""
        dtype = DTYPES[self.dtype]
        kind = torch.device(self.device).type
        return nullcontext() if dtype is None else torch.autocast(kind, dtype)


@dataclass(frozen=True)
class Subject(ABC):
    """A model to be measured.

    Attributes:
        name: as it was asked for.
        module: itself.
    """

    name: str
    module: nn.Module

    @abstractmethod
    def forward(self, module: nn.Module, place: Place) -> Callable[[], Any]:
        """A call that evaluates images; `module` is the subject's, or a form of it."""

    @abstractmethod
    def loss(self, module: nn.Module, place: Place) -> Callable[[], Tensor]:
        """A call that computes the loss of a training step; arguments as `forward`."""


class Levels(Subject):
    """A backbone, of images to levels; its loss is the mean square of all of these."""

    def forward(self, module: nn.Module, place: Place) -> Callable[[], list[Tensor]]:
        """As of `Subject`: the levels, (N, C, H, W)."""
        image = self._image(place)

        @torch.no_grad()
        def step() -> list[Tensor]:
            with place.autocast():
                levels = module(image)
            # Of timm's transformers they are (N, H, W, C).
            last = str(getattr(self.module, "output_fmt", "")) == "Format.NHWC"
            return [x.permute(0, 3, 1, 2) if last else x for x in levels]

        return step

    def loss(self, module: nn.Module, place: Place) -> Callable[[], Tensor]:
        """As of `Subject`."""
        return mean_square(module, self._image(place), DTYPES[place.dtype])

    def _image(self, place: Place) -> Tensor:
        with seeded(1):
            image = torch.randn(place.batch, 3, *place.size)
        return image.to(place.device, memory_format=place.memory_format)


@dataclass(frozen=True)
class Whole(Subject):
    """The whole model of a config, on noise with objects, from images to predictions.

    What it draws on the CPU while it trains, as noise of boxes, is the same each time.

    Attributes:
        cfg: the config.
    """

    cfg: Config = field(repr=False)

    def forward(self, module: nn.Module, place: Place) -> Callable[[], list]:
        """As of `Subject`: a test step, pre- and postprocessing included."""
        data = self._batch(module, place)

        @torch.no_grad()
        def step() -> list:
            with place.autocast():
                return module.test_step(data())

        return step

    def loss(self, module: nn.Module, place: Place) -> Callable[[], Tensor]:
        """As of `Subject`: the sum of the losses."""
        data = self._batch(module, place)

        def loss() -> Tensor:
            with seeded(0), place.autocast():
                batch = module.data_preprocessor(data(), True)
                losses = module(**batch, mode="loss")
            return module.parse_losses(losses)[0]

        return loss

    def _batch(self, module: nn.Module, place: Place) -> Callable[[], dict]:
        """Makes a batch anew: preprocessors change samples."""
        take_size(module, place.size)
        boxes = place.boxes or BOXES
        data = training_batch(self.cfg, place.size, place.batch, boxes)

        def batch() -> dict:
            samples = [sample.clone() for sample in data["data_samples"]]
            return {**data, "data_samples": samples}

        return batch


def build(
    name: str,
    options: Mapping[str, Any],
    size: tuple[int, int],
    *,
    backbone: bool = False,
    safe: bool = False,
) -> Subject:
    """Build what a name stands for, on the CPU, with the same weights each time.

    Args:
        name: path of a config; or source and name of a backbone, as timm:resnet50.
        options: overrides of the config by dotted key, or settings of the backbone.
        size: height and width of the images, for backbones that are built for it.
        backbone: whether of a config only its backbone is meant.
        safe: whether to take values alone from a config.

    Raises:
        UserError: there is no such thing, or it refuses its settings.
    """
    source, found, kind = name.partition(":")
    if found and source in SOURCES:
        if source == "timm":
            return _of_timm(name, kind, options, size)
        return _of_registry(name, source, kind, options, size)
    if not name.endswith(".py"):
        raise UserError(
            f"expected a config, or {', '.join(f'{one}:NAME' for one in SOURCES)}, got "
            f"{name}."
        )
    cfg = load_config(name, options, safe)
    init_default_scope(cfg.default_scope)
    if not backbone:
        return Whole(_titled(name, options), scratch_model(cfg), cfg)
    settings = cfg.model
    while "backbone" not in settings and "model" in settings:  # a wrapper of ours
        settings = settings.model
    if "backbone" not in settings:
        raise UserError(f"--backbone: the model of {name} has none.")
    title = _titled(f"{name}, backbone", options)
    return _of_settings(title, settings.backbone, cfg.default_scope)


def _titled(name: str, options: Mapping[str, Any]) -> str:
    return ", ".join([name, *(f"{key}={value}" for key, value in options.items())])


def _of_registry(
    name: str,
    scope: str,
    kind: str,
    options: Mapping[str, Any],
    size: tuple[int, int],
) -> Levels:
    known = _backbones(scope)
    if kind not in known:
        raise UserError(f"{name}: unknown backbone; {nearest(kind, known)}")
    settings = {"type": f"{scope}.{kind}", **options}
    parameters = inspect.signature(known[kind].__init__).parameters
    if "img_size" in parameters:
        settings.setdefault("img_size", size)
    return _of_settings(_titled(name, options), settings, scope)


def _backbones(scope: str) -> dict[str, type]:
    """The backbones of a toolbox by name."""
    MODELS.get("mmrev.RevCol")  # imports what is registered
    if scope == "mmrev":
        own = {name: MODELS.get(f"mmrev.{name}") for name in MODELS.module_dict}
        kinds = (Backbone, StitchedBackbone)
        return {name: cls for name, cls in own.items() if issubclass(cls, kinds)}
    ROOT.get(f"{scope}.ResNet")
    (registry,) = (one for key, one in ROOT.children.items() if key == scope)
    return {
        name: cls
        for name, cls in registry.module_dict.items()
        if ".backbones." in cls.__module__
    }


def _of_settings(title: str, settings: Mapping[str, Any], scope: str) -> Levels:
    settings = ConfigDict(copy.deepcopy(dict(settings)))
    without_weights(settings)
    cfg = Config(dict(model=settings, default_scope=scope))
    with _refusals(title), named_refusals(cfg), seeded(0), unlogged():
        module = ROOT.build(settings)
        if hasattr(module, "init_weights"):
            module.init_weights()
        if isinstance(module, Backbone | StitchedBackbone):
            awake(module)
    return Levels(title, module)


def _of_timm(
    name: str, kind: str, options: Mapping[str, Any], size: tuple[int, int]
) -> Levels:
    import timm  # with hundreds of models

    known = timm.list_models()
    if kind.partition(".")[0] not in known:
        raise UserError(f"{name}: timm has no such model; {nearest(kind, known)}")
    settings = {"features_only": True, **options}
    pretrained = timm.get_pretrained_cfg(kind)
    if pretrained is not None and pretrained.fixed_input_size:
        settings.setdefault("img_size", size)
    with _refusals(name), seeded(0):
        return Levels(_titled(name, options), timm.create_model(kind, **settings))


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Say in one line what a backbone refuses."""
    try:
        yield
    except (TypeError, ValueError, AssertionError, RuntimeError, KeyError) as error:
        text = str(error).strip().partition("\n")[0]
        raise UserError(f"{name}: {text or type(error).__name__}") from error


def deployable(subject: Subject) -> list[Deployable]:
    """The backbones of a subject that can be deployed.

    Raises:
        UserError: it has none.
    """
    found = [one for one in subject.module.modules() if isinstance(one, Deployable)]
    if not found:
        raise UserError(
            f"--deployed: expected VanillaNet or ReduceNet, or a config with one, got "
            f"{subject.name}."
        )
    return found


def deploy(subject: Subject) -> None:
    """Let a subject become its deployed form, as after a training.

    Raises:
        UserError: it has none.
    """
    end_fades(subject)
    for one in deployable(subject):
        one.eval()
        one.switch_to_deploy()


def end_fades(subject: Subject) -> None:
    """Let activations that fade away be gone, as at the end of a training."""
    for one in subject.module.modules():
        if isinstance(one, FadedReLU):
            one.fade.zero_()
