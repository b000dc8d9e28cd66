"""Measures a subject, and what it is compared with, place by place and form by form."""

import copy
import itertools
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from mmrev.console import quiet
from mmrev.errors import UserError
from mmrev.measure.costs import Cost, paired_costs
from mmrev.measure.flops import count_flops
from mmrev.measure.memory import process_peak
from mmrev.measure.speed import Spread
from mmrev.measure.training_step import loss_step
from mmrev.models.backbones.base import Backbone
from mmrev.runs.out_of_memory import is_out_of_memory
from mmrev.studies.benchmark.arguments import CHECKPOINT, OWN, PLAIN
from mmrev.studies.benchmark.plain import PlainRevCol
from mmrev.studies.benchmark.subjects import (
    Levels,
    Place,
    Subject,
    Whole,
    build,
    deploy,
    deployable,
    end_fades,
)
from mmrev.studies.memory_modes.networks import STOCK, use_memory

__all__ = ["Form", "Found", "measure"]

TRAINING_FORM = "training form"
ALIKE = 1e-3
"""Largest difference of outputs that are to be equal, relative, in single precision."""


@dataclass(frozen=True)
class Form:
    """One of what is measured in turn.

    Attributes:
        place: where; those that are compared have the same task, size and batch.
        other: whether it is what the subject is compared with.
        memory: mode of the backbone, None for that of its settings.
        compiled: whether by torch.compile.
    """

    place: Place
    other: bool = False
    memory: str | None = None
    compiled: bool = False


@dataclass(frozen=True)
class Found:
    """What was measured of a form.

    Attributes:
        name: of the model.
        form: itself.
        cost: time and memory of a step.
        params: parameters.
        flops: multiply-adds of an image, forward.
        loss: of a training step; None of a forward pass.
        process_peak: bytes of a process that does nothing else; None if not asked for.
        baseline: what it is compared with; None if that is itself.
        times: its time over the baseline's, round by round.
        difference: of its outputs from the baseline's, relative to the largest of a
            level; of a whole model, of their losses. None if they have other weights.
    """

    name: str
    form: Form
    cost: Cost
    params: int
    flops: int
    loss: float | None
    process_peak: int | None
    baseline: "Found | None"
    times: Spread | None
    difference: float | None


def measure(args: Namespace) -> Iterator[list[Found]]:
    """Measure as asked for.

    Args:
        args: of `run`, checked.

    Yields:
        What was measured in turn, at one place; a baseline precedes what is compared
        with it.

    Raises:
        UserError: names what is at fault.
    """
    quiet()
    groups = list(itertools.product(args.size, args.batch, args.task))
    console = Console(stderr=True)
    built = contest = None
    # In a file it would leave an empty line.
    shown = dict(console=console, transient=True, disable=not console.is_terminal)
    for group in track(groups, "measuring", **shown):
        size, batch, task = group
        if size != built:
            contest = None  # the models of another size go first
            contest, built = Contest(args, size), size
        yield contest.measure(list(_forms(args, size, batch, task)))


def _forms(
    args: Namespace, size: tuple[int, int], batch: int, task: str
) -> Iterator[Form]:
    """What is measured in turn, baselines first."""
    memories = args.memory or [None]
    if task == "forward":  # where all modes are the same
        memories = memories[:1]
    boxes = args.boxes or [None]
    ways = itertools.product(args.dtype, args.layout, boxes, args.compile)
    for *way, compiled in ways:
        place = Place(task, size, batch, *way, args.device)
        compiled = compiled == "compiled"
        if args.against:
            yield Form(place, other=True, compiled=compiled)
        for memory in memories:
            yield Form(place, memory=memory, compiled=compiled)


class Contest:
    """The models that are measured in turn, on images of one size.

    Args:
        args: of `run`, checked.
        size: height and width of the images, pixels; some models are built for it.
        only: 'subject' or 'other', to have nothing else in memory; None for both.

    Raises:
        UserError: there is no such model, or the two do not compute the same.
    """

    def __init__(self, args: Namespace, size: tuple[int, int], only: str | None = None):
        self.args = args
        self._place = Place("forward", size, device=args.device)
        self._modules: dict[tuple, nn.Module] = {}
        subject = self._subject()
        detects = isinstance(subject, Whole) and subject.cfg.default_scope == "mmdet"
        if args.boxes and not detects:
            raise UserError(f"--boxes are of a detector's config, got {subject.name}.")
        self._models = {False: subject}
        if args.against and only != "subject":
            self._models[True] = self._other(subject)
        if only == "other":
            del self._models[False], subject
        if only:
            return
        both = len(self._models) > 1
        self._difference = self._compare(*self._models.values()) if both else None
        self._flops = {key: self._count(model) for key, model in self._models.items()}

    def measure(self, forms: list[Form]) -> list[Found]:
        """Measure forms in turn; as `measure` yields it."""
        steps, losses = {}, {}
        for form in forms:
            steps[form] = self.step(form)
            name = self._models[form.other].name
            with self._refusals(name, form.place, form.compiled):
                found = steps[form]()
            losses[form] = found.item() if form.place.task == "train" else None
        args = self.args
        costs = paired_costs(steps, args.repeats, args.device, args.warm_up)
        found: list[Found] = []
        for form, cost in costs.items():
            model = self._models[form.other]
            baseline = _baseline(found, form)
            found.append(
                Found(
                    name=model.name,
                    form=form,
                    cost=cost,
                    params=sum(p.numel() for p in model.module.parameters()),
                    flops=self._flops[form.other],
                    loss=losses[form],
                    process_peak=self._alone(form) if args.process_peak else None,
                    baseline=baseline,
                    times=baseline and cost.over(baseline.cost),
                    difference=None if form.other else self._difference,
                )
            )
        return found

    def step(self, form: Form) -> Callable[[], Any]:
        """What is measured of a form."""
        model, module = self._models[form.other], self._module(form)
        module.train(form.place.task == "train")
        if form.place.task == "forward":
            return model.forward(module, form.place)
        return loss_step(module, model.loss(module, form.place))

    def _module(self, form: Form) -> nn.Module:
        """A form's own module, whose weights are the model's wherever they can be."""
        key = form.other, form.memory, form.place.layout, form.compiled
        if key not in self._modules:
            module = self._models[form.other].module
            weights = [*module.parameters(), *module.buffers()]
            # Others need a layout of their own.
            own = form.place.layout == "channels_last"
            module = copy.deepcopy(module, {} if own else {id(w): w for w in weights})
            module.to(memory_format=form.place.memory_format)
            if form.memory:
                self._use_memory(module, form)
            if form.compiled:
                module.compile()
            self._modules[key] = module
        return self._modules[key]

    def _use_memory(self, module: nn.Module, form: Form) -> None:
        backbones = [one for one in module.modules() if isinstance(one, Backbone)]
        if not backbones:
            raise UserError(
                f"--memory: {self._models[form.other].name} has no memory modes; "
                "backbones of mmrev have."
            )
        for backbone in backbones:
            try:
                use_memory(
                    backbone, STOCK if form.memory == CHECKPOINT else form.memory
                )
            except ValueError as error:
                raise UserError(f"--memory {form.memory}: {error}") from error

    def _subject(self) -> Subject:
        args = self.args
        subject = self._built(args.what[0], args.cfg_options)
        if not args.deployed:
            return subject
        deploy(subject)
        return replace(subject, name=f"{subject.name}, deployed")

    def _other(self, subject: Subject) -> Subject:
        args = self.args
        if args.against == OWN:
            options = {**args.cfg_options, **args.against_options}
            other = self._built(args.what[0], options)
            if args.deployed:
                end_fades(other)
            return replace(other, name=_own_name(args))
        if args.against == PLAIN:
            try:
                module = PlainRevCol(subject.module).to(args.device)
            except ValueError as error:
                raise UserError(f"--against {error}") from error
            return Levels(PLAIN, module)
        other = self._built(args.against, args.against_options)
        if isinstance(other, Levels) != isinstance(subject, Levels):
            raise UserError(
                f"--against {args.against}: a whole model and a backbone do not "
                "compute the same; --backbone measures that of the config alone."
            )
        if args.against.startswith("timm:") and "out_indices" not in (
            options := args.against_options
        ):
            wanted, there = map(_shapes, map(self._levels, (subject, other)))
            indices = [there.index(shape) for shape in wanted if shape in there]
            if len(indices) == len(wanted) < len(there):  # without what is not compared
                options = {**options, "out_indices": indices}
                other = replace(self._built(args.against, options), name=other.name)
        return other

    def _built(self, name: str, options: dict[str, Any]) -> Subject:
        args = self.args
        model = build(
            name,
            options,
            self._place.size,
            backbone=args.backbone and name.endswith(".py"),
            safe=args.safe_config,
        )
        model.module.to(args.device)
        return model

    def _compare(self, subject: Subject, other: Subject) -> float | None:
        """How far the subject's outputs are from the other's; as of `Found`.

        Raises:
            UserError: they are of other shapes; or not the same though they must be.
        """
        args = self.args
        both = (subject, other)
        same = args.against in (OWN, PLAIN)  # with the same weights
        pairs = []
        if isinstance(subject, Levels):
            levels = list(map(self._levels, both))
            wanted, found = map(_shapes, levels)
            if wanted != found:
                raise UserError(
                    f"--against {args.against}: expected levels of {_told(wanted)}, as "
                    f"of {subject.name}, got {_told(found)}; choose them by "
                    "out_indices in --cfg-options and --against-options."
                )
            pairs = list(zip(*levels, strict=True))
        elif same and args.deployed:  # in training its form computes something else
            parts = [Levels(one.name, deployable(one)[0]) for one in both]
            pairs = list(zip(*map(self._levels, parts), strict=True))
        elif same:
            pairs = [tuple(map(self._loss, both))]
        if not same:
            return None
        difference = max(map(_difference, pairs))
        if (args.against == PLAIN or args.deployed) and not difference <= ALIKE:
            raise UserError(
                f"--against {args.against}: {subject.name} and {other.name} must "
                f"compute the same, but differ by {difference:.1e} of the largest "
                f"output, more than {ALIKE:.0e}; there is no ratio of what is not the "
                "same."
            )
        return difference

    def _levels(self, model: Subject) -> list[Tensor]:
        model.module.eval()
        with self._refusals(model.name, self._place):
            return model.forward(model.module, self._place)()

    def _loss(self, model: Subject) -> Tensor:
        place = replace(self._place, task="train")
        model.module.train()
        with self._refusals(model.name, place), torch.no_grad():
            return model.loss(model.module, place)()

    def _count(self, model: Subject) -> int:
        model.module.eval()
        with self._refusals(model.name, self._place):
            return count_flops(model.forward(model.module, self._place))

    def _alone(self, form: Form) -> int:
        """The peak of a process that does nothing but a form."""
        try:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                return process.submit(_process_peak, self.args, form).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"--process-peak: the process of {self._models[form.other].name} has "
                "ended before its time, as where memory is short; take a smaller "
                "--size or --batch, or --no-process-peak."
            ) from error

    @contextmanager
    def _refusals(self, name: str, place: Place, compiled: bool = False):
        """Say in one line what a model cannot do at a place."""
        try:
            yield
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            text = str(error).strip().partition("\n")[0] or type(error).__name__
            if is_out_of_memory(error):
                raise UserError(
                    f"{place.device} has not enough memory for {name}, {place.told}; "
                    "take a smaller --size or --batch, or --memory recompute."
                ) from error
            if compiled:
                raise UserError(
                    f"--compile compiled: {name} cannot be compiled here: {text}"
                ) from error
            if place.dtype != "fp32":
                text = f"{text} (--dtype {place.dtype} on {place.device})"
            raise UserError(f"{name}, {place.told}: {text}") from error


def _baseline(found: list[Found], form: Form) -> Found | None:
    """Of what was measured before a form, what it is compared with."""
    if not found or form.other:
        return None
    if not found[0].form.other:
        return found[0]
    wanted = Form(form.place, other=True, compiled=form.compiled)
    return next(one for one in found if one.form == wanted)


def _process_peak(args: Namespace, form: Form) -> int:
    quiet()
    only = "other" if form.other else "subject"
    step = Contest(args, form.place.size, only).step(form)
    return process_peak(lambda: (step(), step()), args.device)


def _own_name(args: Namespace) -> str:
    changed = [f"{key}={value}" for key, value in args.against_options.items()]
    return ", ".join([TRAINING_FORM if args.deployed else OWN, *changed])


def _shapes(levels: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(level.shape[1:]) for level in levels]


def _told(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def _difference(pair: tuple[Tensor, Tensor]) -> float:
    found, expected = (one.double() for one in pair)
    return ((found - expected).abs().max() / expected.abs().max()).item()
