"""What the benchmark measures and refuses; not how fast anything is."""

import json
import sys

import pytest
import torch
from torch import nn

from mmrev.models.backbones import RevCol
from mmrev.reversible import MEMORY_MODES
from mmrev.studies.benchmark import arguments, measuring

SMALL = "{'channels':[8,16,24,32],'depths':[1,1,1,1],'num_columns':3}"
REVCOL = ("mmrev:RevCol", "--cfg-options", f"arch={SMALL}")
VANILLANET = (
    *("mmrev:VanillaNet", "--cfg-options"),
    "arch={'channels':[8,8,16,24,32],'strides':[1,2,2,2]}",
)
NFNET = (
    *("mmrev:NFNet", "--cfg-options"),
    "arch={'channels':[8,16,24,32],'depths':[1,1,1,1],'group_width':4}",
)
QUICK = ("--size", "64", "--repeats", "1", "--warm-up", "0", "--no-process-peak")


@pytest.fixture
def measured(run, tmp_path):
    """Run the tool and return what it wrote: ``measured("mmrev:RevCol")``."""

    def call(*argv):
        out = tmp_path / "out.json"
        result = run("benchmark", *argv, *QUICK, "--out", out)
        assert result.status == 0, result.err
        return json.loads(out.read_text()), result.out

    return call


def test_every_figure_of_a_backbone(measured):
    found, printed = measured(*REVCOL)
    assert found["format"] == "mmrev-benchmark-1"
    assert (found["device"], found["threads"]) == ("cpu", torch.get_num_threads())
    assert found["software"]["packages"]["torch"] == torch.__version__
    forward, train = found["measurements"]
    assert (forward["task"], train["task"]) == ("forward", "train")
    params = sum(p.numel() for p in RevCol(eval(SMALL)).parameters())
    for one in (forward, train):
        assert one["params"] == params
        assert one["flops"] > 16 * 16 * 48 * 8  # of the stem
        assert one["ratio"] is None
        spread = one["latency_ms"]
        assert 0 < spread["lower"] <= spread["median"] <= spread["upper"]
        assert one["images_per_second"] == pytest.approx(1e3 / spread["median"], 0.01)
        assert one["process_peak"] is None
    assert train["peak_memory"] > forward["peak_memory"] > 16 * 16 * 8 * 4
    assert forward["loss"] is None and train["loss"] > 0
    assert "64 px, batch 1" in printed and "x time" not in printed


def test_ratios_are_to_the_first_form_of_a_place(measured):
    axes = ("--memory", "store", "recompute", "--batch", "1", "2")
    axes += ("--layout", "contiguous", "channels_last", "--task", "train")
    found, printed = measured(*REVCOL, *axes)
    rows = found["measurements"]
    assert [(r["batch"], r["layout"], r["memory"]) for r in rows] == [
        (batch, layout, memory)
        for batch in (1, 2)
        for layout in ("contiguous", "channels_last")
        for memory in ("store", "recompute")
    ]
    baselines = [row["ratio"] and row["ratio"]["baseline"] for row in rows]
    assert baselines == [None, 0, 0, 0, None, 4, 4, 4]
    for start in (0, 4):
        store, recompute = rows[start : start + 2]
        assert recompute["loss"] == store["loss"]
        peak = recompute["peak_memory"] / store["peak_memory"]
        assert recompute["ratio"]["peak"] == pytest.approx(peak, abs=1e-3)
        assert peak < 0.8
    assert "recompute, channels_last" in printed


def test_memory_modes_are_those_asked_for(measured):
    modes = ("--memory", "store", "checkpoint", "recompute", "reverse")
    found, _ = measured(*REVCOL, *modes)
    forward, *train = found["measurements"]
    assert forward["memory"] == "store"  # where all are the same
    assert [row["memory"] for row in train] == list(modes[1:])
    assert len({row["loss"] for row in train}) == 1
    assert len({row["peak_memory"] for row in train}) == 4


@pytest.mark.parametrize(
    ("argv", "name", "differs"),
    [
        ((*REVCOL, "--against", "plain"), "plain", True),
        (
            (*NFNET, "--against", "own", "--against-options", "memory=recompute"),
            "own, memory=recompute",
            True,
        ),
        ((*VANILLANET, "--deployed", "--against", "own"), "training form", True),
        (
            (*NFNET, "--against", NFNET[0], "--against-options", NFNET[2]),
            NFNET[0],
            None,
        ),
    ],
)
def test_compared_in_turn_with_the_same(measured, argv, name, differs):
    found, printed = measured(*argv)
    for other, own in zip(*[iter(found["measurements"])] * 2, strict=True):
        assert other["model"].startswith(name)
        assert other["ratio"] is None
        ratio = own["ratio"]
        assert found["measurements"][ratio["baseline"]] == other
        assert ratio["time"]["median"] > 0
        assert (ratio["difference"] is not None) is bool(differs)
        assert not differs or ratio["difference"] < 1e-4
    assert "x faster" in printed


def test_others_backbones(measured):
    options = ("--against-options", "depth=18", "out_indices=(0,1,2,3)")
    argv = ("timm:resnet18", "--against", "mmpretrain:ResNet", *options)
    found, _ = measured(*argv, "--cfg-options", "out_indices=(1,2,3,4)")
    assert {row["params"] for row in found["measurements"]} == {11_176_512}
    assert len({row["flops"] for row in found["measurements"]}) == 1


def test_timm_gives_the_levels_that_are_compared(measured):
    arch = "arch={'channels':[64,128,256,512],'depths':[1,1,1,1],'group_width':32}"
    argv = ("mmrev:NFNet", "--cfg-options", arch, "out_indices=(2,3)")
    found, _ = measured(*argv, "--against", "timm:resnet18", "--task", "forward")
    assert found["measurements"][0]["model"] == "timm:resnet18"


@pytest.mark.parametrize(
    ("config", "dtype"), [("det.py", "fp32"), ("seg.py", "bf16"), ("cls.py", "bf16")]
)
def test_whole_models(measured, config, dtype):
    options = ("--against", "own", "--against-options", "model.backbone.memory=store")
    found, printed = measured(config, *options, "--dtype", dtype)
    rows = found["measurements"]
    assert [row["task"] for row in rows] == ["forward"] * 2 + ["train"] * 2
    assert rows[2]["loss"] == rows[3]["loss"]
    assert rows[3]["ratio"]["difference"] == 0
    assert rows[3]["peak_memory"] < rows[2]["peak_memory"]
    assert ("bf16" in printed) is (dtype == "bf16")


def test_boxes_of_a_detector(measured):
    found, printed = measured("det.py", "--boxes", "1", "40", "--task", "train")
    one, many = found["measurements"]
    assert (one["boxes"], many["boxes"]) == (1, 40)
    assert many["ratio"]["baseline"] == 0
    assert many["loss"] != one["loss"] and many["peak_memory"] > one["peak_memory"]
    assert "40 boxes" in printed


def test_the_backbone_of_a_config(measured):
    found, _ = measured("det.py", "--backbone", "--task", "forward")
    whole, _ = measured("det.py", "--task", "forward")
    alone, all_ = (one["measurements"][0] for one in (found, whole))
    assert alone["model"] == "det.py, backbone"
    assert alone["params"] < all_["params"] and alone["flops"] < all_["flops"]


def test_compiled(measured, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    found, _ = measured(*REVCOL, "--compile", "eager", "compiled")
    assert [row["compiled"] for row in found["measurements"]] == [False, True] * 2
    (module,) = compiled  # of both tasks
    assert isinstance(module, RevCol)


@pytest.mark.slow
def test_the_peak_of_a_process(run, tmp_path):
    """Of its own, so that the one's does not count for the other."""
    large = SMALL.replace("[8,16,24,32]", "[64,128,256,512]")
    argv = (REVCOL[0], "--cfg-options", f"arch={large}", "--against", "own")
    argv += ("--against-options", f"arch={large}", "memory=store", "--task", "train")
    out = tmp_path / "out.json"
    few = ("--size", "512", "--repeats", "1", "--warm-up", "0", "--out", out)
    assert run("benchmark", *argv, *few).status == 0
    store, own = json.loads(out.read_text())["measurements"]
    saved = store["peak_memory"] - own["peak_memory"]
    assert store["process_peak"] > store["peak_memory"] + 4 * store["params"]
    # A process has pages, too, that it has freed and not given back.
    assert saved / 4 < store["process_peak"] - own["process_peak"] < 1.5 * saved


def test_what_was_measured_is_shown_and_drawn(run, measured, tmp_path):
    measured(*REVCOL, "--memory", "store", "recompute")
    out = tmp_path / "out.json"
    again = tmp_path / "again.json"
    again.write_bytes(out.read_bytes())
    plots = [tmp_path / f"{name}" for name in ("a.html", "b.png", "c.html", "d.png")]
    one = run("benchmark", out, "--plot", *plots[:2])
    assert one.status == 0, one.err
    assert "x faster" in one.out and "No ratio" not in one.out
    both = run("benchmark", out, again, "--plot", *plots[2:])
    assert both.status == 0, both.err
    assert "No ratio of one file to another: between separate runs" in both.out
    assert both.out.count("again") > 2
    for page in plots[::2]:
        text = page.read_text()
        for told in ("evaluation: ms an image", "training step: peak memory, MiB"):
            assert told in text
    assert "again: recompute" in plots[2].read_text()
    for picture in plots[1::2]:
        assert picture.read_bytes().startswith(b"\x89PNG")


WHOLE = "expected a config, or mmrev:NAME, timm:NAME, mmpretrain:NAME, got "
AGAINST = ("--against", NFNET[0], "--against-options", NFNET[2], "out_indices=(3,)")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        # What there is not.
        (["RevCol"], f"{WHOLE}RevCol."),
        (["mmrev:RevKol"], "mmrev:RevKol: unknown backbone; did you mean 'RevCol'?"),
        (["timm:resnet19"], "timm:resnet19: timm has no such model; did you mean 'res"),
        (
            ["mmpretrain:SwinTransformerV3"],
            "unknown backbone; did you mean 'SwinTransformerV2'?",
        ),
        (["dett.py"], "config not found: dett.py; did you mean 'det.py'?"),
        ([*REVCOL, "--against", "mmrev:nothing"], "mmrev:nothing: unknown backbone; "),
        # Settings.
        (["mmrev:RevCol", "--cfg-options", "arch=tinny"], "got 'tinny'."),
        (
            ["mmrev:RevCol", "--cfg-options", "arc=1"],
            "argument 'arc'; did you mean 'arch'",
        ),
        (["timm:resnet18", "--cfg-options", "a=1"], "timm:resnet18: "),
        (["det.py", "--cfg-options", "modell.a=1"], "did you mean 'model'"),
        ([*VANILLANET, "--memory", "reverse"], "--memory reverse: VanillaNet: memory "),
        ([*NFNET, "--memory", "reverse"], "needs coupling='dual' or 'two-stream'"),
        (
            ["timm:resnet18", "--memory", "store"],
            "--memory: timm:resnet18 has no memory modes; backbones of mmrev have.",
        ),
        (["timm:vit_tiny_patch16_224", "--cfg-options", "img_size=32"], "64x64: Input"),
        # Numbers.
        ([*REVCOL, "--size", "16"], "at least 32 pixels, the stride of the last level"),
        ([*REVCOL, "--size", "512x"], "expected pixels, as 512 or 800x1216, got 512x."),
        ([*REVCOL, "--batch", "1", "0"], "--batch: expected at least 1, got 0."),
        (["det.py", "--boxes", "0"], "--boxes: expected at least 1, got 0."),
        ([*REVCOL, "--boxes", "5"], "--boxes are of a detector's config, got mmrev:"),
        (["seg.py", "--boxes", "5"], "--boxes are of a detector's config, got seg.py"),
        ([*REVCOL, "--repeats", "0"], "--repeats: expected at least 1, got 0."),
        ([*REVCOL, "--warm-up", "-1"], "--warm-up: expected at least 0, got -1."),
        # Where.
        ([*REVCOL, "--device", "cuda"], "--device cuda cannot be used: "),
        ([*REVCOL, "--device", "moon"], "--device moon cannot be used: "),
        ([*REVCOL, "--out", "a.txt"], "--out must end in .json, got a.txt."),
        ([*REVCOL, "--out", "det.py/a.json"], "det.py/a.json cannot be written: "),
        ([*REVCOL, "--plot", "a.pdf"], "--plot: expected .html or .png, got a.pdf."),
        # What is compared.
        (
            [*REVCOL, *AGAINST],
            "expected levels of 8x16x16, 16x8x8, 24x4x4, 32x2x2, as ",
        ),
        ([*REVCOL, "--against", "timm:resnet18"], "choose them by out_indices"),
        (["det.py", "--against", "timm:resnet18"], "--backbone measures that of"),
        (
            [*NFNET, "--against", "plain"],
            "--against plain: expected RevCol, whose refe",
        ),
        (
            [*REVCOL, "drop_path_rate=0.1", "--against", "plain"],
            "--against plain: expected drop_path_rate=0, got more",
        ),
        (
            [*REVCOL, "--against", "plain", "--size", "72"],
            "sides that are multiples of 32, as the reference needs, got 72x72",
        ),
        (
            [*REVCOL, "--against", "plain", "--against-options", "memory=store"],
            "--against plain has the settings of the model, and no others.",
        ),
        ([*REVCOL, "--against", "own"], "--against own: expected what is otherwise, "),
        ([*REVCOL, "--against-options", "a=1"], "are of --against, which is not given"),
        ([*REVCOL, "--deployed"], "--deployed: expected VanillaNet or ReduceNet, or "),
        (
            [*VANILLANET, "--deployed", "--task", "train"],
            "the deployed form is not tra",
        ),
        ([*REVCOL, "--backbone"], "--backbone is of a config, got mmrev:RevCol."),
        # Separate runs.
        (
            ["mmrev:RevCol", "mmrev:NFNet"],
            "expected one model, or files of --out alone",
        ),
        (
            [*REVCOL, "--against", "a.json"],
            "there is no ratio of separate runs, between",
        ),
        (["a.json", "--against", "mmrev:NFNet"], "there is no ratio of separate runs"),
        (["nowhere.json"], "no such file: nowhere.json; --out writes one."),
        (["other.json"], "other.json: expected a file of tools/benchmark.py --out; "),
        (["other.json", "--out", "b.json"], "--out is of what is measured, got files"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value)[:60],
)
def test_mistakes_are_one_line(run, argv, said, project):
    (project / "other.json").write_text('{"loss": 1}')
    size = () if "--size" in argv else ("--size", "64")
    json_alone = all(one.endswith(".json") for one in argv[:1])
    result = run("benchmark", *argv, *(() if json_alone else size))
    assert result.status == 1
    (line,) = result.err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("package", "file"), [("plotly.graph_objects", "a.html"), ("matplotlib", "a.png")]
)
def test_without_a_package(run, monkeypatch, package, file):
    for module in ("page", "picture"):
        name = f"mmrev.studies.benchmark.{module}"
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in [one for one in sys.modules if one.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    result = run("benchmark", *REVCOL, "--plot", file)
    name = package.partition(".")[0]
    assert result.err == f"error: --plot needs {name}: pip install {name}.\n"


@pytest.mark.parametrize(
    ("raised", "options", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            (),
            "cpu has not enough memory for mmrev:RevCol, ",
        ),
        (
            RuntimeError("\"conv\" not implemented for 'Half'\nmore"),
            ("--dtype", "fp16"),
            "\"conv\" not implemented for 'Half' (--dtype fp16 on cpu)",
        ),
        (
            RuntimeError("No C++ compiler\nmore"),
            ("--compile", "compiled"),
            "--compile compiled: mmrev:RevCol, ",
        ),
    ],
)
def test_what_a_machine_cannot_do_is_one_line(run, monkeypatch, raised, options, said):
    def forward(self, x):
        if self.asked:
            raise raised
        return whole(self, x)

    whole = RevCol.forward
    monkeypatch.setattr(RevCol, "forward", forward)
    monkeypatch.setattr(RevCol, "asked", False, raising=False)
    step = measuring.Contest.step

    def asked(self, form):
        RevCol.asked = True
        return step(self, form)

    monkeypatch.setattr(measuring.Contest, "step", asked)
    monkeypatch.setattr(nn.Module, "compile", lambda self: None)
    result = run("benchmark", *REVCOL, *QUICK, *options)
    assert result.status == 1
    (line,) = result.err.splitlines()
    assert said in line and "more" not in line


def test_memory_modes_have_their_names():
    assert {*arguments.MEMORIES} - {arguments.CHECKPOINT} == {*MEMORY_MODES}


def test_different_outputs_have_no_ratio(run, monkeypatch):
    monkeypatch.setattr(
        RevCol, "forward", lambda self, x: tuple(2 * y for y in whole(self, x))
    )
    result = run("benchmark", *REVCOL, *QUICK, "--against", "plain")
    assert result.status == 1
    assert "must compute the same, but differ by 1.0e+00" in result.err
    assert "there is no ratio of what is not the same." in result.err


whole = RevCol.forward


def test_nothing_of_a_safe_config_runs(run, tmp_path):
    ran, config = tmp_path / "ran", tmp_path / "a.py"
    config.write_text(f"open({str(ran)!r}, 'w')\nmodel = None\n")
    result = run("benchmark", config, "--safe-config")
    assert result.err.startswith(f"error: config {config}, line 1: found a call, open(")
    assert not ran.exists()
