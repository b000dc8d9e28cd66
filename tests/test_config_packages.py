"""Bases of mmseg and mmrev are found, whichever comes first."""

import subprocess
import sys

import pytest

from mmrev.config_packages import _Finder

BASES = {
    "mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py": "EncoderDecoder",
    "mmrev::revcol/revcol-t_dino-4scale_8xb2-12e_coco.py": "mmrev.DINO",
}


@pytest.mark.parametrize("first", ["mmrev", "mmengine"])
def test_configs_of_mmseg_and_mmrev_are_found(tmp_path, first):
    paths = []
    for number, base in enumerate(BASES):
        paths.append(tmp_path / f"{number}.py")
        paths[-1].write_text(f"_base_ = [{base!r}]")
    code = (
        f"import {first}, mmrev, sys\n"
        "from mmengine.config import Config\n"
        "for path in sys.argv[1:]: print(Config.fromfile(path).model.type)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True
    )
    assert run.stdout.split() == [*BASES.values()], run.stderr


def test_nothing_else_is_found():
    assert _Finder.find_spec("mmengine.config.config", []) is None
    assert _Finder.find_spec("mmengine.config.utils", []) is None  # no mmengine
