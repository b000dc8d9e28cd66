"""Routes and layer sharing, against the counts of the papers and their code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrev.models.stitching.routes import count_layers, enumerate_routes, segments

DEIT = [[12]] * 3
SWIN = [[2, 2, 6, 2], [2, 2, 18, 2], [2, 2, 18, 2]]
RESNET = [[2, 2, 2, 2], [3, 4, 6, 3]]
RESNET_SWIN = [[2, 2, 2, 2], [2, 2, 6, 2]]
LEVIT = [[4, 4, 4]] * 2


# Counted by ziplab/SN-Net's own functions; 71, 41, 10 and 8 are in the paper, too.
@pytest.mark.parametrize(
    ("depths", "settings", "count"),
    [
        (DEIT, dict(stages=(0,)), 71),
        (DEIT, dict(stages=(0,), window=1), 27),
        (DEIT, dict(stages=(0,), window=2, stride=2), 51),
        (DEIT, dict(stages=(0,), window=3), 111),
        (DEIT, dict(stages=(0,), window=4, stride=4), 99),
        (DEIT, dict(stages=(0,), nearest=False), 732),
        (SWIN, dict(stages=(0, 1, 2), monotone=True), 41),
        (RESNET, dict(stages=(1, 2), monotone=True), 10),
        (RESNET_SWIN, dict(stages=(1, 2), monotone=True), 8),
        (LEVIT, dict(stages=(0, 1), monotone=True), 8),
        ([[12], [24]], dict(stages=(0,), two_way=True), 135),
    ],
)
def test_counts_equal_the_references(depths, settings, count):
    routes = enumerate_routes(depths, **settings)
    assert len(routes) == len(set(routes)) == count


def test_order_and_layers_of_deit():
    routes = enumerate_routes(DEIT, stages=(0,))
    pairs = [(c.after, c.before, c.layer) for r in routes[3:37] for c in r.crossings]
    assert pairs[:4] == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
    assert pairs[4:7] == [(1, 2, 1), (2, 1, 1), (2, 2, 1)]
    assert routes[24].crossings[0][3:5] == (7, 7)
    assert {route.anchors for route in routes[37:]} == {(1, 2)}
    assert count_layers(routes) == {(0, 0, 1): 11, (0, 1, 2): 11}


def test_order_of_swin_is_stage_by_stage():
    routes = enumerate_routes(SWIN, stages=(2, 0, 1), monotone=True)
    places = [(c.stage, c.front) for r in routes for c in r.crossings]
    assert places == [(0, 0), (0, 1), (1, 0), (1, 1), *[(2, 0)] * 17, *[(2, 1)] * 17]


@pytest.mark.parametrize(
    ("sharing", "first"),
    [
        ("reference", {(0, 1), (0, 2), (1, 3)}),
        ("aligned", {(0, 1), (0, 2)}),
    ],
)
def test_sharing_where_depths_differ(sharing, first):
    routes = enumerate_routes(SWIN, stages=(2,), monotone=True, sharing=sharing)
    crossings = [c for r in routes for c in r.crossings if c.front == 0]
    assert {(c.after, c.before) for c in crossings if c.layer == 0} == first
    # The reference never uses the last stitch for its own block alone.
    second = {(c.after, c.before) for c in crossings if c.layer == 1}
    expected = {
        "reference": {(1, 4), (1, 5), (2, 6)},
        "aligned": {(1, 3), (1, 4), (1, 5)},
    }
    assert second == expected[sharing]


@pytest.mark.parametrize(
    ("id", "text"),
    [
        (0, "0"),
        (1, "1"),
        (2, "0 >(s0: 0>2)> 1"),
        (13, "0 >(s0: 11>24)> 1"),
        (14, "1 >(s0: 1>1)> 0"),
        (24, "1 >(s0: 21>11)> 0"),
        (79, "1 >(s0: 19>10)> 0 >(s0: 10>22)> 1"),
        (134, "0 >(s0: 9>20)> 1 >(s0: 21>11)> 0"),
    ],
)
def test_ids_of_two_way_routes(id, text):
    assert str(enumerate_routes([[12], [24]], stages=(0,), two_way=True)[id]) == text


depths = st.lists(st.integers(1, 12), min_size=3, max_size=3)


@given(
    st.lists(depths, min_size=2, max_size=4),
    st.sets(st.integers(0, 2), min_size=1),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["reference", "aligned"]),
)
def test_any_routes_can_be_walked(
    depths, stages, window, stride, monotone, two_way, sharing
):
    routes = enumerate_routes(
        depths,
        stages=stages,
        window=window,
        stride=stride,
        monotone=monotone,
        two_way=two_way,
        sharing=sharing,
    )
    assert [r.anchors for r in routes[: len(depths)]] == [
        (anchor,) for anchor in range(len(depths))
    ]
    assert len(set(routes)) == len(routes)
    for route in routes:
        # Blocks of a stage run in order, each stage is ended once, by one anchor.
        walk = list(segments(route, depths))
        assert [s.stage for s in walk if s.crossing is None] == [0, 1, 2]
        assert [s.stage for s in walk] == sorted(s.stage for s in walk)
        for anchor, stage, start, stop, crossing in walk:
            assert 0 <= start <= stop <= depths[anchor][stage]
            assert crossing is None or (stop > start and crossing.front == anchor)
        if not two_way:
            assert list(route.anchors) == sorted(route.anchors)
            assert all(not monotone or c.after < c.before for c in route.crossings)
    if sharing == "aligned" and not two_way:
        ends = {}
        for crossing in (c for r in routes for c in r.crossings):
            front, end, stage = crossing.front, crossing.end, crossing.stage
            if depths[front][stage] != depths[end][stage]:
                key = stage, front, end, crossing.layer
                assert ends.setdefault(key, crossing.after) == crossing.after


@pytest.mark.parametrize(
    ("depths", "settings", "message"),
    [
        ([[12]], dict(stages=(0,)), "two or more anchors"),
        ([[2, 2], [2]], dict(stages=(0,)), "same number of stages"),
        ([[2, 0], [2, 2]], dict(stages=(0,)), "must be >= 1"),
        (DEIT, dict(stages=(1,)), r"different numbers of 0\.\.0, got \(1,\)"),
        (DEIT, dict(stages=()), "different numbers"),
        (DEIT, dict(stages=(0,), window=0), "window must be >= 1, got 0"),
        (DEIT, dict(stages=(0,), stride=-1), "stride must be >= 1, got -1"),
        (DEIT, dict(stages=(0,), sharing="none"), "'reference' or 'aligned'"),
        (DEIT, dict(stages=(0,), two_way=True, nearest=False), "set nearest=True"),
    ],
)
def test_settings_that_make_no_sense(depths, settings, message):
    with pytest.raises(ValueError, match=message):
        enumerate_routes(depths, **settings)
