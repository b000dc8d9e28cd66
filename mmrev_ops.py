"""Lets ``import mmcv.ops`` work where mmcv was installed without its compiled ops.

A module of its own, of the standard library alone: ``mmrev_ops.pth``, which is
installed beside it, imports it at every start of the environment's Python, and `mmrev`
where there is no such file. `mmrev.ops` says what it finds then.
"""

import sys

NAME = "mmcv._ext"


class Finder:
    """Comes last: compiled ops, where there are some, are found before."""

    @staticmethod
    def find_spec(name: str, path=None, target=None):
        """Spec of the stand-in, if it is asked for mmcv's extension; else None."""
        if name != NAME:
            return None
        # Not before: every start of Python would pay for it.
        from importlib.util import find_spec, spec_from_file_location
        from pathlib import Path

        # mmrev itself is not imported: it brings more than mmcv.ops needs.
        mmrev = find_spec("mmrev")
        for folder in mmrev.submodule_search_locations if mmrev else ():
            file = Path(folder, "ops", "extension.py")
            if file.exists():
                return spec_from_file_location(name, file)
        return None


sys.meta_path.append(Finder)
