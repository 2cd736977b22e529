"""Training, from photos and a base model to a personalised model. Read `_run` for the table of contents."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dreambooth.config import read_yaml, write_yaml
from dreambooth.data.records import Role
from dreambooth.display import Display, quoted
from dreambooth.display_silent import SilentDisplay
from dreambooth.errors import RunError, TrainingError
from dreambooth.files import remove_leftovers, write_text
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.lock import exclusive
from dreambooth.runs.status import recorded_status
from dreambooth.runtime.accelerated import start_processes
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer.journal import Journal, SilentJournal
from dreambooth.trainer.material import gather_material
from dreambooth.trainer.messages import (
    config_comment,
    explained_when_out_of_memory,
    how_to_go_on,
    resume_command,
    times_text,
)
from dreambooth.trainer.preflight import check_everything, least_free_memory
from dreambooth.trainer.ready import Ready
from dreambooth.trainer.resume_rules import check_same_material, settings_for_resume
from dreambooth.trainer.saving import save_what_is_due
from dreambooth.trainer.selection import check_best_is_there, peak_has_passed, put_back_model, put_chosen_model, what_was_chosen
from dreambooth.trainer.session import Session, start_session
from dreambooth.training.checkpoints import find_checkpoints, restore_checkpoint
from dreambooth.training.loop import training_steps
from dreambooth.weights.read import model_name, read_model

__all__ = ["TrainResult", "resume", "train"]

_NOTHING: Mapping[str, str] = MappingProxyType({})


_STOPPING = (
    "Asked to stop: it does so after this step, with the scores and previews that belong to it, and saves. "
    "Ask again to quit at once, without saving."
)


@dataclass(frozen=True)
class TrainResult:
    """What a run left."""

    run: Path
    model: Path | None
    """The final model; None when a time limit stopped the run before its last step."""
    step: int
    was_asked_to_stop: bool = False
    """Whether somebody asked to stop while it ran; the last step may have been done all the same."""


def train(settings: TrainSettings, display: Display, *, beside: Mapping[str, str] = _NOTHING) -> TrainResult:
    """Teach a base model one subject. Raises a DreamboothError with everything that is wrong before any training.

    `beside` maps paths within the run's folder to texts that are put there when the run begins.
    """
    return _run(settings, display, is_resume=False, beside=beside)


def resume(run: Path, changes: Mapping[str, Any], display: Display) -> TrainResult:
    """Go on with a run bit for bit as if it had never stopped. `changes` maps dotted settings to the values now given."""
    return _run(settings_for_resume(RunFolder(run), changes), display, is_resume=True, beside=_NOTHING)


def _run(settings: TrainSettings, display: Display, *, is_resume: bool, beside: Mapping[str, str]) -> TrainResult:
    run, layout = RunFolder(settings.output.output), settings.output.file_layout
    with Interrupts(lambda: how_to_go_on(run, layout)) as interrupts, start_processes(settings.loop.device) as processes:
        display = display if processes.is_main else SilentDisplay()
        least_free = least_free_memory(settings, processes)
        with processes.main_first():
            ready = check_everything(settings, display, processes, least_free=least_free, is_resume=is_resume)
        with ExitStack() as held:
            if processes.is_main:
                held.enter_context(exclusive(run.path))
            with processes.together():
                if processes.is_main:
                    _begin(ready, display, is_resume=is_resume, beside=beside)
                    stops = held.enter_context(recorded_status(run))
            with explained_when_out_of_memory(ready):
                session = start_session(ready, gather_material(ready, display))
                restored = _restore(session, display)
                if restored and ready.measured.chooses:
                    put_back_model(session)
                is_done = session.state.step >= ready.loop.steps or (restored and _has_ended_early(session))
                if not is_done:
                    if restored:
                        display.say(f"Going on from step {session.state.step}")
                    is_done = _train(session, display, interrupts, restored=restored)
                elif ready.measured.chooses:
                    put_chosen_model(session)
                elif not ready.run.final_model.exists():
                    session.write_model(ready.run.final_model)
            if processes.is_main and not is_done:
                stops("the time limit was reached")
            return replace(_finish(session, display, is_done=is_done), was_asked_to_stop=interrupts.requested is not None)


def _begin(ready: Ready, display: Display, *, is_resume: bool, beside: Mapping[str, str]) -> None:
    """Take the run folder, clear what a killed run left half done, and write down what will be done."""
    _check_it_can_begin(ready, is_resume=is_resume)
    remove_leftovers(ready.run.path, is_deep=True)
    for line in ready.announcement:
        display.say(line)
    for name, text in beside.items():
        write_text(ready.run.path / name, text)
    write_yaml(ready.run.config, ready.outputs.settings, comment=config_comment(ready))


def _check_it_can_begin(ready: Ready, *, is_resume: bool) -> None:
    """What only the process that holds the folder can know: nobody began here meanwhile, and nothing finished is lost."""
    run = ready.run
    if not is_resume and run.config.exists():
        hint = f"Continue it with: {resume_command(run.path, ready.outputs.layout)}"
        raise RunError(f"{run.path}: already holds a run", hint=hint)
    if is_resume and not find_checkpoints(run) and _is_finished(run):
        again = f"dreambooth train --model {quoted(model_name(run.path))} --output ANOTHER_FOLDER ..."
        raise RunError(
            f"{run.path}: has a finished model and no checkpoint to go on from; starting again would overwrite it",
            hint=f"To train further from it: {again}",
        )
    if is_resume and (found := find_checkpoints(run)):
        check_best_is_there(run, ready.measured.selection, last=found[-1].step)


def _is_finished(run: RunFolder) -> bool:
    """Whether the model of the last step that was asked for stands; where its name is also the newest model's, it says so."""
    if not run.final_model.exists() or not run.names.final_is_newest:
        return run.final_model.exists()
    steps = int(read_yaml(run.config)["loop"]["steps"])
    seen = read_model(str(run.final_model)).num_steps
    return run.model_at(steps).exists() or seen is None or seen >= steps


def _restore(session: Session, display: Display) -> bool:
    """Put the newest checkpoint's state in place; whether there was one."""
    found = find_checkpoints(session.ready.run)
    if not found:
        return False
    check_same_material(found[-1], session.material.made_of)
    with session.host_values():
        restore_checkpoint(found[-1], session.state, session.trainee.parameters)
    steps = session.ready.loop.steps
    if session.state.step >= steps:
        more = f"dreambooth train --resume {quoted(session.ready.run.path)} --steps {2 * steps}"
        display.say(f"Already at its last step, {steps}. To train longer: {more}")
    return True


def _has_ended_early(session: Session) -> bool:
    """Whether the restored step is one at which the scores say that it is enough, by the margin and patience of now."""
    processes = session.ready.processes
    return session.due.scores and processes.any(processes.is_main and peak_has_passed(session))


def _train(session: Session, display: Display, interrupts: Interrupts, *, restored: bool) -> bool:
    """Whether training is done: the last step, or the one at which the scores say that it is enough."""
    ready, state, processes = session.ready, session.state, session.ready.processes
    deadline = deadline_of(ready.loop.max_train_hours, now=time.monotonic())
    journal = Journal.open(session, display) if processes.is_main else SilentJournal(session)
    ends = False
    with journal, interrupts.deferred(_STOPPING if processes.is_main else ""), session.trainee.train_mode():
        if not restored:
            journal.look(ready.intervals.before())
        try:
            for result in training_steps(
                state, session.batches_at, last_step=ready.loop.steps, min_snr_gamma=ready.loop.min_snr_gamma
            ):
                journal.step(result)
                due = ready.intervals.after(state.step)
                journal.look(due)
                # All processes meet here in every step: one may have been asked to stop, or be making previews.
                stops = processes.any(interrupts.requested is not None or time.monotonic() >= deadline)
                ends = due.scores and processes.any(journal.ends_early)
                save_what_is_due(session, journal, ready.intervals.after(state.step, ends=ends), stops=stops)
                if stops or ends:
                    break
        except TrainingError as error:
            raise TrainingError(
                error.problems, hint=f"{error.hint}\n{how_to_go_on(ready.run, ready.outputs.layout)}"
            ) from error
    is_done = ends or state.step == ready.loop.steps
    if not is_done and processes.any(interrupts.requested is not None):
        raise interrupts.error()
    return is_done


def deadline_of(max_train_hours: float | None, *, now: float) -> float:
    """When a run must stop, in seconds on the clock that says `now`; infinity without a limit."""
    return math.inf if max_train_hours is None else now + 3600 * max_train_hours


def _finish(session: Session, display: Display, *, is_done: bool) -> TrainResult:
    """Say what there is and how to use it."""
    ready, run, step = session.ready, session.ready.run, session.state.step
    whats: dict[Role, str] = {"instance": "photo", "prior": "class image"}
    for role, what in whats.items():
        if counts := session.material.source.exposures(role, step):
            fewest, most = min(counts), max(counts)
            times = times_text(most) if fewest == most else f"{fewest} to {times_text(most)}"
            display.say(f"Each of {len(counts)} {what}s was seen {times}")
    if not is_done:
        display.say(f"Time is up. {how_to_go_on(run, ready.outputs.layout)}")
        return TrainResult(run.path, None, step)
    if step < ready.loop.steps:
        margin, more = ready.measured.selection.early_stop_margin, resume_command(run.path, ready.outputs.layout)
        display.say(
            f"Training ended at step {step} of {ready.loop.steps}: the balance of the scores stayed lower than its peak by "
            f"more than {margin:g}. To go on all the same:\n  {more} --early-stop-margin 1"
        )
    if chosen := what_was_chosen(session):
        display.say(chosen["text"])
    prompt = session.previewer.prompts[0] if session.previewer.prompts else ready.learned.subject.token
    use = f"dreambooth generate --model {quoted(model_name(run.path))} --prompt {quoted(prompt)}"
    display.say(f"The model is {run.final_model}. To use it:\n  {use}")
    return TrainResult(run.path, run.final_model, step)
