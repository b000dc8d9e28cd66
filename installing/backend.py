"""Setuptools' build, with ``mmrev_ops.pth`` beside the package in every wheel.

setuptools has no way to put a file there, least of all of an editable install. pip
lists it in mmrev's RECORD, so that it is uninstalled with it.
"""

import shutil
import tempfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  the other hooks
from wheel.wheelfile import WheelFile

HOOK = Path(__file__).parents[1] / "mmrev_ops.pth"


def build_wheel(directory, config_settings=None, metadata_directory=None):
    """As setuptools."""
    name = build_meta.build_wheel(directory, config_settings, metadata_directory)
    return _with_hook(directory, name)


def build_editable(directory, config_settings=None, metadata_directory=None):
    """As setuptools."""
    name = build_meta.build_editable(directory, config_settings, metadata_directory)
    return _with_hook(directory, name)


def _with_hook(directory, name):
    path = Path(directory, name)
    with tempfile.TemporaryDirectory() as folder:
        with WheelFile(path) as wheel:
            wheel.extractall(folder)
        shutil.copy(HOOK, folder)
        with WheelFile(path, "w") as wheel:
            wheel.write_files(folder)  # and a new RECORD
    return name
