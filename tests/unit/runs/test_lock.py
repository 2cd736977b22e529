"""The hold on a run folder: one process at a time, also where file systems have no locks."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from dreambooth.errors import RunError
from dreambooth.runs.lock import exclusive


def _refuse_with(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "from the file system")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_folder_is_held_once_and_free_again_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "rex"
    with exclusive(folder), pytest.raises(RunError, match="another process is training here"), exclusive(folder):
        pass
    with exclusive(folder):
        pass


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_gone_on_with(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse_with(number, monkeypatch)
    came_in = False
    with exclusive(tmp_path):
        came_in = True
    assert came_in


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES])
def test_a_lock_of_somebody_else_is_an_error(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse_with(number, monkeypatch)
    with pytest.raises(RunError, match="another process is training here"), exclusive(tmp_path):
        pass


def test_another_failure_of_the_disk_is_not_taken_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse_with(errno.EIO, monkeypatch)
    with pytest.raises(OSError, match="from the file system"), exclusive(tmp_path):
        pass
