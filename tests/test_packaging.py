"""What a wheel and a source distribution of mmrev hold and ask for."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("mmrev", "tools", "configs", "requirements", "installing")
FILES = (
    *("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "model-index.yml"),
    *("mmrev_ops.py", "mmrev_ops.pth"),
)
BUILD = """
import sys
sys.path.insert(0, "installing")
import backend as build_meta
folder = sys.argv[1]  # setuptools writes its own arguments there
build_meta.build_sdist(folder)
build_meta.build_wheel(folder)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The files that packaging sees, away from the real ones."""
    folder = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("__pycache__", ".mim")
    for name in PARTS:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(clone) -> tuple[Path, Path]:
    """A source distribution and a wheel, built without a network."""
    (clone / "dist").mkdir()
    command = [sys.executable, "-c", BUILD, "dist"]
    run = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (source,) = (clone / "dist").glob("*.tar.gz")
    (wheel,) = (clone / "dist").glob("*.whl")
    return source, wheel


def tracked(folder: str) -> set[str]:
    """Python files of a folder, relative to the clone."""
    return {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py")}


def data_files() -> set[str]:
    """What mmrev reads beside its modules."""
    board = ROOT / "mmrev/leaderboard"
    places = (*board.glob("site/*/*.*"), *board.glob("published/*.json"))
    found = {str(path.relative_to(ROOT)) for path in places if path.suffix != ".pyc"}
    assert len(found) > 15
    return found | {"mmrev/browse/page.html"}


def test_wheel_ships_configs_and_tools_as_mim(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    for folder in ("configs", "tools"):
        assert {f"mmrev/.mim/{name}" for name in tracked(folder)} <= names
    assert data_files() <= names
    assert "mmrev/.mim/model-index.yml" in names
    assert "mmrev/.mim/configs/revcol/metafile.yml" in names
    assert "mmrev/.mim/configs/suites/full.yaml" in names
    modules = {name for name in tracked("mmrev") if "/.mim/" not in name}
    assert modules <= names
    assert not any("__pycache__" in name for name in names)
    assert {name.split("/")[0] for name in names} == {
        *("mmrev", "mmrev-0.1.0.dist-info", "mmrev_ops.py", "mmrev_ops.pth")
    }


def test_source_distribution_can_build_the_same_wheel(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {*FILES, *tracked("configs"), *tracked("tools"), *data_files()}
    expected |= {f"requirements/{p.name}" for p in (ROOT / "requirements").iterdir()}
    assert expected <= names
    assert not any(name.startswith("mmrev/.mim") for name in names)


def test_plain_installation_asks_for_torch_and_numpy_only(built):
    with zipfile.ZipFile(built[1]) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    lines = metadata.get_all("Requires-Dist")
    plain = {line.split(">")[0] for line in lines if "extra" not in line}
    assert plain == {"torch", "numpy"}
    suite = [line for line in lines if 'extra == "suite"' in line]
    assert any(line.startswith("onedl-mmdetection==3.5.1") for line in suite)
    assert metadata.get_all("Provides-Extra") == ["suite", "demo", "tests"]
    assert metadata["Requires-Python"] == ">=3.10,<3.14"


def test_installation_replaces_nothing(built, tmp_path):
    """A wheel of files of its own cannot touch another package's."""
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps"]
    options = ["--quiet", "--target", str(tmp_path / "site")]
    subprocess.run([*command, *options, str(built[1])], check=True)
    names = {path.name for path in (tmp_path / "site").iterdir()}
    assert names == {
        *(
            "mmrev",
            "mmrev-0.1.0.dist-info",
            "mmrev_ops.py",
            "mmrev_ops.pth",
            "__pycache__",
        )
    }
    (info,) = (tmp_path / "site").glob("*.dist-info")
    assert "\nmmrev_ops.pth,sha256=" in (info / "RECORD").read_text()


def test_editable_installation_links_to_the_clone(clone):
    code = BUILD.partition("folder")[0] + "build_meta.build_editable('editable')"
    (clone / "editable").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=clone, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    (wheel,) = (clone / "editable").glob("*.whl")
    assert "mmrev_ops.pth" in zipfile.ZipFile(wheel).namelist()
    mim = clone / "mmrev/.mim"
    assert (mim / "configs").is_symlink()
    assert (mim / "configs").resolve() == (clone / "configs").resolve()
    assert (mim / "tools/train.py").exists()
