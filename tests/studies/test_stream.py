"""Streams of frames, on simulated times; the busy processes are real."""

import multiprocessing
import os
import re
import signal
import time
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mmrev.errors import UserError
from mmrev.operating_points.controller import LatencyController
from mmrev.operating_points.costs import StitchCost
from mmrev.studies.stream import (
    Frame,
    busy,
    draw_stream,
    read_frames,
    run_streams,
    stream_table,
    summarise,
)

COSTS = [
    StitchCost(
        id=id,
        route=str(id),
        params=1,
        params_as_reference=1,
        flops=(id + 1) * 10**9,
        latency_ms=10.0 * (id + 1),
    )
    for id in range(4)
]


def loads():
    """The busy processes; other tests have processes, too."""
    alive = multiprocessing.active_children()
    return [process for process in alive if process.name.startswith("ForkProcess")]


def simulated(stitch, index):
    """Three times as long while there are busy processes."""
    return COSTS[stitch].latency_ms * (3 if loads() else 1)


def test_the_load_is_there_in_the_middle_third_alone():
    frames = run_streams(simulated, 8, 2, 1, {"fixed": None})["fixed"]
    assert [frame.phase for frame in frames] == [
        *["calm"] * 3,
        *["load"] * 2,
        *["calm again"] * 3,
    ]
    assert [frame.latency_ms for frame in frames] == [20.0] * 3 + [60.0] * 2 + [20] * 3
    assert {frame.stitch for frame in frames} == {1}


def test_the_controller_chooses():
    controller = LatencyController(COSTS, 45)
    updates = {"fixed": None, "controlled": controller.update}
    fixed, frames = run_streams(simulated, 120, 1, controller.stitch, updates).values()
    assert {frame.stitch for frame in fixed} == {3} and len(fixed) == len(frames)
    assert [frame.stitch for frame in (frames[0], frames[79], frames[119])] == [3, 0, 3]
    assert all(frame.latency_ms <= 45 for frame in frames[60:])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_load_ends_with_an_error(error):
    def step(stitch, index):
        if index == 4:
            assert len(loads()) == 3
            raise error
        return 1.0

    with pytest.raises(error):
        run_streams(step, 9, 3, 0, {"fixed": None})
    assert not loads()


def status(pid):
    """Of a process, as the kernel has it; "" if there is none."""
    path = Path(f"/proc/{pid}/status")
    return path.read_text() if path.exists() else ""


def test_ctrl_c_does_not_reach_the_load():
    with busy(1):
        (worker,) = loads()
        interrupt = 1 << (signal.SIGINT - 1)
        while (
            not int(re.search(r"SigIgn:\s(\w+)", status(worker.pid))[1], 16) & interrupt
        ):
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGINT)
        worker.join(0.2)
        assert worker.is_alive()


def killed(pipe):
    with busy(1):
        pipe.send(loads()[0].pid)
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_load_ends_with_a_process_that_is_killed():
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=killed, args=(theirs,))
    process.start()
    worker = ours.recv()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    # An orphan that has ended stays a zombie where nobody waits for it.
    deadline = time.monotonic() + 60
    while (found := status(worker)) and "State:\tZ" not in found:
        assert time.monotonic() < deadline
        time.sleep(0.01)


FRAMES = [
    *(Frame("calm", 3, 40.0), Frame("calm", 3, 44.0), Frame("calm", 2, 30.0)),
    *(Frame("load", 1, 50.0), Frame("load", 1, 60.0)),
    *(Frame("calm again", 2, 30.0), Frame("calm again", 3, 46.0)),
]


def test_summary():
    calm, load, again = summarise(FRAMES, 45, COSTS).values()
    assert (calm.median_ms, calm.over, calm.switches) == (40.0, 0.0, 1)
    assert calm.p95_ms == pytest.approx(43.6)
    assert calm.gmacs == pytest.approx(11 / 3) and calm.metric is None
    # The switch to stitch 1 is that of the first frame that took it.
    assert (load.over, load.gmacs, load.switches) == (1.0, 2.0, 1)
    assert (again.over, again.switches) == (0.5, 2)
    rated = [cost.model_copy(update={"metric": cost.id / 10}) for cost in COSTS]
    assert summarise(FRAMES, 45, rated)["calm again"].metric == pytest.approx(0.25)


def test_table():
    file = StringIO()
    table = stream_table({"controlled": FRAMES}, 45, COSTS)
    Console(file=file, width=100).print(table)
    text = file.getvalue()
    assert "over 45 ms" in text.replace("\n", " ")
    assert all(f" {cell} " in text for cell in ("controlled", "55.0", "100%", "3.67"))


def test_picture():
    runs = {"stitch 3 throughout": FRAMES, "controlled": FRAMES}
    with Image.open(BytesIO(draw_stream(runs, 45, [0, 1, 2, 3]))) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    # The controlled stream, and the shade of the load.
    assert {(0x00, 0x72, 0xB2), (0xE6, 0xE6, 0xE6)} <= colours


def test_frames(tmp_path):
    pixels = np.zeros((6, 9, 3), np.uint8)
    pixels[..., 0] = 200
    for name in ("b.png", "a.PNG"):
        Image.fromarray(pixels).save(tmp_path / name, format="png")
        pixels[..., 1] = 100
    (tmp_path / "notes.txt").write_text("no image")
    frames = read_frames(tmp_path, 8, count=5)
    assert frames.shape == (2, 3, 8, 8)
    # a.PNG, the second written, comes first; red is last.
    assert frames[:, :, 0, 0].tolist() == [[0, 100, 200], [0, 0, 200]]
    assert len(read_frames(tmp_path, 8, count=1)) == 1


def test_folders_without_frames(tmp_path):
    with pytest.raises(UserError, match=r"expected a folder with images, got .*none"):
        read_frames(tmp_path / "none", 8, 1)
    with pytest.raises(UserError, match=r"no image \(\.bmp, .* in .*"):
        read_frames(tmp_path, 8, 1)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cut.png")
    content = (tmp_path / "cut.png").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no image"):
        (tmp_path / "cut.png").write_bytes(damaged)
        with pytest.raises(UserError, match=r"can be read: .*cut\.png; replace it"):
            read_frames(tmp_path, 8, 1)
