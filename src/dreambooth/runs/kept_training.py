"""A training in a process of its own that is carried on until it has finished: started, resumed, started again when it is lost.

All that decides what is left to do stands in the run's folder. So nothing is remembered here that a later look, after a kill or
on another machine, would need.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dreambooth.runs.folder import RunFolder
from dreambooth.runs.model_names import FINAL_MODELS
from dreambooth.runs.process import STOPPED_CODES, Job, command_line, error_text
from dreambooth.runs.status import read_status
from dreambooth.runs.tether import tethered
from dreambooth.runs.untrained import is_untrained

__all__ = ["MOST_LOSSES", "Ending", "KeptTraining", "TrainingJob", "is_finished", "is_running_here", "is_started"]

MOST_LOSSES = 3
"""How often in a row the process of a training may be killed before it is given up."""


@dataclass(frozen=True)
class TrainingJob:
    """A training to be finished."""

    name: str
    run: RunFolder
    settings: Path
    """YAML file with all of its settings."""
    log: Path
    """Where its process writes what it says."""
    folder: Path
    """Folder in which the command runs; relative paths in the settings start there."""
    changes: Mapping[str, object] = field(default_factory=dict)
    """Settings by flag that a run which exists already is resumed with."""


@dataclass(frozen=True)
class Ending:
    """How a training ended."""

    state: Literal["finished", "stopped", "failed"]
    """`stopped` can be resumed."""
    reason: str = ""


def is_running_here(run: RunFolder) -> bool:
    """Whether a process of this machine is training in the folder."""
    status = read_status(run)
    return status is not None and status.state == "running" and status.host == socket.gethostname()


def is_finished(run: RunFolder) -> bool:
    """Whether the run says that it reached its end, and still has the final model, which a resume would write again."""
    status = read_status(run)
    has_model = any((run.path / name).exists() for name in FINAL_MODELS)
    return status is not None and status.state == "finished" and has_model


def is_started(run: RunFolder) -> bool:
    """Whether there is a run to resume: one of which something was trained."""
    return run.config.is_file() and not is_untrained(run)


class KeptTraining:
    """Carries one training on; call `look` a few times a second until it says how the training ended."""

    def __init__(self, job: TrainingJob, *, device: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to that of the process."""
        self.job = job
        self._device = device
        self._environment = {} if environment is None else environment
        self._process: Job | None = None
        self._num_lost = 0
        self._is_asked_to_stop = False

    def look(self) -> Ending | None:
        """Do what is to be done now; returns None while the training goes on."""
        if self._process is None:
            return self._begin()
        if self._process.is_running:
            return None
        code = self._process.process.returncode
        is_lost = code < 0 and not self._is_asked_to_stop
        self._num_lost += is_lost
        if is_lost and self._num_lost < MOST_LOSSES:
            self._process = None
            return self._begin()
        return self._ending(code, self._process)

    def stop(self) -> None:
        """Ask the training to finish its step, save and end; `look` says when it has."""
        if not self._is_asked_to_stop and self._process is not None:
            self._process.stop()
        self._is_asked_to_stop = True

    def _begin(self) -> Ending | None:
        """Start what is left to do, unless another process is at it, which is waited for."""
        job = self.job
        if self._is_asked_to_stop:
            return Ending("stopped", "another process is training it" if is_running_here(job.run) else "stopped as asked")
        if is_running_here(job.run):
            return None
        if is_finished(job.run) and not job.changes:
            return Ending("finished")
        command = (
            command_line("train", resume=job.run.path, device=self._device, **job.changes)
            if is_started(job.run)
            else command_line("train", preset=job.settings, device=self._device)
        )
        self._process = Job.start(tethered(command), log=job.log, folder=job.folder, environment=self._environment)
        return None

    def _ending(self, code: int, process: Job) -> Ending:
        """How it ended, by the exit code of its process, which is negative for a signal."""
        if code == 0:
            status = read_status(self.job.run)
            is_stopped = status is not None and status.state == "stopped"
            return Ending("stopped", status.reason) if status is not None and is_stopped else Ending("finished")
        if self._is_asked_to_stop and (code < 0 or code in STOPPED_CODES):
            return Ending("stopped", "stopped as asked")
        if code in STOPPED_CODES:
            return Ending("stopped", "somebody stopped its process; it is saved")
        if code < 0:
            return Ending("failed", _loss(-code))
        return Ending("failed", error_text(process.lines()).removeprefix("error: ") or f"exit code {code}")


def _loss(number: int) -> str:
    why = "most often because the machine ran out of memory" if number == signal.SIGKILL else f"signal {number}"
    return f"its process was killed {MOST_LOSSES} times: {why}"
