"""Runs a command and writes down how it ended, for a program that may itself end earlier.

`python -m dreambooth.runs.supervisor JOB COMMAND...` writes JOB.process.json (its own process, then the command's) when it
starts, JOB.log (everything it says), and JOB.end.json (its exit code, negative for a signal) when it ends. It outlives the
program that started it and hears no Ctrl-C of its own: whoever wants the command to stop asks the command's process.

It can be killed at any moment. Of two supervisors of one job only the first runs the command, and no command begins before its
process stands in the file: a job whose file names no process and no living supervisor has not begun.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dreambooth.files import write_json
from dreambooth.reading import read_json
from dreambooth.runs.alive import is_alive, start_time
from dreambooth.runs.process import started_command

__all__ = ["JobFiles", "ProcessRecord", "supervise", "supervisor_command"]

_SECONDS_OF_TRYING = 3600


@dataclass(frozen=True)
class ProcessRecord:
    """A process by its number and the time of its start, which tells it from a later one of the same number."""

    process: int
    started: float

    @property
    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        return is_alive(self.process, self.started)


@dataclass(frozen=True)
class JobFiles:
    """The files of a supervised command, which all begin with the same path."""

    stem: Path

    @property
    def log(self) -> Path:
        """What the command says."""
        return self.stem.with_suffix(".log")

    @property
    def process(self) -> Path:
        """The command's process."""
        return self.stem.with_suffix(".process.json")

    @property
    def end(self) -> Path:
        """How it ended."""
        return self.stem.with_suffix(".end.json")

    def read_process(self) -> ProcessRecord | None:
        """The command's process; None before it started."""
        return self._read("process", "started")

    def read_supervisor(self) -> ProcessRecord | None:
        """The process that starts the command and waits for its end; None before it has taken the job."""
        return self._read("supervisor", "supervisor_started")

    def seconds_since_taken(self) -> float | None:
        """How long ago a supervisor wrote the file of the process; None before it did."""
        with suppress(OSError):
            return max(time.time() - self.process.stat().st_mtime, 0.0)
        return None

    def _read(self, process: str, started: str) -> ProcessRecord | None:
        with suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
            values = read_json(self.process)
            return ProcessRecord(int(values[process]), float(values[started]))
        return None

    def read_end(self) -> tuple[int, float] | None:
        """The exit code (negative for a signal) and the time of the end; None while it runs, or when nobody saw the end."""
        with suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
            values = read_json(self.end)
            return int(values["code"]), float(values["ended"])
        return None


def supervisor_command(stem: Path, command: list[str]) -> list[str]:
    """The command that runs `command` under supervision; `stem` is the beginning of the paths of its files."""
    return [sys.executable, "-m", "dreambooth.runs.supervisor", str(stem), *command]


def supervise(stem: Path, command: list[str]) -> int | None:
    """Run the command, write its files, and return its exit code; None where another supervisor has taken the job.

    Raises OSError, or subprocess.SubprocessError, if a file cannot be written; the command has not begun then.
    """
    files = JobFiles(stem)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _heard)  # and not SIG_IGN, which the command would inherit
    own = {"supervisor": os.getpid(), "supervisor_started": start_time(os.getpid())}
    if not _take(files.process, own):
        return None

    def name_process(number: int) -> None:
        write_json(files.process, {"process": number, "started": start_time(number), **own})

    is_posix = os.name == "posix"
    with files.log.open("w", encoding="utf-8") as output:
        before = (lambda: name_process(os.getpid())) if is_posix else None
        process = started_command(command, output=output.fileno(), before=before)
    if not is_posix:
        name_process(process.pid)
    _write_end(files.end, {"code": process.wait(), "ended": time.time()})
    return process.returncode


def _take(path: Path, own: Mapping[str, float]) -> bool:
    """Create the file; returns False if it exists."""
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(json.dumps(own))
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _write_end(path: Path, end: Mapping[str, float]) -> None:
    """Write how it ended; on a full disk, as soon as there is room again."""
    for _ in range(_SECONDS_OF_TRYING):
        with suppress(OSError):
            write_json(path, end)
            return
        time.sleep(1)


def _heard(number: int, frame: FrameType | None) -> None:
    """Nothing: the command is asked by itself."""


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), sys.argv[2:])
