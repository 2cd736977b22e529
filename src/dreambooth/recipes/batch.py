"""`dreambooth batch`: one model for each subject of a list, each trained by a command of its own, one at a time on each device.

Nothing but the folders says what is done, so the same command goes on after any end.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from dreambooth.config import write_yaml
from dreambooth.display import Display, counted, listed, quoted
from dreambooth.errors import RunError
from dreambooth.files import expanded
from dreambooth.recipes.batch_check import Checked, check_subjects, error_of, warnings_by_text
from dreambooth.recipes.batch_table import BatchTable
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.kept_training import Ending, KeptTraining, TrainingJob, is_finished, is_started
from dreambooth.runs.lock import exclusive
from dreambooth.runs.settings import BatchSettings
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.elsewhere import in_another_process
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.schema.manifest import SHARED_FOLDERS, Manifest, read_manifest
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer.preview_prompts import preview_prompts, prompts_to_try

__all__ = ["BatchResult", "Slot", "batch", "slots_of", "train_all"]

_LOOK_SECONDS = 0.2
_STOPPED = "Stopped and saved. Run the same command to resume."
_STOPPING = "Stopping each training after its step, then saving. Press Ctrl-C again to quit without waiting for them."
_MOST_NAMES = 3  # in a message that is about many subjects


@dataclass(frozen=True)
class BatchResult:
    """The finished runs by the names of their subjects."""

    runs: Mapping[str, Path]


@dataclass(frozen=True)
class Slot:
    """A device on which one subject at a time is trained, by name and by variables of the environment."""

    device: str
    environment: Mapping[str, str]


def batch(settings: BatchSettings, display: Display) -> BatchResult:
    """Train one model for each subject; finished runs are passed over, unfinished ones are resumed.

    Raises a DreamboothError with the problems of all subjects before the first one is trained; RunError at the end if some
    failed or were stopped, after the others are done; Interrupted when the user stopped it.
    """
    output = expanded(settings.output).absolute()
    with Interrupts(lambda: _STOPPED) as interrupts:
        _check_can_hold_runs(output)
        slots, manifest = slots_of(settings.device), read_manifest(settings.subjects, output)
        checked = _check(manifest, output, slots[0].device, display)
        with exclusive(output):  # not before, since it writes into a folder that may be the wrong one
            jobs = _jobs(manifest.trainings, checked, output)
            left = [job for job in jobs.values() if job.changes or not is_finished(job.run)]
            display.say(f"{counted(len(jobs), 'subject')} in {_short(output)}: {len(left)} to train")
            endings = {name: Ending("finished") for name, job in jobs.items() if job not in left}
            if left:
                table = BatchTable(manifest.trainings, endings, display, num_at_once=len(slots))
                with table, interrupts.deferred(_STOPPING):
                    _train(left, slots, table, manifest.trainings, is_stopping=lambda: interrupts.requested is not None)
            display.table("Subjects", ("subject", "state", "run"), _summary(jobs, endings))
            if interrupts.requested is not None:
                raise interrupts.error()
    _raise_if_any_is_left(jobs, endings, output, settings.subjects)
    run, training = next(iter(jobs.values())).run.path, next(iter(manifest.trainings.values()))
    previewed = preview_prompts(training.output, training.subject, training.prior, photos=())
    prompts = " ".join(map(quoted, prompts_to_try(previewed, training.subject, photos=())))
    display.say(f"To use a model:\n  dreambooth generate --model {quoted(_short(run))} --prompt {prompts}")
    return BatchResult({name: job.run.path for name, job in jobs.items()})


def slots_of(device: str | None) -> tuple[Slot, ...]:
    """The devices to train on; each GPU is the only one that its training sees. Raises SettingsError if one does not exist."""
    num_gpus = torch.cuda.device_count() if device is None else 0
    if num_gpus == 0:
        return (Slot(str(choose_device(device)), {}),)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(num_gpus)] if visible is None else visible.split(",")[:num_gpus]
    return tuple(Slot("cuda", {"CUDA_VISIBLE_DEVICES": name.strip()}) for name in names)


def _check_can_hold_runs(output: Path) -> None:
    exists = next(folder for folder in (output, *output.parents) if folder.exists())
    if exists.is_dir() and not RunFolder(output).config.exists():
        return
    problem = "already holds a run" if exists.is_dir() else "expected a folder, found a file"
    other = _short(exists.parent / f"{exists.name}-batch")
    raise RunError(f"{_short(exists)}: {problem}", hint=f"Choose another folder, for example: --output {quoted(other)}")


def _check(manifest: Manifest, output: Path, device: str, display: Display) -> dict[str, Checked]:
    """Raise one error with the problems of all subjects, or show their warnings."""
    display.say(f"Checking {counted(len(manifest.names), 'subject')}")
    given = (manifest.trainings, {name: _settings_file(output, name) for name in manifest.trainings}, device)
    found = in_another_process(check_subjects, given) if device.startswith("cuda") else check_subjects(given)
    found |= {name: Checked.wrong(error) for name, error in manifest.problems.items()}
    found = {name: found[name] for name in manifest.names}
    if (error := error_of(found, output)) is not None:
        raise error
    for text, names in warnings_by_text(found).items():
        display.warn(f"{listed(names, most=_MOST_NAMES)}: {text}")
    return found


def _settings_file(output: Path, name: str) -> Path:
    return output / SHARED_FOLDERS[0] / f"{name}.yaml"


def _jobs(trainings: Mapping[str, TrainSettings], checked: Mapping[str, Checked], output: Path) -> dict[str, TrainingJob]:
    jobs = {}
    for name, training in trainings.items():
        file = _settings_file(output, name)
        run = RunFolder(training.output.output)
        jobs[name] = TrainingJob(name, run, file, file.with_name(f"{name}.log"), Path.cwd(), checked[name].changes)
        if not is_started(run):
            _remember(jobs[name], training)
    return jobs


def _remember(job: TrainingJob, training: TrainSettings) -> None:
    """Write the settings that the run is started with, or that it has now."""
    write_yaml(job.settings, training, comment=f"Settings of {job.name}, written by dreambooth batch")


def _train(
    jobs: Sequence[TrainingJob],
    slots: Sequence[Slot],
    table: BatchTable,
    trainings: Mapping[str, TrainSettings],
    *,
    is_stopping: Callable[[], bool],
) -> None:
    """Train, and write down each ending as it comes."""
    with closing(train_all(jobs, slots, is_stopping=is_stopping, meanwhile=table.show)) as endings:
        for job, ending in endings:
            table.end(job.name, ending)
            if ending.state == "finished":
                _remember(job, trainings[job.name])


def train_all(
    jobs: Sequence[TrainingJob],
    slots: Sequence[Slot],
    *,
    is_stopping: Callable[[], bool],
    meanwhile: Callable[[Sequence[str]], None],
) -> Generator[tuple[TrainingJob, Ending], None, None]:
    """Carry on one training on each device until none is left; yields each with its ending as they end.

    Once `is_stopping`, no other is begun, and those that run are asked to save and end. `meanwhile` is called with the names
    of those that run.
    """
    waiting, running = deque(jobs), dict[int, KeptTraining]()
    try:
        while running or (waiting and not is_stopping()):
            for number in range(len(slots)):
                if number not in running and waiting and not is_stopping():
                    slot = slots[number]
                    running[number] = KeptTraining(waiting.popleft(), device=slot.device, environment=slot.environment)
            for number, training in [*running.items()]:
                if is_stopping():
                    training.stop()
                if (ending := training.look()) is not None:
                    del running[number]
                    yield training.job, ending
            meanwhile([training.job.name for training in running.values()])
            time.sleep(_LOOK_SECONDS if running else 0)
    finally:
        for training in running.values():
            training.stop()


def _summary(jobs: Mapping[str, TrainingJob], endings: Mapping[str, Ending]) -> list[tuple[str, str, str]]:
    states = {name: endings[name].state if name in endings else "waiting" for name in jobs}
    return [(name, states[name], str(_short(job.run.path))) for name, job in jobs.items()]


def _raise_if_any_is_left(jobs: Mapping[str, TrainingJob], endings: Mapping[str, Ending], output: Path, subjects: Path) -> None:
    left = {name: endings[name] for name in jobs if name in endings and endings[name].state != "finished"}
    if not left:
        return
    hint = [f"{len(jobs) - len(left)} of {counted(len(jobs), 'subject')} finished."]
    if any(ending.state == "stopped" for ending in left.values()):
        hint[0] += " Run the same command to train the others."
    if failed := [name for name in left if left[name].state == "failed"]:
        started = [quoted(_short(jobs[name].run.path)) for name in failed if is_started(jobs[name].run)]
        runs = listed(started, most=_MOST_NAMES)
        hint.append(
            f"If the settings of {listed(failed, most=_MOST_NAMES)} are the cause, change them in {_short(subjects)}"
            f"{f', remove {runs},' if runs else ''} and run the same command. Otherwise fix the cause and run the same command."
        )
    hint.append(f"What each training said is in {_short(output / SHARED_FOLDERS[0])}.")
    raise RunError([f"{name}: {ending.reason}" for name, ending in left.items()], hint="\n".join(hint))


def _short(path: Path) -> Path:
    """A path as a person would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
