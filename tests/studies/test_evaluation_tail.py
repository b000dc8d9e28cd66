"""The end of a test that tools/analysis/evaluation_speed.py --tail times."""

import pytest
from fresh import forget_earlier_runs

from mmrev.errors import UserError
from mmrev.studies import evaluation_tail
from mmrev.studies.evaluation_tail import print_tail, tail_times

PARTS = ["process", "evaluation", "record", "loadRes", "COCOeval"]


@pytest.fixture(autouse=True)
def fresh():
    forget_earlier_runs()
    yield
    forget_earlier_runs()


def test_figures_are_equal_and_every_part_is_timed(capsys):
    print_tail(images=6, detections=30, classes=3)
    out = capsys.readouterr().out
    assert all(name in out for name in [*PARTS, "equal figures", "pycocotools"])


def test_other_figures_are_refused(monkeypatch):
    def others(path, samples):
        return {"loadRes": 1.0, "COCOeval": 1.0}, [0.5] * 12

    monkeypatch.setattr(evaluation_tail, "_original", others)
    with pytest.raises(RuntimeError, match=r"expected the figures \[0.5, .* got \["):
        tail_times(images=2, detections=4, classes=2)


@pytest.mark.parametrize("case", [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_nothing_to_measure(case):
    with pytest.raises(UserError, match=f"at least 1, got {case[0]}, {case[1]} and"):
        print_tail(*case)
