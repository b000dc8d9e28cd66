"""A sweep of fake cells, to be interrupted: python driver.py OUT; on real processes."""

import os
import sys
from pathlib import Path

from fakes import fake_job, make_cell

from mmrev.sweep import sweep
from mmrev.sweep.entries import look
from mmrev.sweep.executors import LocalExecutor
from mmrev.sweep.suite import Run, Suite

if __name__ == "__main__":
    out = Path(sys.argv[1])
    os.environ["OMP_NUM_THREADS"] = "1"
    sweep.job_of = fake_job
    suite = Suite(name="fake", out=str(out), seeds=[0], runs={"a": Run(config="a")})
    first = make_cell(out, "first", tested=False)
    cells = [first, make_cell(out, "second", start=first), make_cell(out, "other")]
    executor = LocalExecutor(out / "jobs", 2, 0)
    with sweep.alone(out):
        sys.exit(sweep.Sweep(suite, look(cells), executor).run())
