"""States, blocks and receptive fields of small backbones, and the figure of them."""

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from shrink import BACKBONES, CHANNELS
from torch import nn

from mmrev.leaderboard.environment import hardware
from mmrev.leaderboard.record import Software
from mmrev.registry import MODELS
from mmrev.studies.features.collect import Features
from mmrev.studies.features.plot import FORMATS, MOST_MAPS, draw
from mmrev.studies.features.report import Report, Source
from mmrev.studies.features.states import layer_scales, states_of, watched

STITCHED = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            type="mmrev.RevCol",
            arch=dict(channels=widths, depths=[1, 1, 1, 1], num_columns=2),
        )
        for widths in ([4, 8, 12, 16], [8, 12, 16, 20])
    ],
    routes=dict(stages=(0,), monotone=True),
)


def built(kind="mmrev.RevCol", **settings):
    torch.manual_seed(0)
    old = ConfigDict(type=kind, arch="tiny", **settings)
    backbone = MODELS.build(BACKBONES[kind](old))
    backbone.init_weights()
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.5)
    return backbone.eval()


def images(count=4, size=64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, size, size, generator=generator)


def test_states_of_columns_are_what_a_network_of_so_many_returns():
    backbone = built()
    x = images()
    with torch.no_grad():
        states = list(states_of(backbone, x))
        assert [(s.column, s.level) for s in states] == [
            (column, level) for column in range(4) for level in range(4)
        ]
        for count in (4, 3, 2, 1):
            backbone.columns = backbone.columns[:count]
            backbone.num_columns = count
            own = [state.values for state in states if state.column == count - 1]
            assert all(map(torch.equal, own, backbone(x)))


# Of others, the levels that they return.
OTHERS = {"mmrev.StitchedBackbone", "mmrev.RevColV2", "mmpretrain.BEiTViT"}


@pytest.mark.filterwarnings("ignore:.* is evaluated at fade")
@pytest.mark.parametrize("kind", sorted(BACKBONES.keys() - OTHERS))
def test_states_of_stages_are_levels_whatever_the_config_takes(kind):
    whole = built(kind)
    part = built(kind, out_indices=(3,), out_norm="layer_norm")
    with torch.no_grad():
        expected = whole(images())
        for backbone in (whole, part):
            found = [state.values for state in states_of(backbone, images())][-4:]
            assert all(map(torch.equal, found, expected))


def test_other_backbones_give_what_they_return():
    resnet = dict(type="mmdet.ResNet", depth=18, base_channels=4, stem_channels=4)
    backbone = MODELS.build(dict(resnet, out_indices=(1, 3)))
    backbone.eval()
    states = list(states_of(backbone, images()))
    assert [state.level for state in states] == [1, 3]
    stitched = MODELS.build(STITCHED).eval()
    for stitch in (0, 2):
        stitched.set_stitch(stitch)
        found = [state.values for state in states_of(stitched, images())]
        assert all(map(torch.equal, found, stitched(images())))


class Toy(nn.Module):
    """Returns what a function makes of images."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda x: x.flatten(1), r"got \(4, 12288\)"),
        (lambda x: (x, x.mean((2, 3))), r"got \(4, 3\)"),
        (lambda x: [[x, x]], "got list"),
        (lambda x: None, "got NoneType"),
    ],
)
def test_what_is_no_level_is_refused(function, got):
    with pytest.raises(ValueError, match=rf"Toy: expected levels, .*{got}\. .*featmap"):
        list(states_of(Toy(function), images()))


def test_blocks_of_columns_and_what_they_add():
    backbone = built()
    level = backbone.columns[1].levels[2]
    level.blocks[0].gamma.data.zero_()
    blocks = {}
    with torch.no_grad(), watched(backbone, blocks):
        for _ in range(2):
            list(states_of(backbone, images()))
    names = [f"columns.{c}.levels.{i}.blocks.0" for c in range(4) for i in range(4)]
    assert list(blocks) == names
    for name, block in blocks.items():
        assert (block.branch.rms == 0) == (name == "columns.1.levels.2.blocks.0")
        (scale,) = layer_scales(block.module)
        assert scale.shape == (block.shape[0],)
    # Outside nothing is looked at.
    before = blocks[names[0]].input.rms
    backbone(10 * images())
    assert blocks[names[0]].input.rms == before


@pytest.mark.parametrize(
    ("settings", "count", "scaled"),
    [
        (dict(kind="mmrev.SwinTransformerV2"), 12, 0),  # attention and MLP of each
        (dict(kind="mmrev.NFNet", coupling="dual"), 3, 3),
        (dict(kind="mmrev.VanillaNet"), 1, 0),
    ],
)
def test_blocks_of_other_families(settings, count, scaled):
    backbone, blocks = built(**settings), {}
    with torch.no_grad(), watched(backbone, blocks):
        list(states_of(backbone, images()))
    assert len(blocks) == count
    assert sum(map(bool, (layer_scales(b.module) for b in blocks.values()))) == scaled


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        (dict(type="mmdet.ResNet", depth=18, base_channels=4, stem_channels=4), 0),
        (
            dict(
                type="mmpretrain.ConvNeXt",
                arch=dict(depths=[1, 2, 1, 1], channels=CHANNELS),
                out_indices=(0, 1, 2, 3),
                gap_before_final_norm=False,
            ),
            5,
        ),
    ],
)
def test_blocks_of_other_toolboxes(settings, scales):
    backbone, blocks = MODELS.build(settings), {}
    backbone.eval()  # which returns nothing there
    with torch.no_grad(), watched(backbone, blocks):
        list(states_of(backbone, images()))
    assert len(blocks) == 5
    found = [layer_scales(block.module) for block in blocks.values()]
    assert sum(map(bool, found)) == scales


def analysed(backbone, levels=None, labels=None, fields=2, count=8):
    features = Features(backbone, levels)
    for batch in images(count).split(4):
        features.add(batch, labels)
    for image in images(fields).split(1) if fields else ():
        features.add_field(image)
    return features


def test_what_is_the_image_and_what_is_the_label():
    labels = torch.eye(4)[[0, 0, 1, 2]]

    def levels(x):
        classes = labels[: len(x), :, None, None].expand(-1, -1, 2, 2)
        return x, classes, torch.ones_like(x)

    image, label, constant = analysed(Toy(levels), labels=labels).states()
    assert image.image.value == pytest.approx(1)
    assert label.label.value == pytest.approx(1)
    assert image.label.value == pytest.approx(label.image.value)
    assert constant.image.value is None and constant.label.value is None
    assert (image.field.area_50, image.field.area_95) == (1 / 64**2, 1 / 64**2)
    assert label.field.area_50 is None
    assert sum(map(sum, image.field.map)) == pytest.approx(1)
    assert (constant.sizes.rms, constant.sizes.std, constant.sizes.max) == (
        pytest.approx(1),
        0,
        1,
    )


@pytest.mark.parametrize(
    ("size", "cells"),
    [((20, 12), (20, 12)), ((96, 160), (38, 64)), ((128, 1), (64, 1))],
)
def test_maps_keep_their_shape(size, cells):
    features = Features(Toy(lambda x: x))
    x = torch.randn(4, 3, *size)
    features.add(x, None)
    features.add_field(x[:1])
    (state,) = features.states()
    found = torch.tensor(state.field.map)
    assert found.shape == cells and found.sum() == pytest.approx(1)
    assert state.label is None


def test_gains_and_levels_of_columns():
    backbone = built()
    backbone.columns[2].gains[1].data.fill_(-0.25)
    backbone.columns[2].gains[1].data[0, 0] = 0
    features = analysed(backbone, levels=(1, 3), fields=1)
    states = features.states()
    assert [(s.column, s.level) for s in states] == [
        (column, level) for column in range(4) for level in (1, 3)
    ]
    assert [s.gain is None for s in states] == [True, True] + [False] * 6
    gain = states[4].gain
    # The floor of the gain counts, as in the network.
    assert (gain.min, gain.max) == pytest.approx((1e-3, 0.25))
    levels = [block.level for block in features.blocks()]
    assert levels == [None, 1, None, 3] * 4


@pytest.mark.parametrize("memory", ["recompute", "reverse"])
def test_memory_modes_change_nothing(memory):
    expected = analysed(built(memory="store"), levels=(3,)).states()
    assert analysed(built(memory=memory), levels=(3,)).states() == expected


def test_frozen_columns_are_looked_through():
    frozen = analysed(built(frozen_stages=2), levels=(3,), fields=1).states()
    assert frozen == analysed(built(), levels=(3,), fields=1).states()


def test_levels_that_do_not_exist():
    with pytest.raises(ValueError, match=r"levels: expected of 0, 1, 2, 3, got 4, 7\."):
        analysed(built(), levels=(1, 7, 4))


def report_of(features, label="class of the image, one of 4", fields=2):
    return Report(
        date=datetime.now(timezone.utc),
        config=Source(name="small", sha256="0" * 64),
        checkpoint=None,
        backbone=type(features.backbone).__name__,
        stitch=None,
        split="test",
        label=label,
        images=8,
        batch_size=4,
        field_images=fields,
        input_shape=(64, 64),
        seed=0,
        device="cpu",
        software=Software(python="3", packages={}, commit=None, dirty=None),
        hardware=hardware(),
        states=features.states(),
        blocks=features.blocks(),
    )


def drawn(report: Report, suffix: str, monkeypatch) -> tuple[bytes, list]:
    """The picture, and the axes of it that show something."""
    figures = []
    from mmrev.studies.features import plot

    original = plot.Figure

    def noted(*args, **kwargs):
        figures.append(original(*args, **kwargs))
        return figures[-1]

    monkeypatch.setattr(plot, "Figure", noted)
    content = draw(report, suffix)
    return content, [axes for axes in figures[0].get_axes() if axes.has_data()]


def test_a_report_is_read_as_written_and_drawn(monkeypatch):
    labels = torch.eye(4)
    report = report_of(analysed(built(), labels=labels))
    again = Report.model_validate_json(report.model_dump_json())
    assert again == report
    content, axes = drawn(again, ".svg", monkeypatch)
    assert content.lstrip().startswith(b"<?xml")
    titles = [one.get_title(loc="left") for one in axes]
    assert titles[:2] == ["CKA with the image", "CKA with the label"]
    assert titles[4:8] == [f"column 3, level {level}" for level in range(4)]
    by_level = {line.get_label(): line for line in axes[0].containers}
    line, *_ = by_level["level 2"]
    values = [s.image.value for s in report.states if s.level == 2]
    assert line.get_ydata().tolist() == values
    assert line.get_xdata().tolist() == [0, 1, 2, 3]


def test_the_figure_of_stages_without_labels_and_fields(monkeypatch):
    features = analysed(built("mmrev.SwinTransformerV2"), fields=0)
    report = report_of(features, label=None, fields=0)
    content, axes = drawn(report, ".png", monkeypatch)
    assert content.startswith(b"\x89PNG")
    assert len(axes) == 3
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == list("0123")


def test_the_figure_of_many_levels_and_nothing_else(monkeypatch):
    constant = Toy(lambda x: [torch.ones_like(x)] * 9)
    report = report_of(analysed(constant, fields=1), label=None)
    content, axes = drawn(report, ".pdf", monkeypatch)
    assert content.startswith(b"%PDF")
    maps = [one for one in axes if one.get_images()]
    assert len(maps) == MOST_MAPS
    shown = [one.get_title(loc="left") for one in maps]
    assert shown[0] == "level 0" and shown[-1] == "level 8"


def test_the_table_says_what_is_not_known():
    report = report_of(analysed(Toy(lambda x: [torch.ones_like(x)]), fields=0))
    cells = [next(iter(column.cells)) for column in report.table().columns]
    assert cells == ["level 0", "3x64x64", "-", "-", "1", "1", "-", "-", "-"]


def test_every_format_has_a_name():
    assert {Path(f"a{suffix}").suffix for suffix in FORMATS} == {".png", ".svg", ".pdf"}
