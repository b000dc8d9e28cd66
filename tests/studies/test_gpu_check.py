"""The check of a GPU is complete on a CPU, isolates what fails, and loses nothing."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch

from mmrev.errors import UserError
from mmrev.studies import gpu_check
from mmrev.studies.gpu_check import (
    correctness,
    costs,
    models,
    speed,
    supervisor,
    whole,
)
from mmrev.studies.gpu_check.place import Place, exactness
from mmrev.studies.gpu_check.plan import checks
from mmrev.studies.gpu_check.report import Report
from mmrev.studies.gpu_check.worker import Check, OutOfTime, compared, work
from mmrev.studies.memory_modes.networks import STOCK

CPU = Place(torch.device("cpu"), "tiny")
ROOT = Path(__file__).parents[2]


def good(place):
    yield compared("a sum", 1e-6, 1e-5)


def bad(place):
    yield compared("a product", float("nan"), 1e-5)
    yield compared("a root", 0.0, 1e-5)


def broken(place):
    yield compared("a sum", 0.0, 1e-5)
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 GiB.\n")


def endless(place):
    yield {"what": "begun", "ms": 1.0}
    while True:
        time.sleep(0.01)


def without_gpu(place):
    yield {"what": "peak", "note": "needs a GPU"}


def worked(tmp_path, minutes=1.0, **rows):
    """Run checks of these names; a name that ends in 'speed' is no correctness."""
    report = Report(tmp_path, {"began": time.time(), "minutes": minutes})
    plan = [
        Check(name, "speed" if name.endswith("speed") else "correctness", one, 0.5)
        for name, one in rows.items()
    ]
    status = work(CPU, report, plan)
    written = json.loads((tmp_path / "gpu_check.json").read_text())
    return status, {check["name"]: check for check in written["checks"]}


def test_a_failure_is_recorded_and_the_run_goes_on(tmp_path, capsys):
    status, found = worked(tmp_path, one=broken, two=bad, three=good, four=without_gpu)
    assert status == 1
    assert found["one"]["status"] == "failed"
    assert found["one"]["message"] == "OutOfMemoryError: Tried to allocate 20.00 GiB."
    assert found["one"]["rows"][0]["what"] == "a sum"
    assert found["two"]["status"] == "failed"
    assert found["two"]["message"] == "a product"
    assert found["three"]["status"] == "passed"
    assert found["four"]["status"] == "needs a GPU"
    printed = capsys.readouterr().out
    assert "[3/4] correctness: three: passed" in printed
    assert "2 failed, 1 passed, 1 needs a GPU" in printed
    markdown = (tmp_path / "gpu_check.md").read_text()
    assert "| one | failed |" in markdown
    assert "| a sum | 1e-06 | 1e-05 | True |" in markdown


def test_failed_speed_is_no_wrong_result(tmp_path):
    status, found = worked(tmp_path, one=good, its_speed=broken)
    assert status == 0
    assert found["its_speed"]["status"] == "failed"


def test_what_has_had_its_time_is_cut_short(tmp_path):
    start = time.monotonic()
    status, found = worked(tmp_path, speed=endless, one=good)
    assert time.monotonic() - start < 10
    assert status == 0
    assert found["speed"]["status"] == "cut short"
    assert [row["what"] for row in found["speed"]["rows"]] == ["begun"]
    assert found["one"]["status"] == "passed"


def test_what_finds_no_time_is_said(tmp_path):
    status, found = worked(tmp_path, minutes=1e-9, one=good, two=bad)
    assert status == 0
    assert [check["status"] for check in found.values()] == ["not run"] * 2
    assert "minutes were over" in found["two"]["message"]


def test_goes_on_where_another_process_ended(tmp_path):
    calls = []

    def counted(place):
        calls.append(place)
        yield compared("a sum", 0.0, 1e-5)

    facts = {"began": time.time(), "minutes": 1.0, "until": 0.0}
    done = {"name": "one", "group": "correctness", "seconds": 1.0, "rows": []}
    lost = {**done, "name": "two", "status": "running", "message": ""}
    report = Report(
        tmp_path, facts, [{**done, "status": "passed", "message": ""}, lost]
    )
    assert supervisor.mark_lost(report, -11)
    report = Report.of_run(tmp_path, facts["began"])
    assert report.find("two")["message"] == "the process ended with status -11"
    names = ("one", "two", "three")
    status = work(CPU, report, [Check(name, "correctness", counted) for name in names])
    assert len(calls) == 1
    assert status == 1
    assert not supervisor.mark_lost(report, status)
    assert Report.of_run(tmp_path, 1.0).checks == []  # of a later run


def test_a_process_that_hangs_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "GRACE", 0.2)
    Report(tmp_path, {"began": 1.0, "until": time.time()}).save()
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    status = supervisor.supervise(sleep, tmp_path, 1.0, dict(os.environ))
    assert status == -signal.SIGKILL


class Pretended(Place):
    """A CPU that says it is a GPU, for what is only read from torch.cuda."""

    is_gpu = True


@pytest.fixture
def pretended(monkeypatch):
    state = {"mode": "default", "peaks": [10, 10], "held": [7, 7]}

    def set_mode(mode):
        state["mode"] = mode

    for name, function in {
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda *_: None,
        "set_sync_debug_mode": set_mode,
        "max_memory_allocated": lambda *_: state["peaks"].pop(0),
        "memory_allocated": lambda *_: state["held"].pop(0),
    }.items():
        monkeypatch.setattr(torch.cuda, name, function)
    return Pretended(torch.device("cpu"), "tiny"), state


def test_waits_are_counted_by_line(pretended):
    place, state = pretended

    def step():
        warnings.warn("unlike", stacklevel=1)
        for _ in range(3):
            assert state["mode"] == "warn"
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    found = costs.host_syncs(place, step)
    assert found.total() == 3
    (line,) = found
    assert line.startswith("studies/test_gpu_check.py:")
    assert state["mode"] == "default"
    assert costs.host_syncs(CPU, lambda: None) is None


@pytest.mark.parametrize(
    ("peaks", "held", "passed"),
    [([10, 10], [7, 7], True), ([10, 11], [7, 7], False), ([10, 10], [7, 8], False)],
)
def test_growth_is_no_growth_at_all(pretended, peaks, held, passed):
    place, state = pretended
    state.update(peaks=peaks, held=held)
    steps = []
    (row,) = correctness.growth(place, "a model", lambda: steps.append(1), 10, 50)
    assert len(steps) == 50
    assert row["passed"] is passed


def test_what_does_not_fit_is_said_and_the_others_are_timed():
    def large():
        raise torch.OutOfMemoryError("CUDA out of memory.")

    steps = {"large": large, "small": lambda: None}
    large, small = speed._costs(CPU, steps, "an image")
    assert large["note"] == "out of memory"
    assert "ms" not in large
    assert small["ms"] >= 0


def test_precision_is_put_back():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic
    with exactness("correctness"):
        assert not matmul.allow_tf32
        assert not cudnn.allow_tf32
    with exactness("speed"):
        assert matmul.allow_tf32
        assert cudnn.allow_tf32
    assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic) == before


def test_out_of_time_is_no_exception_that_others_swallow():
    assert not issubclass(OutOfTime, Exception)


def test_errors_count_relative_to_the_largest_magnitude():
    one, two = torch.tensor([1.0, -10.0]), torch.tensor([2.0, -10.0])
    assert models.level_error([one], [two]) == pytest.approx(0.1)
    nothing = torch.full((2,), float("nan"))
    assert models.level_error([nothing], [two]) == float("inf")
    assert models.gradient_error({"a": one}, {"b": one}) == float("inf")
    small = {"a": two, "b": torch.tensor([1e-9])}
    assert models.gradient_error({**small, "b": torch.zeros(1)}, small) < 1e-7


def test_every_branch_of_every_family_counts():
    for family in models.FAMILIES.values():
        model = models.build(family.config("small", memory="store"))
        image = models.picture("small")
        gradients = models.gradients_of(model, image)
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
        assert gradients.keys() == trained, family.type
        zero = [name for name, gradient in gradients.items() if not gradient.any()]
        assert not zero, family.type


def test_reversal_has_states_to_rebuild():
    reversible = {n for n, f in models.FAMILIES.items() if "reverse" in f.memories}
    assert reversible == models.FAMILIES.keys() - {"vanillanet"}
    for name in reversible:
        for form in ("small", "full"):
            with torch.device("meta"):
                model = models.MODELS.build(models.FAMILIES[name].coupled(form))
            assert any("reverse" in modes for modes in model.memory_choices()), name
        model = models.build(models.FAMILIES[name].coupled("small"))
        if hasattr(model, "coefficients"):
            assert model.coefficients.tolist() == [0.5, 0.5]


def test_speed_couples_in_reverse_alone():
    config = models.FAMILIES["nfnet"].coupled("small")
    model, seen = models.MODELS.build(config), []

    def note():
        seen.append((model.coupling, model.memory[2]))

    for memory in ("store", "reverse", STOCK, "reverse", "recompute"):
        speed._step_in(model, memory, note)
        assert ("run" in vars(model)) == (memory == STOCK)
        assert not any("forward" in vars(module) for module in model.modules())
    assert seen == [
        (None, "store"),
        ("dual", "reverse"),
        (None, "store"),
        ("dual", "reverse"),
        (None, "recompute"),
    ]


def test_what_is_not_repeatable_is_refused():
    rows = list(correctness.guard(CPU))
    assert [row["what"] for row in rows] == ["revcol", "swinv2", "nfnet", "reducenet"]
    assert all(row["passed"] for row in rows), rows


@pytest.mark.parametrize(("more", "passed"), [(1, True), (2, False)])
def test_reverse_waits_once_at_the_end(pretended, monkeypatch, more, passed):
    place, _ = pretended
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent, raising=False)
    waits = itertools.cycle([Counter(a=2), Counter(a=2, b=more)])
    monkeypatch.setattr(correctness, "host_syncs", lambda *_: next(waits))
    monkeypatch.setattr(correctness, "FAMILIES", {"nfnet": models.FAMILIES["nfnet"]})
    recompute, reverse = correctness.host_waits(place)
    assert (recompute["host waits"], reverse["host waits"]) == (2, 2 + more)
    assert (recompute["passed"], reverse["passed"]) == (True, passed)


class FakeEvent:
    def __init__(self, there=True):
        self.there = there

    def query(self):
        return self.there

    def synchronize(self):
        self.there = True


def test_events_are_waited_for_if_they_have_not_happened(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent, raising=False)
    before = FakeEvent.synchronize

    def step():
        for event in (FakeEvent(), late, late):
            event.synchronize()

    late = FakeEvent(there=False)
    assert costs.event_waits(step) == (3, 1)
    assert FakeEvent.synchronize is before


def test_dropout_counts():
    for family in models.FAMILIES.values():
        model = models.build(family.config("small", memory="store"))
        models.add_dropout(model)
        image = models.picture("small")
        one, other, again = (
            models.gradients_of(model, image, seed=seed) for seed in (1, 2, 1)
        )
        assert models.gradient_error(one, other) > 0.01, family.type
        assert models.gradient_error(one, again) == 0, family.type


def test_random_numbers_come_from_the_cpu():
    like = torch.empty(3, 4, dtype=torch.float64)
    with whole.SameRandomNumbers():
        torch.manual_seed(0)
        found = [
            torch.rand(2, device="cpu"),
            torch.rand_like(like),
            torch.randint_like(like, 0, 5),
        ]
    torch.manual_seed(0)
    expected = [torch.rand(2), torch.rand_like(like), torch.randint_like(like, 0, 5)]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    with whole.SameRandomNumbers():
        assert torch.rand(2, device="meta").device.type == "meta"


def test_names_are_unique_and_the_order_keeps_correctness_first():
    for size in ("full", "tiny"):
        plan = checks(Place(torch.device("cpu"), size))
        names = [check.name for check in plan]
        assert len(set(names)) == len(names)
        groups = [check.group for check in plan]
        assert groups == sorted(groups)  # 'correctness' before 'speed'
    full = {check.name for check in checks(Place(torch.device("cpu"), "full"))}
    for name in ("RevCol-B", "Swin-V2-B", "NFNet-F1"):
        assert f"steps of {name}" in full


def test_nonsense_is_refused(tmp_path):
    with pytest.raises(UserError, match="must be above 0, got 0"):
        gpu_check.run(tmp_path, minutes=0)


def tool(out, *arguments):
    command = [sys.executable, str(ROOT / "tools" / "gpu_check.py"), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [*command, *arguments],
        env=environment,
        cwd=out,  # the configs are found from anywhere
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_in_a_line(tmp_path):
    status, _, errors = tool(tmp_path)
    assert status == 1
    assert not any(tmp_path.iterdir())
    assert "error: expected a GPU" in errors
    assert "Traceback" not in errors


@pytest.mark.ci
@pytest.mark.slow
def test_everything_runs_in_tiny_form(tmp_path):
    status, printed, errors = tool(
        tmp_path, "--device", "cpu", "--size", "tiny", "--minutes", "30"
    )
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    states = {check["name"]: check["status"] for check in found["checks"]}
    wrong = {
        check["name"]: check["message"]
        for check in found["checks"]
        if check["status"] not in ("passed", "measured", "needs a GPU")
    }
    assert not wrong, printed + errors
    assert status == 0
    assert [*states] == [check.name for check in checks(CPU)]
    assert states["no leak of backbones"] == "needs a GPU"
    rows = {check["name"]: check["rows"] for check in found["checks"]}
    modes = {row["mode"] for row in rows["steps of RevCol-T"]}
    assert modes == {"store", "recompute", "reverse", STOCK}
    assert {row["mode"] for row in rows["steps of Swin-V2-T"]} >= {"timm", "mmpretrain"}
    assert rows["DINO with RevCol-T"][0]["host waits"] == "needs a GPU"
    assert sum("kernel" in row["what"] for row in rows["DINO with RevCol-T"]) == 20
    assert found["ops"]
    assert found["versions"]["torch"] == torch.__version__
