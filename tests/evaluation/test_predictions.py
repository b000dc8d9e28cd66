"""Stored predictions of others: what they say of themselves is not believed."""

import io
import zipfile

import numpy as np
import pytest
import torch

from mmrev.evaluation.predictions import DumpPredictions, read_predictions


@pytest.fixture
def members(tmp_path) -> dict[str, bytes]:
    """The arrays of a file with boxes, by name."""
    path = tmp_path / "sound.npz"
    dump = DumpPredictions(str(path))
    found = dict(bboxes=torch.rand(2, 4), scores=torch.rand(2), labels=torch.arange(2))
    sample = dict(img_path="a.jpg", img_id=1, ori_shape=(6, 8), pred_instances=found)
    dump.process(None, [sample])
    dump.evaluate(1)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def refused(members, tmp_path):
    """Read a file in which one array is another; return the message."""

    def read(name: str, content: bytes) -> str:
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, kept in (members | {f"{name}.npy": content}).items():
                archive.writestr(member, kept)
        with pytest.raises(ValueError) as error:
            list(read_predictions(path))
        assert str(error.value).startswith(f"predictions {path}: ")
        return str(error.value)

    return read


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_larger_than_an_array_may_be(refused, monkeypatch):
    """As packed zeros are: 100 MB of them in 0.1 MB."""
    monkeypatch.setenv("MMREV_LIMITS", "0.001")
    zeros = npy(np.zeros((2, 4, 400_000), np.float32))
    assert "boxes: expected at most 8,000,000 bytes, got 12,800" in refused(
        "boxes", zeros
    )


def test_claims_without_content(refused):
    """numpy would make room for 4 TB."""
    sound = npy(np.zeros((2, 4), np.float32))
    claim = sound.replace(b"(2, 4), ", b"(9**9,4)").replace(b"(9**9,4)", b"(9999999,4)")
    header = len(claim) - len(sound)
    claim = claim.replace(b" " * header + b"\n", b"\n")
    assert "boxes: it says to be of shape (9999999, 4)" in refused("boxes", claim)


@pytest.mark.parametrize("sizes", [(-6, -8), (0, 8), (2**31 - 1, 2**31 - 1)])
def test_sizes_of_images(refused, sizes):
    """Two negative ones have a sound product, and C code takes both for huge."""
    assert "sizes: expected at " in refused("sizes", npy(np.array([sizes], np.int32)))


def test_an_array_that_is_none(refused):
    assert "magic" in refused("boxes", b"text")
