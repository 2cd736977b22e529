"""Training from a notebook: a separate process trains, and the cell shows its progress.

The process writes its output to a file next to the run folder, so that problems of the notebook cannot block it.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping
from pathlib import Path

from dreambooth.display import format_duration, format_rate
from dreambooth.errors import RunError, SettingsError, TrainingError
from dreambooth.notebook.charts import loss_chart
from dreambooth.notebook.markup import note, picture_rows, progress_bar
from dreambooth.notebook.showing import Area, show
from dreambooth.pages.templates import Markup
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.process import Job, command_line, error_text
from dreambooth.runs.progress import Progress, asked_steps, preview_pictures, read_progress

__all__ = ["is_finished", "log_of", "train", "training_command"]

_SECONDS = 2.0  # between two updates of the cell
_LAST_LINES = 6
_PREVIEW_SIDE = 144
_MOST_PREVIEWS = 8  # steps whose previews are shown: the first, and the newest


def train(run: str | Path, **settings: object) -> None:
    """Train into the folder `run` and show the progress; if the folder already holds a run, resume it.

    `settings` are the flags of `dreambooth train`, with underscores; if omitted, the run's own settings are used. A finished
    run is not changed unless `steps` is larger than before. Interrupting the cell finishes the current step and saves.

    Raises TrainingError with the error message of a failed training, RunError when there are neither settings nor a run,
    SettingsError for a setting that the notebook does not support, and KeyboardInterrupt after an interrupt.
    """
    if "file_layout" in settings:
        raise SettingsError(
            "file_layout writes the file names of other programs, which the notebook cannot read",
            hint="Omit it; `dreambooth convert` converts a model to .ckpt.",
        )
    folder = RunFolder(Path(run))
    if not settings and not folder.config.is_file():
        raise RunError(f"{folder.path}: no run to resume", hint="Start one in the section about training.")
    steps = settings.get("steps")
    if is_finished(folder, steps if isinstance(steps, int) else None):
        _Screen(folder).draw([])
        show(note(f"{folder.path} is finished. Its model is {folder.final_model}."))
        return
    job = Job.start(training_command(folder, settings), log=log_of(folder))
    atexit.register(job.stop)  # when the kernel shuts down, let the training save
    try:
        _watch(job, folder)
    finally:
        atexit.unregister(job.stop)


def training_command(run: RunFolder, settings: Mapping[str, object]) -> list[str]:
    """The command that starts the run, or resumes it if it exists.

    A resume passes the settings again, so that a change that is not allowed is reported instead of silently ignored. The
    preset is omitted, because the run has stored its values.
    """
    if run.config.is_file():
        return command_line("train", resume=run.path, **{name: value for name, value in settings.items() if name != "preset"})
    return command_line("train", **settings, output=run.path)


def is_finished(run: RunFolder, steps: int | None = None) -> bool:
    """Whether the final model exists and `steps` is not larger than the number of steps done."""
    done = asked_steps(run)
    if done is None or not run.final_model.is_file() or (steps is not None and steps > done):
        return False
    return read_progress(run).step >= done


def log_of(run: RunFolder) -> Path:
    """The file next to the run folder with the output of its most recent training process."""
    return run.path.with_name(f"{run.path.name}.log")


def _watch(job: Job, run: RunFolder) -> None:
    """Update the cell until the training ends, then report how it ended."""
    screen, was_interrupted = _Screen(run), False
    while job.is_running:
        try:
            screen.draw(job.lines())
            job.wait(_SECONDS)
        except KeyboardInterrupt:
            was_interrupted = True
            job.stop()
    lines = job.lines()
    screen.draw(lines)
    if job.process.returncode == 0:
        return
    if was_interrupted or job.was_stopped:
        raise KeyboardInterrupt("\n".join(lines[-3:]) + "\nRun this cell again to resume.")
    raise TrainingError(error_text(lines), hint=f"The full output is in {job.log}.")


class _Screen:
    """The display of a run in a cell: a progress bar, the losses, the last lines of output, and separately the previews.

    Previews are large and change rarely, so they are sent only when there are new ones.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._start = time.time()
        self._status = Area("")
        self._previews = Area("")
        self._shown_steps: tuple[int, ...] = ()

    def draw(self, output: list[str]) -> None:
        """Show the current state of the run, with the last lines of its output."""
        progress = read_progress(self._run, since=self._start)
        steps = asked_steps(self._run) or 0
        chart = loss_chart(progress, last_step=max(steps, progress.step))
        self._status.update(_bar(progress, steps) + chart + note("\n".join(output[-_LAST_LINES:])))
        if progress.preview_steps != self._shown_steps:
            self._shown_steps = progress.preview_steps
            self._previews.update(_preview_rows(self._run, self._shown_steps))


def _bar(progress: Progress, steps: int) -> Markup:
    if steps == 0:
        return note("Starting...")
    text = f"step {progress.step} of {steps}"
    if progress.seconds_per_step is not None and progress.step < steps:
        left = format_duration((steps - progress.step) * progress.seconds_per_step)
        text += f", {format_rate(1, progress.seconds_per_step, 'steps')}, {left} left"
    return progress_bar(progress.step, steps, text)


def _preview_rows(run: RunFolder, steps: tuple[int, ...]) -> Markup:
    chosen = steps if len(steps) <= _MOST_PREVIEWS else (steps[0], *steps[1 - _MOST_PREVIEWS :])
    rows = [(f"step {step}", preview_pictures(run, step)) for step in chosen]
    sheet = run.previews / "over-time.png"
    return picture_rows([row for row in rows if row[1]], side=_PREVIEW_SIDE) + note(f"All previews at full size: {sheet}")
