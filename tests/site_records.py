"""Records that were never run, to try the leaderboard's page with."""

import hashlib
import math
import random
from datetime import datetime, timedelta, timezone

from make_records import measured

from mmrev.leaderboard.record import MeasuredRecord

FAMILIES = ("RevCol", "Swin-V2", "NFNet", "VanillaNet", "ReduceNet", "Stitched")
TESTS = (
    ("detection", "DINO", "coco/bbox_mAP", 0.01, "COCO"),
    ("semantic segmentation", "Mask2Former", "mIoU", 1, "ADE20K"),
)
START = datetime(2026, 1, 2, tzinfo=timezone.utc)
SETTINGS = {f"layer{i}": {"depth": i, "width": 64 * i} for i in range(150)}
LOSS = {
    "steps": list(range(0, 88_000, 1000)),
    "values": [12 * math.exp(-i / 30) + 3 for i in range(88)],
}
LR = {"steps": [0, 80_000, 88_000], "values": [1e-4, 1e-4, 1e-5]}


def synthetic(count: int) -> list[MeasuredRecord]:
    """Records of families in sizes, whose errors follow laws; three seeds of each."""
    rng = random.Random(0)
    return [_synthetic(number, rng.gauss(0, 0.3)) for number in range(count)]


def _synthetic(number: int, noise: float) -> MeasuredRecord:
    model, run = divmod(number, 3)
    size, place = divmod(model, len(FAMILIES) * len(TESTS))
    family = FAMILIES[place % len(FAMILIES)]
    task, head, metric, unit, data = TESTS[place // len(FAMILIES)]
    name = f"{family}-{'TSBLXHGZ'[size % 8]}{size // 8 or ''}"
    params = (20 + 7 * (place % len(FAMILIES))) * 1.6 ** (size % 8)
    error = 68 * params**-0.08 + 0.5 * (size // 8) + noise
    return measured(
        task=task,
        date=START + timedelta(hours=number),
        config={
            "name": f"{name}_{head}_8xb2-12e".lower(),
            "resolved": {"model": SETTINGS, "randomness": {"seed": run}},
        },
        checkpoint={"name": "epoch_12.pth", "sha256": f"{number:064x}"},
        training={
            "data": f"{data} train",
            "pretraining": [f"{name.lower()}_in1k.pth"],
            "epochs": 12,
            "iterations": 88_000,
            "curves": {"loss": LOSS, "lr": LR},
        },
        dataset={
            "name": data,
            "split": "val2017",
            "images_expected": 5000,
            "images_evaluated": 5000,
            "images_unreadable": 0,
        },
        model={
            "name": name,
            "family": family,
            "backbone": family,
            "head": head,
            "params": int(params * 1e6),
            "flops": int(params**1.1 * 3e9),
        },
        speed={
            "latency_ms": round(12 * params**0.8, 1),
            "peak_memory_mb": round(30 * params**0.7, 1),
        },
        metrics={metric: round((100 - error) * unit, 4)},
        seeds={"train": run, "test": 1},
    )


def on_tracks() -> list[MeasuredRecord]:
    """Six models: a linear head over them frozen, DINO over all tracks, three seeds.

    Frozen and tuned DINO rank them alike but for the last two.
    """
    columns = {
        ("Linear", "linear", "frozen", "ADE20K"): [30, 33, 35, 34, 40, 38],
        ("DINO", "dino-4scale-frozen", "frozen", "COCO"): [36, 38, 40, 42, 44, 46],
        ("DINO", "dino-4scale", "tuned", "COCO"): [46, 47, 49, 50, 53, 52],
        ("DINO", "dino-4scale", "scratch", "COCO"): [30, 29, 33, 31],
    }
    return [
        _on_track(f"{family}-{size}", family, column, figure, run)
        for column, figures in columns.items()
        for (family, size), figure in zip(MODELS, figures, strict=False)
        for run in range(3)
    ]


MODELS = [(family, size) for size in "TSB" for family in FAMILIES[:2]]


def _on_track(
    name: str, family: str, column: tuple, figure: float, run: int
) -> MeasuredRecord:
    head, method, track, data = column
    metric, unit = ("mIoU", 1) if data == "ADE20K" else ("coco/bbox_mAP", 0.01)
    task = "semantic segmentation" if data == "ADE20K" else "detection"
    places = [name, track, data, str(run)]
    digest = hashlib.sha256("".join(places).encode()).hexdigest()
    start = [] if track == "scratch" else [f"{name.lower()}_in1k.pth"]
    return measured(
        task=task,
        date=START + timedelta(hours=run),
        config={
            "name": f"{name}_{method}_8xb2-12e_{data}".lower(),
            "resolved": {"track": track, "randomness": {"seed": run}},
        },
        checkpoint={"name": "epoch_12.pth", "sha256": digest},
        training={
            "pretraining": start,
            "epochs": 12,
            "iterations": 88_000,
            "track": track,
        },
        dataset={"name": data, "split": "val2017", "fingerprint": f"{len(data):064x}"},
        model={
            **{"name": name, "family": family, "backbone": family, "head": head},
            "params": 30_000_000 * ("TSB".index(name[-1]) + 1),
        },
        metrics={metric: (figure + 0.4 * (run - 1)) * unit},
        seeds={"train": run, "test": 1},
    )
