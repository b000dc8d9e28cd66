"""Checkpoints and their checksums."""

import os
import subprocess

import pytest
import torch

from mmrev.checkpoints import checksums
from mmrev.checkpoints.checksums import (
    ChecksummedBackend,
    checksum_file,
    verify_checksum,
)
from mmrev.checkpoints.runs import find_resumable, read_checkpoint
from mmrev.errors import UserError


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "epoch_1.pth"
    content = {"state_dict": {"w": torch.ones(9)}, "optimizer": {}, "meta": {}}
    torch.save(content, tmp_path / "plain")
    ChecksummedBackend().put((tmp_path / "plain").read_bytes(), str(path))
    (tmp_path / "plain").unlink()
    return path


def test_it_is_what_sha256sum_reads_and_goes_with_its_file(saved):
    beside = checksum_file(saved)
    assert beside.name == "epoch_1.pth.sha256" and verify_checksum(saved)
    subprocess.run(["sha256sum", "-c", beside.name], cwd=saved.parent, check=True)
    ChecksummedBackend().remove(str(saved))
    assert os.listdir(saved.parent) == []


def test_another_byte_is_named(saved):
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    saved.write_bytes(content)
    message = r"epoch_1\.pth is damaged: its SHA-256 is not the one in .*\.sha256; take"
    with pytest.raises(UserError, match=message):
        read_checkpoint(saved)
    path, _, skipped = find_resumable(saved.parent)
    assert path is None and "epoch_1.pth is damaged" in skipped[0]


@pytest.mark.parametrize("content", [b"", b"nothing\n", b"ab" * 31, b"\xff" * 64])
def test_a_checksum_that_is_none(saved, content):
    checksum_file(saved).write_bytes(content)
    with pytest.raises(UserError, match=r"\.sha256 holds no SHA-256, so whether .*pth"):
        read_checkpoint(saved)


def test_killed_between_the_two_it_has_none(saved, monkeypatch):
    """And not the one of the file that was there before."""
    monkeypatch.setattr(checksums, "write_bytes", lambda *_: os._exit(9))
    if (child := os.fork()) == 0:
        ChecksummedBackend().put(b"another", str(saved))
    os.waitpid(child, 0)
    assert saved.read_bytes() == b"another"
    assert not verify_checksum(saved)


def test_of_an_address_or_nothing_there_is_none(tmp_path):
    assert not verify_checksum("https://example.org/v1/w.pth")
    assert not verify_checksum(tmp_path / "absent.pth")
