"""The demo's driver on steps that only write files."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from resolved import resolve

from mmrev.demo import (
    NEEDS,
    Step,
    backbones,
    demo_steps,
    run_demo,
    run_steps,
    settings_sha256,
    work_dir_of,
)
from mmrev.errors import UserError

ROOT = Path(__file__).parents[1]
LEAST_AP50 = 0.45
LEAST_MIOU = 60.0
APPEND = "import sys; open(sys.argv[1], 'a').write('x')"


@pytest.fixture
def work_dir(tmp_path):
    return tmp_path / "work" / "demo"


def step(work_dir, name, code=APPEND):
    return Step(name, ["-c", code, str(work_dir / name)], name)


def test_steps_run_once_and_in_order(work_dir, capfd):
    log = work_dir / "log"
    code = "import sys; open(sys.argv[1], 'w'); open({!r}, 'a').write({!r})"
    steps = [step(work_dir, name, code.format(str(log), name)) for name in "abc"]
    seconds = run_steps(steps, work_dir, "1")
    assert log.read_text() == "abc"
    assert list(seconds) == ["a", "b", "c"]
    assert "[2/3] b" in capfd.readouterr().out
    assert run_steps(steps, work_dir, "1") == seconds
    assert log.read_text() == "abc"


def test_a_failed_step_is_named_and_the_demo_continues_from_it(work_dir):
    once = step(work_dir, "first")
    bad = step(work_dir, "second", "raise SystemExit(3)")
    with pytest.raises(UserError, match=r"'second' failed with status 3.*-c.*continue"):
        run_steps([once, bad], work_dir, "1")
    run_steps([once, step(work_dir, "second")], work_dir, "1")
    assert (work_dir / "first").read_text() == "x"
    assert (work_dir / "second").read_text() == "x"


def test_a_step_without_result_is_an_error(work_dir):
    with pytest.raises(UserError, match="ended without"):
        run_steps([step(work_dir, "nothing", "pass")], work_dir, "1")


def test_the_time_of_an_interrupted_step_counts(work_dir):
    slow = "import time; time.sleep(0.3); raise SystemExit(1)"
    with pytest.raises(UserError):
        run_steps([step(work_dir, "a", slow)], work_dir, "1")
    assert run_steps([step(work_dir, "a")], work_dir, "1")["a"] > 0.3


def test_results_of_other_settings_are_not_continued(work_dir):
    steps = [step(work_dir, "a")]
    run_steps(steps, work_dir, "1")
    (work_dir / "leftover").touch()
    run_steps(steps, work_dir, "2")
    assert (work_dir / "a").read_text() == "x"
    assert not (work_dir / "leftover").exists()


def test_two_demos_never_work_at_once(work_dir):
    slow = "import sys, time; time.sleep(0.5); open(sys.argv[1], 'a').write('x')"
    steps = [step(work_dir, "a", slow)]
    threads = [
        threading.Thread(target=run_steps, args=(steps, work_dir, "1"))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (work_dir / "a").read_text() == "x"


DRIVER = """
import sys
from pathlib import Path
from mmrev.demo import Step, run_steps
work_dir = Path(sys.argv[1])
code = sys.argv[2]
run_steps([Step("a", ["-c", code, str(work_dir)], "a")], work_dir, "1")
"""
SLEEP = """
import os, sys, time
open(sys.argv[1] + "/pid", "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it on Linux only")
def test_killing_the_demo_ends_its_step_and_repeating_it_continues(work_dir):
    demo = subprocess.Popen([sys.executable, "-c", DRIVER, str(work_dir), SLEEP])
    deadline = time.monotonic() + 60
    while not (work_dir / "pid").is_file() or not (work_dir / "pid").read_text():
        assert time.monotonic() < deadline, "the step did not start"
        time.sleep(0.05)
    pid = int((work_dir / "pid").read_text())
    demo.send_signal(signal.SIGKILL)
    demo.wait()
    while alive(pid):
        assert time.monotonic() < deadline, "the step outlived the demo"
        time.sleep(0.05)
    run_steps([step(work_dir, "a")], work_dir, "1")
    assert (work_dir / "a").read_text() == "x"


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_settings_are_those_of_one_demo_alone(tmp_path):
    config = tmp_path / "configs" / "demo" / "a-demo_crops.py"
    config.parent.mkdir(parents=True)
    config.write_text("x = 1")
    before = settings_sha256(tmp_path, "a")
    (config.parent / "b-demo_crops.py").write_text("x = 1")
    assert settings_sha256(tmp_path, "a") == before
    config.write_text("x = 2")
    assert settings_sha256(tmp_path, "a") != before


def test_unknown_backbone(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "revcol" in backbones()
    with pytest.raises(UserError, match="'revkol'; did you mean 'revcol'"):
        run_demo("revkol")


def checkpoints(node):
    if isinstance(node, dict):
        if "checkpoint" in node and node.get("type") == "Pretrained":
            yield node["checkpoint"]
        for value in node.values():
            yield from checkpoints(value)
    elif isinstance(node, list):
        for value in node:
            yield from checkpoints(value)


DEMOS = sorted(
    p.name.split("-demo_")[0]
    for p in ROOT.glob("configs/demo/*-demo_dino-3scale_scenes.py")
)


@pytest.mark.parametrize("backbone", DEMOS)
def test_steps_fit_their_configs_and_each_other(backbone, monkeypatch):
    """Trainings end with what the demo waits for; inputs are earlier steps' results."""
    monkeypatch.chdir(ROOT)
    names = [*NEEDS.get(backbone, ()), backbone]
    results, trained = [], 0
    for name in names:
        for each in demo_steps(name):
            cfg = resolve(ROOT / each.command[1])
            if each.command[0] == "tools/train.py":
                loop = cfg.train_cfg
                epochs = "max_epochs" in loop and not loop.type.startswith("Iter")
                last = (
                    f"epoch_{loop.max_epochs}" if epochs else f"iter_{loop.max_iters}"
                )
                assert each.result.endswith(f"/{last}.pth")
                starts = list(checkpoints(cfg.model))
                assert (not starts) == each.result.startswith(("crops/", "mim/"))
                assert set(starts) <= set(results)
                trained += 1
            else:
                assert each.command[2] in results
            results.append(str(work_dir_of(name) / each.result))
    assert trained == (12 if backbone == "stitched" else 3)


@pytest.mark.slow
def test_the_demo_learns(tmp_path):
    """The README's numbers, with a margin for other processors' rounding."""
    for name in ("tools", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run(
        [sys.executable, "tools/demo.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    metrics = {}
    for path in tmp_path.glob("work_dirs/demo-revcol/*/records/*.json"):
        metrics |= json.loads(path.read_text())["metrics"]
    assert metrics["coco/bbox_mAP_50"] >= LEAST_AP50
    assert metrics["mIoU"] >= LEAST_MIOU
