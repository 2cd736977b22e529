"""The hold on a run folder: one process at a time, also where file systems have no locks."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from dreambooth.errors import RunError
from dreambooth.runs.lock import exclusive, in_turn


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


_HOLDER = (
    "import sys, time\nfrom pathlib import Path\nfrom dreambooth.runs.lock import exclusive\n"
    "with exclusive(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


def test_a_second_process_is_refused_and_a_killed_one_frees_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(RunError, match="another process is training here"), exclusive(tmp_path):
                pass
        finally:
            holder.kill()
    with exclusive(tmp_path):
        pass


def test_a_second_process_waits_for_its_turn_and_says_so_once(tmp_path: Path) -> None:
    waited = list[str]()
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        def waiting() -> None:
            waited.append("waits")
            holder.kill()

        with in_turn(tmp_path, waiting=waiting):
            assert waited == ["waits"]
            with pytest.raises(RunError), exclusive(tmp_path):
                pass


def test_nobody_waits_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse_with(errno.ENOTSUP, monkeypatch)
    with in_turn(tmp_path, waiting=lambda: pytest.fail("waits")):
        pass
