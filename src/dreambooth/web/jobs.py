"""Jobs on the disk: what was asked for, in which process it runs, how and why it ended."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from dreambooth.errors import RunError
from dreambooth.files import write_json
from dreambooth.reading import read_json
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.process import STOPPED_CODES, error_text
from dreambooth.runs.status import read_status
from dreambooth.runs.supervisor import JobFiles
from dreambooth.web.places import shown_text

__all__ = ["ACTIVE", "JobRecord", "JobState", "JobStore", "queue_of"]

JobState = Literal["waiting", "running", "finished", "stopped", "failed"]

ACTIVE: tuple[JobState, ...] = ("waiting", "running")
"""States of a job that is still to do something."""

_MOST_LINES = 60
_SECONDS_TO_START = 30.0
_SECONDS_TO_BEGIN = 5.0
_MOST_STARTS = 3


@dataclass(frozen=True)
class JobRecord:
    """One command for the queue; times are in seconds since 1970."""

    number: int
    kind: str
    """train, pictures, convert, ...: which screen it belongs to."""
    title: str
    project: str
    command: tuple[str, ...]
    typed: str
    """The command as a person would type it."""
    queue: str
    """The device it needs: jobs of one queue run one after the other."""
    created: float
    place: str = ""
    """What it writes, relative to the project: a run or a folder of images."""
    state: JobState = "waiting"
    started: float | None = None
    ended: float | None = None
    reason: str = ""
    """Why it ended as it did."""
    is_asked_to_stop: bool = False
    is_stop_sent: bool = False
    num_starts: int = 0
    """How often it was started: again if its process vanished before its command began."""
    goes_on: bool = False
    """Whether it was only paused for another job: once it has stopped, its resume takes a place at the end of the queue."""

    def is_sound(self) -> bool:
        """Whether all values are of their kinds: they may come from a damaged file."""
        texts = (self.kind, self.title, self.project, self.typed, self.queue, self.place, self.reason, *self.command)
        times = (self.created, *(moment for moment in (self.started, self.ended) if moment is not None))
        switches = (self.is_asked_to_stop, self.is_stop_sent, self.goes_on)
        has_numbers = type(self.number) is int and type(self.num_starts) is int and self.number > 0
        has_times = all(type(moment) in (int, float) and math.isfinite(moment) for moment in times)
        has_words = all(isinstance(text, str) for text in texts) and self.state in get_args(JobState)
        return has_numbers and has_times and has_words and all(isinstance(switch, bool) for switch in switches)

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE


def queue_of(device: str) -> str:
    """The queue of a --device: a second GPU has its own; everything else shares the first, whatever it turns out to be."""
    kind, _, number = device.partition(":")
    return device if kind == "cuda" and number.isdecimal() and int(number) > 0 else ""


class JobStore:
    """The jobs of a folder of projects, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._known: dict[Path, tuple[tuple[int, int], JobRecord]] = {}
        """Files that were read, with what tells one from its successor: the queue looks at all of them twice a second."""

    def files(self, number: int) -> JobFiles:
        """Where a job's process, end and output are written."""
        return JobFiles(self.folder / f"{number:05d}")

    def all(self) -> list[JobRecord]:
        """Every job, the oldest first; a damaged file is passed over."""
        found = sorted(self.folder.glob("[0-9]*.json")) if self.folder.is_dir() else []
        records = (self._read(path) for path in found if path.stem.isdecimal())
        return [record for record in records if record is not None]

    def of(self, project: str, kinds: Sequence[str] = ()) -> list[JobRecord]:
        """The jobs of a project, of some kinds or of any, the oldest first."""
        return [job for job in self.all() if job.project == project and (not kinds or job.kind in kinds)]

    def get(self, number: int) -> JobRecord:
        """A job by its number. Raises RunError when there is none."""
        record = self._read(self.folder / f"{number:05d}.json")
        if record is None:
            raise RunError(f"no job has the number {number}")
        return record

    def add(self, record: JobRecord) -> JobRecord:
        """Write a new job with the next free number; returns it with that number."""
        return self.add_all([record])[0]

    def add_all(self, records: Sequence[JobRecord]) -> list[JobRecord]:
        """Write new jobs with the next free numbers, all of them or none; returns them with their numbers."""
        with self.lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            numbers = [int(path.stem) for path in self.folder.glob("[0-9]*.json") if path.stem.isdecimal()]  # damaged ones too
            first = max(numbers, default=0) + 1
            added = [replace(one, number=number, created=time.time()) for number, one in enumerate(records, first)]
            try:
                for one in added:
                    self.write(one)
            except OSError:
                with suppress(OSError):
                    for one in added:
                        self.remove(one)
                raise
            return added

    def write(self, record: JobRecord) -> None:
        """Replace a job's file."""
        path = self.folder / f"{record.number:05d}.json"
        write_json(path, asdict(record))
        self._known.pop(path, None)

    def remove(self, record: JobRecord) -> None:
        """Forget a job that never started."""
        (self.folder / f"{record.number:05d}.json").unlink(missing_ok=True)

    def lines(self, record: JobRecord) -> list[str]:
        """The last lines that a job said, with paths as a page shows them."""
        with suppress(OSError):
            text = self.files(record.number).log.read_text(encoding="utf-8", errors="replace")
            return shown_text(text, projects=self.folder.parent).splitlines()[-_MOST_LINES:]
        return []

    def looked_up(self, record: JobRecord, run: RunFolder | None, *, is_supervisor_gone: bool = False) -> JobRecord:
        """A running job as it is now: still running, ended and why, or waiting again if its command never began.

        `run` is the run that it trains; `is_supervisor_gone` says that the supervisor of this start has ended.
        """
        files = self.files(record.number)
        if (end := files.read_end()) is not None:
            return self._ended(record, end)
        process, seconds = files.read_process(), files.seconds_since_taken()
        if seconds is None and not is_supervisor_gone and time.time() - (record.started or 0) < _SECONDS_TO_START:
            return record
        if any(one is not None and one.is_alive for one in (process, files.read_supervisor())):
            return record
        if (end := files.read_end()) is not None:  # written while the processes were looked up
            return self._ended(record, end)
        if process is None:
            # Killed between taking the job and starting its command, whose process may still be about to name itself.
            return record if seconds is not None and seconds < _SECONDS_TO_BEGIN else _never_begun(record)
        return self._vanished(record, run)

    def _ended(self, record: JobRecord, end: tuple[int, float]) -> JobRecord:
        state, reason = self._judged(record, end[0])
        return replace(record, state=state, ended=end[1], reason=reason)

    def _judged(self, record: JobRecord, code: int) -> tuple[JobState, str]:
        """State and reason for an exit code; negative for a signal."""
        if code == 0:
            return "finished", ""
        if code in STOPPED_CODES:
            return "stopped", "stopped as asked, and saved" if record.kind == "train" else "stopped as asked"
        if code == -signal.SIGINT:
            return "stopped", "stopped before anything was done"
        if code == -9:
            return "failed", "killed: the system ended the process, most often because the machine ran out of memory"
        if code < 0:
            return "failed", f"killed by signal {-code}"
        return "failed", error_text(self.lines(record)) or f"ended with exit code {code}"

    def _vanished(self, record: JobRecord, run: RunFolder | None) -> JobRecord:
        """Ended by itself or killed; its supervisor was killed, so nobody saw it. A run says of itself how it ended."""
        status = None if run is None else read_status(run)
        if status is not None and status.started >= (record.started or 0) and status.state in ("finished", "stopped", "failed"):
            reason = shown_text(status.reason, projects=self.folder.parent)
            return replace(record, state=status.state, ended=status.ended, reason=reason)
        reason = "its process is gone, and nobody saw why: it was killed, or the machine was restarted"
        return replace(record, state="failed", ended=time.time(), reason=reason)

    def _read(self, path: Path) -> JobRecord | None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            state = path.stat()
            # Many file systems count time in steps of milliseconds, in which a record may be written twice.
            written = (state.st_mtime_ns, state.st_ino)
            if path in self._known and self._known[path][0] == written:
                return self._known[path][1]
            values = read_json(path)
            known = {one.name: values[one.name] for one in fields(JobRecord) if one.name in values}
            record = JobRecord(**{**known, "command": tuple(known["command"])})
            if record.is_sound() and record.number == int(path.stem):
                self._known[path] = (written, record)
                return record
        return None


def _never_begun(record: JobRecord) -> JobRecord:
    """Waiting for another start, unless it was asked to stop or has had enough of them."""
    if record.is_asked_to_stop:
        return replace(record, state="stopped", ended=time.time(), reason="stopped before anything was done")
    if record.num_starts < _MOST_STARTS:
        return replace(record, state="waiting", started=None)
    reason = f"its process could not be started in {_MOST_STARTS} attempts: the disk may be full, or the machine out of memory"
    return replace(record, state="failed", ended=time.time(), reason=reason)
