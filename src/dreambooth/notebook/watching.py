"""Training from a notebook: a process of its own does the work, the cell shows what it writes down.

The process writes its words into a file beside the run, so that nothing that happens to the notebook holds it up.
"""

from __future__ import annotations

import atexit
import html
import time
from collections.abc import Mapping
from pathlib import Path

from dreambooth.display import format_duration, format_rate
from dreambooth.errors import RunError, SettingsError, TrainingError
from dreambooth.notebook.charts import loss_chart
from dreambooth.notebook.markup import note, picture_rows
from dreambooth.notebook.showing import Area, show
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.process import Job, command_line, error_text
from dreambooth.runs.progress import Progress, asked_steps, preview_pictures, read_progress

__all__ = ["is_finished", "log_of", "train", "training_command"]

_SECONDS = 2.0  # between two looks at what the training has written
_LAST_WORDS = 6
_PREVIEW_SIDE = 144
_MOST_PREVIEWS = 8  # steps of which the previews are shown: the first, and the newest


def train(run: str | Path, **settings: object) -> None:
    """Train into the folder `run` and show it; go on where it stopped when the folder holds a run already.

    `settings` are the flags of `dreambooth train`, with underscores; without any, the run's own are used. A run that is
    finished is left as it is, unless more `steps` are asked for. Interrupting the cell finishes the step and saves.

    Raises TrainingError with the training's own words when it fails, RunError when there are neither settings nor a run,
    SettingsError for a setting that would hide the run from the notebook, and KeyboardInterrupt after it was interrupted.
    """
    if "file_layout" in settings:
        raise SettingsError(
            "file_layout names files as other programs do, and the notebook looks for this program's own",
            hint="Leave it out; `dreambooth convert` makes a .ckpt of a model.",
        )
    folder = RunFolder(Path(run))
    if not settings and not folder.config.is_file():
        raise RunError(f"{folder.path}: no run to go on with", hint="Begin one in the section about training.")
    steps = settings.get("steps")
    if is_finished(folder, steps if isinstance(steps, int) else None):
        _Screen(folder).draw([])
        show(note(f"{folder.path} is finished. Its model is {folder.final_model}."))
        return
    job = Job.start(training_command(folder, settings), log=log_of(folder))
    atexit.register(job.stop)  # a kernel that is shut down lets the training save
    try:
        _watch(job, folder)
    finally:
        atexit.unregister(job.stop)


def training_command(run: RunFolder, settings: Mapping[str, object]) -> list[str]:
    """The command that begins the run, or goes on with it when it was begun before.

    On a resume the settings are given again: what may not change and was changed in the notebook is then refused in words,
    and not left out in silence. The run knows its preset's values by itself.
    """
    if run.config.is_file():
        return command_line("train", resume=run.path, **{name: value for name, value in settings.items() if name != "preset"})
    return command_line("train", **settings, output=run.path)


def is_finished(run: RunFolder, steps: int | None = None) -> bool:
    """Whether the model of the last step stands, and no more `steps` are asked for than the run has done."""
    done = asked_steps(run)
    if done is None or not run.final_model.is_file() or (steps is not None and steps > done):
        return False
    return read_progress(run).step >= done


def log_of(run: RunFolder) -> Path:
    """The file beside the run with the words of its training, of the last time it was started."""
    return run.path.with_name(f"{run.path.name}.log")


def _watch(job: Job, run: RunFolder) -> None:
    """Draw until the training ends, then say how it ended."""
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
        raise KeyboardInterrupt("\n".join(lines[-3:]) + "\nRunning this cell again goes on from there.")
    raise TrainingError(error_text(lines), hint=f"All it said is in {job.log}.")


class _Screen:
    """What a cell shows of a run: a bar, the losses, the last words, and the previews in a place of their own.

    Previews are large and change rarely, so they are sent only when there are new ones.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._start = time.time()
        self._status = Area("")
        self._previews = Area("")
        self._shown_steps: tuple[int, ...] = ()

    def draw(self, words: list[str]) -> None:
        """Show the run as it is now, with the last of the words."""
        progress = read_progress(self._run, since=self._start)
        steps = asked_steps(self._run) or 0
        chart = loss_chart(progress, last_step=max(steps, progress.step))
        self._status.update(_bar(progress, steps) + chart + note("\n".join(words[-_LAST_WORDS:])))
        if progress.preview_steps != self._shown_steps:
            self._shown_steps = progress.preview_steps
            self._previews.update(_preview_rows(self._run, self._shown_steps))


def _bar(progress: Progress, steps: int) -> str:
    if steps == 0:
        return note("Starting.")
    text = f"step {progress.step} of {steps}"
    if progress.seconds_per_step is not None and progress.step < steps:
        left = format_duration((steps - progress.step) * progress.seconds_per_step)
        text += f", {format_rate(1, progress.seconds_per_step, 'steps')}, {left} left"
    bar = f"<progress max='{steps}' value='{progress.step}' style='width:320px;vertical-align:middle'></progress>"
    return f"<div>{bar} {html.escape(text)}</div>"


def _preview_rows(run: RunFolder, steps: tuple[int, ...]) -> str:
    chosen = steps if len(steps) <= _MOST_PREVIEWS else (steps[0], *steps[1 - _MOST_PREVIEWS :])
    rows = [(f"step {step}", preview_pictures(run, step)) for step in chosen]
    sheet = run.previews / "over-time.png"
    return picture_rows([row for row in rows if row[1]], side=_PREVIEW_SIDE) + note(f"All of them, in full size: {sheet}")
