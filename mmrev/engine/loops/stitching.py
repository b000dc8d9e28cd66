"""A test of every stitch of a stitched backbone."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.runner import TestLoop

from mmrev.errors import UserError
from mmrev.evaluation.predictions import DumpPredictions
from mmrev.models.stitching import find_stitched
from mmrev.registry import LOOPS

__all__ = ["StitchTestLoop"]


@LOOPS.register_module()
class StitchTestLoop(TestLoop):
    """Tests stitches one after the other; each leaves a record of its own.

    Predictions that are dumped get the id at the end of the file's name.

    Args:
        *args: of mmengine's TestLoop.
        stitches: ids; None takes all.
        **kwargs: of mmengine's TestLoop.
    """

    def __init__(self, *args, stitches: Sequence[int] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.stitches = stitches

    def run(self) -> dict[str, float]:
        """Test; return metrics by ``stitch{id}/{name}``.

        Raises:
            UserError: if a stitch does not exist.
        """
        backbone = find_stitched(self.runner.model)
        dumps = {
            metric: Path(metric.out_file_path)
            for metric in self.evaluator.metrics
            if isinstance(metric, DumpPredictions)
        }
        stitches = backbone.stitch_ids if self.stitches is None else self.stitches
        if unknown := [i for i in stitches if i not in backbone.stitch_ids]:
            raise UserError(
                f"test_cfg.stitches must lie in {backbone.stitch_ids[0]}.."
                f"{backbone.stitch_ids[-1]}, got {unknown[0]}."
            )
        metrics = {}
        for stitch in stitches:
            backbone.set_stitch(stitch)
            self.runner.logger.info(f"stitch {stitch}: {backbone.routes[stitch]}")
            for metric, path in dumps.items():
                name = f"{path.stem}-stitch{stitch}{path.suffix}"
                metric.out_file_path = str(path.with_name(name))
            found = super().run()
            metrics |= {f"stitch{stitch}/{name}": v for name, v in found.items()}
        return metrics
