"""How far the subjects of a batch are, as a table: read from the folders of the runs, whatever trains them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from dreambooth.display import Display, Row, TrainingStatus, format_duration
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.kept_training import Ending, is_finished
from dreambooth.runs.progress import read_progress
from dreambooth.runs.status import read_status
from dreambooth.schema.verbs import TrainSettings

__all__ = ["BatchTable", "SubjectProgress", "batch_status", "read_subject"]

_LOOK_SECONDS = 2.0

_MOST_ROWS = 20
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class SubjectProgress:
    """How far a subject is."""

    state: str
    """waiting, preparing, training, or how its training ended."""
    step: int
    steps: int
    seconds_per_step: float | None
    """None until it is known."""

    @property
    def text(self) -> str:
        """State, step and time left."""
        if self.state != "training":
            return self.state if self.step in (0, self.steps) else f"{self.state}, step {self.step}/{self.steps}"
        left = self.steps - self.step
        seconds = _UNKNOWN if self.seconds_per_step is None else format_duration(left * self.seconds_per_step)
        return f"step {self.step}/{self.steps}, {seconds} left"


class BatchTable:
    """Shows how far the subjects are; use as a context manager around the work."""

    def __init__(
        self, trainings: Mapping[str, TrainSettings], endings: dict[str, Ending], display: Display, *, num_at_once: int
    ) -> None:
        """`endings` is filled in by `end`; `num_at_once` is how many subjects are trained at the same time."""
        self._runs = {name: RunFolder(training.output.output) for name, training in trainings.items()}
        self._steps = {name: training.loop.steps for name, training in trainings.items()}
        self._endings = endings
        self._display = display
        self._num_at_once = num_at_once
        self._shown: TrainingStatus | None = None
        self._when = -math.inf
        self._held = ExitStack()
        self._show: Callable[[TrainingStatus], None]

    def __enter__(self) -> BatchTable:
        """Begin to show."""
        found = self._read(())
        first, last = (sum(counts) for counts in zip(*((one.step, one.steps) for one in found.values()), strict=True))
        self._show = self._held.enter_context(self._display.training(first_step=first, last_step=last))
        return self

    def __exit__(self, *exception: object) -> None:
        """Show the last state."""
        self._when = -math.inf
        self.show(())
        self._held.close()

    def end(self, name: str, ending: Ending) -> None:
        """Write down how a subject ended."""
        self._endings[name] = ending
        self._when = -math.inf

    def show(self, started: Collection[str]) -> None:
        """Show the present state, if it is another and the last look is some seconds ago; `started` has a process here."""
        if time.monotonic() - self._when < _LOOK_SECONDS:
            return
        self._when = time.monotonic()
        status = batch_status(self._read(started), num_at_once=self._num_at_once)
        if status != self._shown:
            self._shown = status
            self._show(status)

    def _read(self, started: Collection[str]) -> dict[str, SubjectProgress]:
        return {
            name: read_subject(run, self._steps[name], ending=self._endings.get(name), is_started=name in started)
            for name, run in self._runs.items()
        }


def read_subject(run: RunFolder, steps: int, *, ending: Ending | None, is_started: bool) -> SubjectProgress:
    """How far a run is towards its last step; `is_started` says that a process was started for it."""
    status = read_status(run)
    progress = read_progress(run, since=0.0 if status is None else status.started)
    if ending is not None:
        return SubjectProgress(ending.state, steps if ending.state == "finished" else progress.step, steps, None)
    if is_finished(run):  # its process is about to end
        return SubjectProgress("finished", steps, steps, None)
    is_running = status is not None and status.state == "running"
    if is_running and progress.seconds_per_step is not None:
        return SubjectProgress("training", progress.step, steps, progress.seconds_per_step)
    return SubjectProgress("preparing" if is_started or is_running else "waiting", progress.step, steps, None)


def batch_status(found: Mapping[str, SubjectProgress], *, num_at_once: int) -> TrainingStatus:
    """All subjects as one table: those that are worked on, and the others, or their numbers if there are many."""
    active = {name: one for name, one in found.items() if one.state in ("training", "preparing")}
    others = {name: one for name, one in found.items() if name not in active}
    rows = [Row(name, one.text) for name, one in active.items()]
    if active and len(found) <= _MOST_ROWS:
        rows += [Row(name, one.text, is_detail=True) for name, one in others.items()]
    else:
        counts = Counter(one.state for one in others.values())
        rows.append(Row("others" if active else "subjects", ", ".join(f"{count} {state}" for state, count in counts.items())))
    return TrainingStatus(sum(one.step for one in found.values()), _time_left(found.values(), num_at_once), tuple(rows))


def _time_left(found: Collection[SubjectProgress], num_at_once: int) -> str:
    """By the mean pace of the steps so far; without the making of class images, whose pace is another."""
    paces = [one.seconds_per_step for one in found if one.seconds_per_step is not None]
    left = sum(one.steps - one.step for one in found if one.state in ("training", "preparing", "waiting"))
    return format_duration(left * sum(paces) / len(paces) / num_at_once) if paces else _UNKNOWN
