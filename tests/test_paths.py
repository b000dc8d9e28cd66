"""Names of others lie below their folder."""

import pytest

from mmrev.paths import inside, leads_out


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../a", "a/../b", "a/..", "..", "~/a", "~root/a", "\\a"),
        *("C:\\a", "c:a", "http://host/a", "s3://b/a", "file:/a", "a\\..\\b", "a\0b"),
    ],
)
def test_leads_out(name):
    assert leads_out(name)


@pytest.mark.parametrize(
    "name", ["", ".", "a", "a/b.json", "..a", "a..", "a.../b", "a~", "./a", "a b/ü.jpg"]
)
def test_does_not(name):
    assert not leads_out(name)


def test_inside_follows_links(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    for folder in (root, other):
        (folder / "a").write_text("")
    (root / "link").symlink_to(other / "a")
    (root / "own").symlink_to(root / "a")
    (tmp_path / "way").symlink_to(root)
    assert inside(root / "a", root)
    assert inside(root / "own", root)
    assert inside(tmp_path / "way" / "a", root)
    assert inside(root / "a", tmp_path / "way")
    assert not inside(root / "link", root)
    assert inside(root / "link", root, other)
    assert not inside(root / ".." / "other" / "a", root)
