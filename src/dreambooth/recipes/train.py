"""Training, from photos and a base model to a personalized model. Start reading at `_run`."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from dreambooth.config import read_yaml, write_yaml
from dreambooth.data.pictures import shares_of
from dreambooth.data.records import Role
from dreambooth.display import Display, quoted
from dreambooth.display_silent import SilentDisplay
from dreambooth.errors import RunError, TrainingError
from dreambooth.files import remove_leftovers, write_text
from dreambooth.runs.events import EventLog
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.lock import exclusive
from dreambooth.runs.place import PlacedFolder
from dreambooth.runs.status import recorded_status
from dreambooth.runs.untrained import clear_untrained, is_untrained
from dreambooth.runtime.distributed import start_processes
from dreambooth.runtime.interrupts import Interrupts, Request
from dreambooth.runtime.processes import Processes
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer.due import Due
from dreambooth.trainer.journal import Journal, SilentJournal, note_checkpoint
from dreambooth.trainer.material import gather_material
from dreambooth.trainer.messages import (
    config_comment,
    explained_when_out_of_memory,
    resume_command,
    resume_hint,
    times_text,
)
from dreambooth.trainer.moving import check_not_moved, is_elsewhere, moved, moved_error
from dreambooth.trainer.not_finite import advice
from dreambooth.trainer.photo_folders import with_photo_folders
from dreambooth.trainer.preflight import check_everything, least_free_memory
from dreambooth.trainer.preview_prompts import prompts_to_try
from dreambooth.trainer.ready import Ready
from dreambooth.trainer.resume_rules import check_same_material, settings_for_resume
from dreambooth.trainer.saving import save_what_is_due
from dreambooth.trainer.selection import check_best_is_there, peak_has_passed, put_back_model, put_chosen_model, what_was_chosen
from dreambooth.trainer.session import Session, start_session
from dreambooth.training.checkpoints import find_checkpoints, incomplete_checkpoints, restore_checkpoint
from dreambooth.training.loop import NotFiniteError, training_steps
from dreambooth.weights.read import model_name, read_model

__all__ = ["TrainResult", "resume", "train"]

_NOTHING: Mapping[str, str] = MappingProxyType({})


_STOPPING = "Stopping after this step, then saving. Press Ctrl-C again to quit without saving."


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a training run."""

    run: Path
    model: Path | None
    """The final model; None when a time limit stopped the run before its last step."""
    step: int
    was_asked_to_stop: bool = False
    """Whether the user asked to stop; the last step may have been done anyway."""


def train(settings: TrainSettings, display: Display, *, beside: Mapping[str, str] = _NOTHING) -> TrainResult:
    """Train a base model on a subject. Raises a DreamboothError with every problem before training starts.

    `beside` maps paths inside the run folder to texts that are written when the run starts.
    """
    return _run(settings, display, is_resume=False, beside=beside)


def resume(run: Path, changes: Mapping[str, Any], display: Display) -> TrainResult:
    """Resume a run, bit for bit as if it had never stopped. `changes` maps dotted setting names to new values."""
    return _run(settings_for_resume(RunFolder(run), changes), display, is_resume=True, beside=_NOTHING)


def _run(settings: TrainSettings, display: Display, *, is_resume: bool, beside: Mapping[str, str]) -> TrainResult:
    run, layout = RunFolder(settings.output.output), settings.output.file_layout
    with Interrupts(lambda: resume_hint(run, layout)) as interrupts, start_processes(settings.loop.device) as processes:
        display = display if processes.is_main else SilentDisplay()
        least_free = least_free_memory(settings, processes)
        with processes.main_first():
            subject = with_photo_folders(settings.subject, run.path.absolute().parent / "photo-archives")
            settings = settings.model_copy(update={"subject": subject})
            ready = check_everything(settings, display, processes, least_free=least_free, is_resume=is_resume)
        with ExitStack() as held:
            placed = held.enter_context(exclusive(run.path)) if processes.is_main else None
            with processes.together():
                if processes.is_main:
                    _begin(ready, display, is_resume=is_resume, beside=beside)
                    stops = held.enter_context(recorded_status(run, now=None if placed is None else placed.now))
            with explained_when_out_of_memory(ready):
                session = start_session(ready, gather_material(ready, display))
                restored = _restore(session, display)
                if restored and ready.measured.chooses:
                    put_back_model(session)
                is_done = session.state.step >= ready.loop.steps or (restored and _has_ended_early(session))
                if is_done and processes.is_main:
                    with closing(EventLog(run.events, resume_step=session.state.step)) as log:
                        note_checkpoint(run, log, session.state.step)
                if not is_done:
                    if restored:
                        display.say(f"Resuming from step {session.state.step}")
                    is_done = _train(session, display, interrupts, placed, restored=restored)
                elif ready.measured.chooses:
                    put_chosen_model(session)
                elif not ready.run.final_model.exists():
                    session.write_model(ready.run.final_model)
            if processes.is_main and not is_done:
                stops("the time limit was reached")
            return replace(_finish(session, display, is_done=is_done), was_asked_to_stop=interrupts.requested is not None)


def _begin(ready: Ready, display: Display, *, is_resume: bool, beside: Mapping[str, str]) -> None:
    """Prepare the run folder: remove leftovers of a killed run and write the settings."""
    if is_untrained(ready.run):
        clear_untrained(ready.run)
    _check_can_start(ready, is_resume=is_resume)
    remove_leftovers(ready.run.path, is_deep=True)
    for line in ready.announcement:
        display.say(line)
    for name, text in beside.items():
        write_text(ready.run.path / name, text)
    write_yaml(ready.run.config, ready.outputs.settings, comment=config_comment(ready))


def _check_can_start(ready: Ready, *, is_resume: bool) -> None:
    """Checks that need the folder's lock: no other run started here meanwhile, and no finished model would be lost."""
    run = ready.run
    if not is_resume and run.config.exists():
        hint = f"Continue it with: {resume_command(run.path, ready.outputs.layout)}"
        raise RunError(f"{run.path}: already holds a run", hint=hint)
    if is_resume and not find_checkpoints(run) and _is_finished(run):
        again = f"dreambooth train --model {quoted(model_name(run.path))} --output ANOTHER_FOLDER ..."
        raise RunError(
            f"{run.path}: holds a finished model and no checkpoint to resume from; starting again would overwrite the model",
            hint=f"To train it further: {again}",
        )
    if is_resume and (found := find_checkpoints(run)):
        check_best_is_there(run, ready.measured.selection, last=found[-1].step)


def _is_finished(run: RunFolder) -> bool:
    """Whether the model of the last step exists; if the newest model has the same name, its metadata tells the step."""
    if not run.final_model.exists() or not run.names.final_is_newest:
        return run.final_model.exists()
    steps = int(read_yaml(run.config)["loop"]["steps"])
    seen = read_model(str(run.final_model)).num_steps
    return run.model_at(steps).exists() or seen is None or seen >= steps


def _restore(session: Session, display: Display) -> bool:
    """Restore the newest checkpoint; returns whether there was one."""
    for folder in incomplete_checkpoints(session.ready.run):
        display.warn(f"{folder}: not a whole checkpoint (no state.json), left out. It can be deleted.")
    found = find_checkpoints(session.ready.run)
    if not found:
        return False
    check_same_material(found[-1], session.material.made_of)
    with session.host_values():
        restore_checkpoint(found[-1], session.state, session.trainee.parameters)
    steps = session.ready.loop.steps
    if session.state.step >= steps:
        more = f"dreambooth train --resume {quoted(session.ready.run.path)} --steps {2 * steps}"
        display.say(f"The run is already at its last step, {steps}. To train longer: {more}")
    return True


def _has_ended_early(session: Session) -> bool:
    """Whether the restored step is an early stop, by the current margin and patience."""
    processes = session.ready.processes
    return session.due.scores and processes.any(processes.is_main and peak_has_passed(session))


def _train(session: Session, display: Display, interrupts: Interrupts, placed: PlacedFolder | None, *, restored: bool) -> bool:
    """Train; returns whether training is done, by reaching the last step or by early stopping.

    Raises RunError when the run's folder was moved, after saving the run where it is now.
    """
    ready, state, processes = session.ready, session.state, session.ready.processes
    check_not_moved(session, placed)
    deadline = deadline_of(ready.loop.max_train_hours, now=time.monotonic())
    journal: Journal | SilentJournal = Journal.open(session, display) if processes.is_main else SilentJournal(session)
    ends = False
    with journal, interrupts.deferred(_STOPPING if processes.is_main else ""), session.trainee.train_mode():
        if not restored:
            journal.look(ready.intervals.before())
        try:
            for result in training_steps(
                state, session.batches_at, last_step=ready.loop.steps, min_snr_gamma=ready.loop.min_snr_gamma
            ):
                journal.step(result)
                is_moved = is_elsewhere(session, placed)
                if is_moved:
                    session, journal = moved(session, journal, placed)
                journal.look(ready.intervals.after(state.step))
                # All processes meet here in every step: one may have been asked to stop, or be generating previews.
                stops = processes.any(is_moved or interrupts.requested is not None or time.monotonic() >= deadline)
                asked = _asked(interrupts, processes)
                saves = "save" in asked or stops
                if "previews" in asked and not ready.intervals.after(state.step).previews:
                    journal.look(Due(previews=True))
                ends = ready.intervals.after(state.step).scores and processes.any(journal.ends_early)
                due = ready.intervals.after(state.step, ends=ends)
                save_what_is_due(session, journal, due, saves=saves)
                if due.is_last and is_elsewhere(session, placed):  # moved while the last step was saved
                    session, journal = moved(session, journal, placed)
                    save_what_is_due(session, journal, due, saves=True)
                if stops or ends:
                    break
        except NotFiniteError as error:
            raise TrainingError(error.problems, hint=advice(session, error.step)) from error
    if session.ready.run.path != ready.run.path:
        raise moved_error(ready.run.path, session)
    is_done = ends or state.step == ready.loop.steps
    if not is_done and processes.any(interrupts.requested is not None):
        raise interrupts.error()
    return is_done


def _asked(interrupts: Interrupts, processes: Processes) -> frozenset[Request]:
    """What any of the processes was asked for; the same answer in all of them."""
    own = interrupts.take_requests()
    if not processes.any(bool(own)):
        return frozenset()
    requests: tuple[Request, ...] = get_args(Request)
    return frozenset([request for request in requests if processes.any(request in own)])


def deadline_of(max_train_hours: float | None, *, now: float) -> float:
    """When a run must stop, in seconds on the clock of `now`; infinity without a limit."""
    return math.inf if max_train_hours is None else now + 3600 * max_train_hours


def _by_subject(ready: Ready, exposures: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]:
    """How often each photo was seen, by subject if the settings list several, with words that name it."""
    if not (subjects := ready.learned.subject.subjects):
        yield "", exposures
    left = iter(exposures)
    for one, share in zip(subjects, shares_of([one.photo for one in ready.learned.photos], ready.learned.subject), strict=True):
        yield f" of {one.token} {one.class_word}", list(itertools.islice(left, share.num_photos))


def _finish(session: Session, display: Display, *, is_done: bool) -> TrainResult:
    """Report what was written and how to use it."""
    ready, run, step = session.ready, session.ready.run, session.state.step
    has_photos = ready.learned.prior.prior_examples != "images"
    whats: dict[Role, str] = {"instance": "photo", "prior": "class example" if has_photos else "class image"}
    for role, what in whats.items():
        counts = session.material.source.exposures(role, step)
        for name, own in _by_subject(ready, counts) if role == "instance" else [("", counts)]:
            if own:
                times = times_text(max(own)) if min(own) == max(own) else f"{min(own)} to {times_text(max(own))}"
                display.say(f"Each of the {len(own)} {what}s{name} was seen {times}")
    predictions = session.material.predictions
    if predictions is not None and is_done and ready.processes.is_main and not ready.learned.prior.keep_predictions:
        predictions.remove()
    if not is_done:
        display.say(f"Time limit reached. {resume_hint(run, ready.outputs.layout)}")
        return TrainResult(run.path, None, step)
    if step < ready.loop.steps:
        margin, more = ready.measured.selection.early_stop_margin, resume_command(run.path, ready.outputs.layout)
        display.say(
            f"Training ended early at step {step} of {ready.loop.steps}: the balance of the scores stayed more than {margin:g} "
            f"below its peak. To continue anyway:\n  {more} --early-stop-margin 1"
        )
    if chosen := what_was_chosen(session):
        display.say(chosen["text"])
    to_try = prompts_to_try(session.previewer.prompts, ready.learned.subject, ready.learned.photos)
    prompts = " ".join(map(quoted, to_try))
    use = f"dreambooth generate --model {quoted(model_name(run.path))} --prompt {prompts}"
    display.say(f"The model is {run.final_model}. To use it:\n  {use}")
    return TrainResult(run.path, run.final_model, step)
