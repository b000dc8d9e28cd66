"""The process that `supervisor.run` starts."""

import logging
from argparse import ArgumentParser

import torch

from mmrev.console import quiet
from mmrev.errors import UserError, one_line_errors
from mmrev.studies.gpu_check.place import SIZES, Place
from mmrev.studies.gpu_check.plan import checks
from mmrev.studies.gpu_check.report import Report
from mmrev.studies.gpu_check.worker import work


@one_line_errors
def main() -> int:
    """Go on with the report in a folder."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    quiet()
    logging.disable(logging.INFO)  # what is said of every parameter and model
    device = torch.device(args.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                f"expected a GPU that torch {torch.__version__} can use, got none; "
                "install a torch with CUDA and the driver, or take --device cpu "
                "--size tiny."
            )
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    place = Place(device, args.size)
    chosen = [check for check in checks(place) if args.only in check.name]
    if not chosen:
        names = ", ".join(check.name for check in checks(place))
        raise UserError(f"no check is called {args.only!r}; there are {names}.")
    return work(place, Report.read(args.out), chosen)


if __name__ == "__main__":
    raise SystemExit(main())
