"""Where mmengine looks for the configs ``mmseg::...`` and ``mmrev::...``.

It looks for those of mmseg in a distribution called mmsegmentation; the module's own
name finds them whatever distribution installed it. ``mmrev::`` it does not know.

Standard library only: `mmrev/__init__.py` asks for it, and must not load mmengine.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

__all__ = ["name_config_packages"]

_PLACE = "mmengine.config.utils"


class _Finder:
    """Finds mmengine's table as ever, and lets it be completed once it is loaded."""

    @staticmethod
    def find_spec(name: str, path=None, target=None) -> ModuleSpec | None:
        """Spec of the module with the table, if it is asked for; else None."""
        if name != _PLACE or (spec := PathFinder.find_spec(name, path)) is None:
            return None
        load = spec.loader.exec_module

        def load_and_complete(module: ModuleType) -> None:
            load(module)
            _complete(module)

        spec.loader.exec_module = load_and_complete
        return spec


def name_config_packages() -> None:
    """Complete mmengine's table of packages, now or as soon as mmengine is imported."""
    if module := sys.modules.get(_PLACE):
        _complete(module)
    else:
        sys.meta_path.insert(0, _Finder)


def _complete(module: ModuleType) -> None:
    # An mmengine too old to have it is `mmrev.compatibility`'s to complain about.
    getattr(module, "MODULE2PACKAGE", {}).update(mmseg="mmseg", mmrev="mmrev")
