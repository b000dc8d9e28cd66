"""Backbones on the device, against the CPU and against themselves."""

import copy
import gc
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from mmrev.measure.training_step import training_step
from mmrev.studies.gpu_check.costs import event_waits, host_syncs
from mmrev.studies.gpu_check.models import (
    FAMILIES,
    LevelsModel,
    add_dropout,
    build,
    cast,
    distance,
    gradient_error,
    gradients_of,
    level_error,
    levels_of,
    picture,
    stitched,
    weighed,
)
from mmrev.studies.gpu_check.place import Place
from mmrev.studies.gpu_check.report import NEEDS_GPU
from mmrev.studies.gpu_check.worker import Row, compared
from mmrev.studies.memory_modes.networks import use_memory

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SCALER_START, MOST_SHRUNK = 128.0, 16.0
# Relative to the largest magnitude. Another order of summation in single precision may
# err as much more than the CPU's own does, and by this on top.
CPU_ERRORS, FP32_FLOOR = 10.0, 2e-5
# Of half precision, against double precision; of gradients all together, as a single
# one jumps with a unit that is switched on or off. On a CPU they were four to eight
# times less.
LEVEL_BOUNDS = {"bf16": 0.06, "fp16": 0.01}
GRADIENT_BOUNDS = {"bf16": 0.5, "fp16": 0.2}
# Of a memory mode against 'store', over what the device does not repeat itself, as by
# sums in any order. Where it repeats everything, gradients have to be equal.
UNREPEATED, REPEATS = 4.0, 3
ROUTES = {"levels": 1e-4, "gradients": 1e-3}
NORMS = ("vanillanet", "reducenet")
"""Families with BatchNorm."""
# Those whose memory modes, plans or kept kernels could hold on to something.
LEAKING = ("revcol", "swinv2", "nfnet")


def levels_and_gradients(place: Place, family: str, form: str) -> Iterator[Row]:
    """Against double precision on the CPU, and in half precision."""
    config = FAMILIES[family].config(form, memory="store")
    if family in NORMS:  # whose statistics of a small batch magnify any rounding
        config["norm_eval"] = True
    # In a deep network single gradients jump with a ReLU that is switched on or off.
    single = gradient_error if form == "small" else distance
    for mode, measure, error_of, halves_error_of, bounds in (
        ("levels", levels_of, level_error, level_error, LEVEL_BOUNDS),
        ("gradients", gradients_of, single, distance, GRADIENT_BOUNDS),
    ):
        image = picture(form)
        model = build(config).train(mode == "gradients")
        exact = measure(copy.deepcopy(model).double(), image.double())
        own = error_of(measure(copy.deepcopy(model), image), exact)
        model, image = model.to(place.device), image.to(place.device)
        bound = CPU_ERRORS * own + FP32_FLOOR
        error = error_of(measure(model, image), exact)
        yield {**compared(f"{mode}, fp32", error, bound), "of the CPU": own}
        for name, dtype in HALVES.items():
            error = halves_error_of(measure(model, image, dtype), exact)
            yield compared(f"{mode}, {name}", error, bounds[name])
        model = model.to(memory_format=torch.channels_last)
        image = image.contiguous(memory_format=torch.channels_last)
        error = error_of(measure(model, image), exact)
        yield compared(f"{mode}, fp32, channels_last", error, bound)
    if family in NORMS and form == "small":
        yield _batch_statistics(place, config)


def _batch_statistics(place: Place, config: dict) -> Row:
    model, image = build({**config, "norm_eval": False}), picture("small")
    exact = gradients_of(copy.deepcopy(model).double(), image.double())
    own = gradient_error(gradients_of(copy.deepcopy(model), image), exact)
    found = gradients_of(model.to(place.device), image.to(place.device))
    error = gradient_error(found, exact)
    row = compared(
        "gradients, fp32, statistics of the batch",
        error,
        CPU_ERRORS * own + FP32_FLOOR,
    )
    return {**row, "of the CPU": own}


def memory_modes(place: Place, family: str, form: str) -> Iterator[Row]:
    """Gradients of every mode against those of 'store', random numbers included."""
    config = FAMILIES[family].coupled(form)
    if family in NORMS and form == "full":  # as in `levels_and_gradients`
        config["norm_eval"] = True
    model = build(config).train().to(place.device)
    image = picture(form).to(place.device)
    for name, dtype in {"fp32": None, **HALVES}.items():
        yield from _modes(model, family, image, dtype, name)


def replay(place: Place, family: str, form: str = "small") -> Iterator[Row]:
    """Drop path and dropout draw again what they drew, on the device's generator."""
    config = FAMILIES[family].coupled(form)
    if family != "vanillanet":  # which has no drop path
        config["drop_path_rate"] = 0.5
    model = build(config)
    add_dropout(model)
    model = model.to(place.device)
    image = picture(form, batch=4).to(place.device)
    use_memory(model, "store")
    first = gradients_of(model, image)
    other = gradient_error(gradients_of(model, image, seed=5), first)
    yield {
        "what": "another seed gives other gradients",
        "error": other,
        "bound": "> 0.01",
        "passed": other > 0.01,
    }
    for name, dtype in {"fp32": None, "bf16": torch.bfloat16}.items():
        yield from _modes(model, family, image, dtype, name)


def _modes(
    model: nn.Module,
    family: str,
    image: Tensor,
    dtype: torch.dtype | None,
    name: str,
) -> Iterator[Row]:
    use_memory(model, "store")
    expected = gradients_of(model, image, dtype)
    left = _generators(image.device)
    own = max(
        gradient_error(gradients_of(model, image, dtype), expected)
        for _ in range(REPEATS)
    )
    yield {"what": f"store against itself, {name}", "error": own}
    for memory in FAMILIES[family].memories[1:]:
        use_memory(model, memory)
        found = gradients_of(model, image, dtype)
        error = gradient_error(found, expected)
        row = compared(f"{memory} against store, {name}", error, UNREPEATED * own)
        unequal = sum(not torch.equal(found[k], one) for k, one in expected.items())
        yield {**row, "unequal": f"{unequal} of {len(expected)}"}
        same = all(map(torch.equal, _generators(image.device), left))
        what = f"{memory} leaves generators as store does, {name}"
        yield compared(what, float(not same), 0.0)


def _generators(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def guard(place: Place) -> Iterator[Row]:
    """A module that does not compute the same again ends the step in an error."""
    for family, one in FAMILIES.items():
        if "reverse" not in one.memories:
            continue
        model, image = build(one.coupled("small")), picture("small").to(place.device)
        use_memory(model, "reverse")
        said = "nothing"
        calls = itertools.count()
        _in_the_middle(model).register_forward_hook(
            lambda _, __, output, calls=calls: output + 1e-3 * next(calls)
        )
        try:
            gradients_of(model.to(place.device), image)
        except RuntimeError as error:
            said = str(error)
        passed = "did not compute the same" in said
        yield {"what": family, "said": said[:120], "passed": passed}


def _in_the_middle(model: nn.Module) -> nn.Module:
    """A module that 'reverse' runs again, and finds a state by."""
    if hasattr(model, "columns"):
        return model.columns[2].levels[1]
    chain = max(map(model.chain, model.stages), key=len)
    return chain[-2]


def host_waits(place: Place) -> Iterator[Row]:
    """'reverse' has the host wait but once more than 'recompute', at the very end.

    It also waits for events that tell how long corrections are; how many of these had
    not happened yet is no fault, and shows how far the host runs ahead.
    """
    for family, one in FAMILIES.items():
        if "reverse" not in one.memories:
            continue
        model = build(one.coupled("small")).to(place.device)
        step = training_step(model, picture("small").to(place.device))
        counts = {}
        for memory in ("recompute", "reverse"):
            use_memory(model, memory)
            step()
            waits = host_syncs(place, step)
            if waits is None:
                yield {"what": f"{family}, {memory}", "note": NEEDS_GPU}
                continue
            counts[memory] = waits.total()
            events, late = event_waits(step)
            yield {
                "what": f"{family}, {memory}",
                "host waits": waits.total(),
                "at": ", ".join(f"{line} ({n})" for line, n in waits.most_common(3)),
                "events": events,
                "not there yet": late,
                "passed": waits.total() <= counts["recompute"] + 1,
            }


def scaled_steps(place: Place, family: str) -> Iterator[Row]:
    """Steps in fp16 with torch's GradScaler, each memory mode."""
    config = FAMILIES[family].coupled("small")
    image = picture("small").to(place.device)
    for memory in FAMILIES[family].memories:
        model = build(config).to(place.device)
        use_memory(model, memory)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        scaler = torch.amp.GradScaler(place.device.type, init_scale=SCALER_START)
        before = _flat(model)
        losses = []
        for _ in range(6):
            optimizer.zero_grad()
            with cast(place.device, torch.float16):
                loss = weighed(model(image))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            losses.append(loss.item())
        moved = (_flat(model) - before).abs().max().item()
        # A step that overflows is left out and halves the scale, at first not seldom.
        skipped = SCALER_START / scaler.get_scale()
        yield {
            "what": memory,
            "losses": ", ".join(f"{loss:.4f}" for loss in losses),
            "scale shrunk by": skipped,
            "passed": 0 < moved < float("inf")
            and losses[-1] < losses[0]
            and skipped <= MOST_SHRUNK,
        }


def optimizer_steps(place: Place, family: str) -> Iterator[Row]:
    """Steps with AGC and with SAM, against the CPU's."""
    for name, settings in {
        "AGC": {"type": "mmrev.AGCOptimWrapper", "clip_factor": 0.01},
        "SAM": {"type": "mmrev.SAMOptimWrapper", "clip_factor": None},
        "SAM with AGC": {"type": "mmrev.SAMOptimWrapper", "clip_factor": 0.01},
    }.items():
        cpu = torch.device("cpu")
        exact = _update(family, cpu, settings, torch.float64)
        own = level_error([_update(family, cpu, settings)], [exact])
        error = level_error([_update(family, place.device, settings)], [exact])
        row = compared(name, error, CPU_ERRORS * own + FP32_FLOOR)
        yield {**row, "of the CPU": own}
    for name in ("AGCAmpOptimWrapper", "SAMAmpOptimWrapper"):
        if not place.is_gpu:  # mmengine refuses fp16 elsewhere
            yield {"what": name, "note": NEEDS_GPU}
            continue
        update = _update(family, place.device, {"type": f"mmrev.{name}"})
        size = update.abs().max().item()
        row = {"what": name, "largest update": size}
        yield {**row, "passed": 0 < size < float("inf")}


def _update(
    family: str,
    device: torch.device,
    settings: dict,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """What two steps change in the parameters, in a row."""
    model = LevelsModel(build(FAMILIES[family].config("small"))).to(device, dtype)
    optimizer = {"type": "SGD", "lr": 0.1, "momentum": 0.9}
    wrapper = build_optim_wrapper(model, {"optimizer": optimizer, **settings})
    if hasattr(wrapper, "loss_scaler"):  # or the first steps only find the scale
        wrapper.loss_scaler = torch.amp.GradScaler("cuda", init_scale=SCALER_START)
    before, image = _flat(model), picture("small").to(device, dtype)
    for _ in range(2):
        model.train_step({"inputs": image}, wrapper)
    return _flat(model) - before


def _flat(model: nn.Module) -> Tensor:
    rows = [p.detach().flatten().to("cpu", torch.float64) for p in model.parameters()]
    return torch.cat(rows)


def stitches(place: Place) -> Iterator[Row]:
    """Every route of a stitched backbone, one after the other, and back again."""
    here = build(stitched()).eval()
    there = copy.deepcopy(here).to(place.device)
    image = picture("small")
    first: dict[int, list[Tensor]] = {}
    for route in [*here.stitch_ids, *reversed(here.stitch_ids)]:
        for model in (here, there):
            model.set_stitch(route)
        found = levels_of(there, image.to(place.device))
        if route not in first:
            first[route] = found
            error = level_error(found, levels_of(here, image))
            yield compared(f"levels of route {route}", error, ROUTES["levels"])
        elif error := level_error(found, first[route]):
            yield compared(f"levels of route {route}, again", error, 0.0)
    here.train(), there.train()
    for route in here.stitch_ids:
        here.set_stitch(route), there.set_stitch(route)
        found = gradients_of(there, image.to(place.device))
        error = gradient_error(found, gradients_of(here, image))
        yield compared(f"gradients of route {route}", error, ROUTES["gradients"])


def no_leak(place: Place) -> Iterator[Row]:
    """The allocator's peak after 50 steps is that after 10."""
    early, late = (2, 4) if place.is_tiny else (10, 50)
    cases = [(f, m) for f in LEAKING for m in FAMILIES[f].memories]
    for family, memory in cases:
        model = build(FAMILIES[family].coupled("small", drop_path_rate=0.1))
        model = model.to(place.device)
        use_memory(model, memory)
        step = partial(_sgd_step, model, picture("small").to(place.device))
        yield from growth(place, f"{family}, {memory}", step, early, late)
        del model, step


def _sgd_step(model: nn.Module, image: Tensor) -> None:
    weighed(model(image)).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-1e-4)
    model.zero_grad(set_to_none=True)


def growth(
    place: Place, what: str, step: Callable[[], object], early: int, late: int
) -> Iterator[Row]:
    """Run steps, and compare memory after `early` of them with that after `late`."""
    place.clean()
    peaks, held = [], []
    for count in (early, late - early):
        for _ in range(count):
            step()
        if place.is_gpu:
            peaks.append(torch.cuda.max_memory_allocated(place.device))
            gc.collect()
            held.append(torch.cuda.memory_allocated(place.device))
    if not place.is_gpu:
        yield {"what": what, "note": NEEDS_GPU}
        return
    yield {
        "what": what,
        f"peak MiB after {early}": peaks[0] / 2**20,
        f"after {late}": peaks[1] / 2**20,
        "held MiB": held[1] / 2**20,
        "passed": peaks[0] == peaks[1] and held[1] <= held[0],
    }
