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
    parser.add_argument("--began", type=float, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    args = parser.parse_args()
    quiet()
    logging.disable(logging.INFO)  # what is said of every parameter and model
    place = Place(_device(args.device), args.size)
    chosen = [check for check in checks(place) if args.only in check.name]
    if not chosen:
        names = ", ".join(check.name for check in checks(place))
        raise UserError(f"no check is called {args.only!r}; there are {names}.")
    report = Report.of_run(args.out, args.began, args.minutes)
    return work(place, report, chosen)


def _device(name: str) -> torch.device:
    kind, _, index = name.partition(":")
    if kind not in ("cuda", "cpu") or (index and not index.isdecimal()):
        raise UserError(f"--device must be cuda, cuda:1 or cpu, got {name!r}.")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            f"expected a GPU that torch {torch.__version__} can use, got none; install "
            "a torch with CUDA and the driver, or take --device cpu --size tiny."
        )
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        raise UserError(f"--device must be one of {count} GPUs, got {name!r}.")
    device = torch.device("cuda", int(index or 0))
    torch.cuda.set_device(device)
    return device


if __name__ == "__main__":
    raise SystemExit(main())
