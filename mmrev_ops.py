"""Lets ``import mmcv.ops`` work where mmcv was installed without its compiled ops.

A module of its own, of the standard library alone: ``mmrev_ops.pth``, which is
installed beside it, imports it at every start of the environment's Python, and `mmrev`
where there is no such file. `mmrev.ops` says what it finds then.
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

NAME = "mmcv._ext"


class Finder:
    """Comes last: compiled ops, where there are some, are found before."""

    @staticmethod
    def find_spec(
        name: str, path: object = None, target: object = None
    ) -> "ModuleSpec | None":
        """The stand-in, if it is asked for mmcv's extension; else None."""
        if name != NAME:
            return None
        # mmrev itself is not imported: it brings more than mmcv.ops needs.
        mmrev = importlib.util.find_spec("mmrev")
        for folder in mmrev.submodule_search_locations if mmrev else ():
            file = Path(folder, "ops", "extension.py")
            if file.exists():
                return importlib.util.spec_from_file_location(name, file)
        return None


sys.meta_path.append(Finder)
