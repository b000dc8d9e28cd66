"""Records with made-up content."""

from datetime import datetime, timezone

from mmrev.leaderboard.fingerprint import config_sha256
from mmrev.leaderboard.record import MeasuredRecord, PublishedRecord

HASH = "0123456789abcdef" * 4
RESOLVED = {"model": {"type": "DINO"}, "randomness": {"seed": 0}}


def measured(**changes) -> MeasuredRecord:
    """A test of a detector; `changes` add to its parts, or replace what is none."""
    fields = {
        "task": "detection",
        "date": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        "wall_time": 1.5,
        "config": {"name": "a|b", "tta": False, "resolved": RESOLVED},
        "checkpoint": {"name": "epoch_1.pth", "sha256": HASH},
        "training": {"epochs": 1, "iterations": 7},
        "dataset": {
            "name": "COCO",
            "split": "val",
            "type": "CocoDataset",
            "root": "data/coco/",
            "fingerprint": HASH,
            "images_expected": 4,
            "images_evaluated": 4,
            "images_unreadable": 0,
        },
        "model": {
            "name": "revcol-t",
            "family": "RevCol",
            "type": "DINO",
            "backbone": "RevCol",
            "head": "DINO",
            "params": 47_600_000,
            "flops": 235_000_000_000,
            "flops_shape": (800, 1216),
        },
        "speed": {
            "latency_ms": 12.5,
            "repeats": 3,
            "peak_memory_mb": 100.0,
            "batch": 1,
            "input_shape": (800, 1216),
            "device": "cpu",
        },
        "predictions": None,
        "seeds": {"train": 0, "test": 1},
        "software": {"python": "3", "packages": {}, "commit": None, "dirty": None},
        "hardware": {"cpu": "a cpu", "cores": 2, "gpus": []},
        "metrics": {"coco/bbox_mAP": 0.4904, "coco/bbox_mAP_s": None},
        "protocols": ["COCO"],
    }
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(fields.get(name), dict)
        joined = both and name != "metrics"
        fields[name] = {**fields[name], **value} if joined else value
    config = fields["config"]
    config.setdefault("sha256", config_sha256(config["resolved"]))
    return MeasuredRecord(**fields)


def published(**changes) -> PublishedRecord:
    """A figure of a paper."""
    fields = {
        "task": "detection",
        "metrics": {"coco/bbox_mAP": 0.5},
        "protocols": [],
        "training": {},
        "source": {"title": "A paper", "url": "https://a.org/b", "where": "table 1"},
        "model": {
            "name": "Net",
            "family": "Nets",
            "backbone": "Net",
            "head": "DINO",
        },
        "dataset": {"name": "COCO", "split": "val2017"},
    }
    return PublishedRecord(**{**fields, **changes})
