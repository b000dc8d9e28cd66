"""The table of a model's stitches: counted, measured and rated."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmrev.atomic import write_bytes
from mmrev.console import quiet, show
from mmrev.errors import UserError
from mmrev.hashes import file_sha256
from mmrev.leaderboard.record import MeasuredRecord
from mmrev.leaderboard.store import load_records
from mmrev.models.stitching import StitchedBackbone, find_stitched
from mmrev.operating_points.costs import costs_table, save_costs, stitch_costs
from mmrev.operating_points.export import load_stitched
from mmrev.operating_points.plot import draw_html, plot_data
from mmrev.operating_points.ratings import Ratings, rate_stitches
from mmrev.runs.nodes import components

__all__ = ["list_stitches"]


def list_stitches(args: Namespace) -> None:
    """Count, measure, rate, draw and print as ``tools/stitches.py`` was asked to.

    Args:
        args: ``config``, ``safe_config``, ``checkpoint`` or None, ``size`` of the
            image, ``repeats`` of the timing, ``device``; ``records``, folders or files
            with the records of a test, or None; ``metric``, a key of theirs, or None;
            ``plot``, the page to write, or None; and ``out``, a file for the table, or
            None.

    Raises:
        UserError: names the path or key at fault; also if a plot is to be no page.
    """
    if args.plot and Path(args.plot).suffix != ".html":
        raise UserError(
            f"--plot must end in .html, got {args.plot}; the page's camera saves a PNG."
        )
    if not args.records and (args.plot or args.metric):
        needing = f"--plot {args.plot}" if args.plot else f"--metric {args.metric}"
        raise UserError(
            f"{needing} needs the metrics of the stitches. Test with test_cfg = "
            "dict(type='mmrev.StitchTestLoop'), then give its folder with --records."
        )
    quiet()
    cfg, model, _ = load_stitched(args)
    backbone = find_stitched(model)
    ratings = _ratings(args, backbone.stitch_ids) if args.records else None
    costs = stitch_costs(backbone, args.size, args.repeats, args.device)
    if ratings:
        for cost in costs:
            cost.metric = ratings.values.get(cost.id)
    if args.out:
        save_costs(costs, args.out)
    (settings,) = components(cfg.model, StitchedBackbone)
    anchors = [_anchor_name(anchor) for anchor in settings.anchors]
    if args.plot:
        page = draw_html(plot_data(costs, ratings.metric, anchors))
        write_bytes(args.plot, page)
    show(costs_table(costs, ratings))


def _ratings(args: Namespace, stitches: Sequence[int]) -> Ratings:
    records, rejected = load_records(args.records)
    measured = [r for r in records.values() if isinstance(r, MeasuredRecord)]
    checkpoint = args.checkpoint and file_sha256(args.checkpoint)
    config = Path(args.config).stem
    try:
        return rate_stitches(
            measured,
            stitches,
            config=config,
            checkpoint=checkpoint,
            metric=args.metric,
        )
    except ValueError as error:
        unread = ""
        if rejected:
            first, why = next(iter(rejected.items()))
            unread = f" Files not read: {len(rejected)}, as {first} ({why})."
        places = " ".join(args.records)
        raise UserError(f"--records {places}: {error}{unread}") from error


def _anchor_name(anchor: Mapping) -> str:
    """Class and size, as a config names them."""
    keys = ("arch", "depth", "model_name")
    sizes = [anchor[key] for key in keys if isinstance(anchor.get(key), str | int)]
    return " ".join(map(str, [anchor["type"].rpartition(".")[2], *sizes[:1]]))
