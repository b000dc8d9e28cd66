"""Names that come from others build what is registered, and nothing else."""

import sys

import pytest
from mmengine.registry import DATASETS, MODELS

from mmrev.registry import use_registered_names


def test_mmengine_would_import(tmp_path, monkeypatch):
    """The reason; if this fails, mmengine has changed and `mmrev.registry` may."""
    (tmp_path / "guard_evil_module.py").write_text("ran = True")
    monkeypatch.syspath_prepend(tmp_path)
    MODELS.get("guard_evil_module")
    assert sys.modules.pop("guard_evil_module").ran


@pytest.mark.parametrize(
    "settings",
    [
        dict(type="guard_evil_module"),
        dict(type="guard_evil_package.Model"),
        dict(type="os.system", command="exit 1"),
        dict(type="mmdet.os.system"),
        dict(type="torch.nn.Identity"),
        dict(type="Anything", _scope_="guard_evil_package"),
    ],
    ids=lambda settings: settings["type"],
)
def test_only_what_is_registered(settings, tmp_path, monkeypatch):
    package = tmp_path / "guard_evil_package"
    package.mkdir()
    for path in (package / "__init__.py", tmp_path / "guard_evil_module.py"):
        path.write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    use_registered_names()
    with pytest.raises(KeyError, match="is not in the"):
        MODELS.build(settings)
    assert not any(name.startswith("guard_evil") for name in sys.modules)


def test_registered_names_are_found():
    use_registered_names()
    for name in (
        "mmrev.RevCol",
        "mmdet.ResNet",
        "mmseg.EncoderDecoder",
        "BaseTTAModel",
    ):
        assert MODELS.get(name) is not None
    assert DATASETS.get("mmrev.ScenesDetDataset") is not None
