"""Folders set aside: gone for good after the block, back in place if it ends early."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataminer.store.trash import set_aside


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("frames", "videos")]
    for folder in made:
        folder.mkdir()
        (folder / "kept.jpg").write_bytes(b"picture")
    return made


def listing(folders: list[Path]) -> list[str]:
    root = folders[0].parent
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_was_set_aside_is_back_however_the_block_ends(
    folders: list[Path], end: type[BaseException]
) -> None:
    before = listing(folders)
    with pytest.raises(end), set_aside([*folders, folders[0].with_name("missing")]):
        assert not any(folder.exists() for folder in folders)
        raise end
    assert listing(folders) == before


def test_a_folder_that_cannot_be_moved_brings_the_others_back(folders: list[Path]) -> None:
    immovable = folders[1] / ("x" * 255)  # a name that leaves no room for a longer one beside it
    immovable.mkdir()
    before = listing(folders)
    with pytest.raises(OSError), set_aside([folders[0], immovable]):
        pytest.fail("not everything was moved")
    assert listing(folders) == before


def test_what_was_set_aside_is_deleted_in_the_end(folders: list[Path]) -> None:
    with set_aside(folders):
        pass
    assert listing(folders) == []
