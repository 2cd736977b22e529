"""A folder is known by itself: where it is after it was renamed, and that it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dreambooth.runs.folder import RunFolder
from dreambooth.runs.place import PlacedFolder
from dreambooth.runs.status import read_status, recorded_status


@pytest.fixture
def placed(tmp_path: Path) -> Iterator[PlacedFolder]:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    folder = PlacedFolder.open(tmp_path / "runs" / "a")
    yield folder
    folder.close()


def test_it_is_found_where_it_was_moved_to(placed: PlacedFolder, tmp_path: Path) -> None:
    assert placed.now() == tmp_path / "runs" / "a"
    placed.path.rename(tmp_path / "runs" / "b")
    assert placed.now() == tmp_path / "runs" / "b"
    placed.path.mkdir()  # another one of the old name
    assert placed.now() == tmp_path / "runs" / "b"
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert placed.now() == tmp_path / "elsewhere" / "b"


def test_a_removed_folder_is_nowhere(placed: PlacedFolder) -> None:
    placed.path.rmdir()
    assert placed.now() is None
    placed.path.mkdir()
    assert placed.now() is None


@pytest.mark.parametrize("is_removed", [False, True])
def test_the_status_follows_a_moved_run(placed: PlacedFolder, tmp_path: Path, is_removed: bool) -> None:
    with recorded_status(RunFolder(placed.path), now=placed.now):
        placed.path.rename(tmp_path / "b")
        if is_removed:
            (tmp_path / "b" / "status.json").unlink()
            (tmp_path / "b").rmdir()
    assert not placed.path.exists(), "no second folder of the old name"
    status = read_status(RunFolder(tmp_path / "b"))
    assert status is None if is_removed else status is not None and status.state == "finished"
