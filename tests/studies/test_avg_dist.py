"""The table of AvgDist, its file and its figure."""

import json
from argparse import Namespace

import pytest

from mmrev.datasets.masks import SimMIMMaskGenerator
from mmrev.errors import UserError
from mmrev.studies.avg_dist import measure, show_distances

ARGUMENTS = dict(size=32, patches=[4, 16], ratios=[0.25, 0.5], out=None, plot=None)


def test_table_file_and_figure(tmp_path, capsys):
    out, plot = tmp_path / "a/found.json", tmp_path / "found.svg"
    show_distances(Namespace(**{**ARGUMENTS, "out": str(out), "plot": str(plot)}))
    found = json.loads(out.read_text())
    assert found.keys() == {"size", "patches", "ratios", "masks", "avg_dist"}
    assert found["avg_dist"][1][0] == SimMIMMaskGenerator(32, 16, 1, 0.25).avg_dist
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{found['avg_dist'][0][1]:.1f}" in printed and "images of 32" in printed
    assert "SimMIM's best" not in printed  # that is of images of 192
    assert "<svg" in plot.read_text()


def test_larger_patches_and_ratios_hide_more():
    (few, more), (large, _) = measure(32, [4, 8], [0.25, 0.5])
    assert few < more and few < large


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(patches=[5]), "--patches.*: .*must divide input_size=32, got 5"),
        (dict(ratios=[0.5, 2.0]), "--ratios: .*between 0 and 1, got 2.0"),
        (dict(patches=[32]), "masks all 1 patches"),
        (dict(out="a.yaml"), "--out must end in .json, got a.yaml"),
        (dict(plot="a.html"), "--plot must end in .png, .svg, .pdf, got a.html"),
    ],
)
def test_bad_arguments(changed, message):
    with pytest.raises(UserError, match=message):
        show_distances(Namespace(**{**ARGUMENTS, **changed}))
