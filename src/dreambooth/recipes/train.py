"""Training, from photos and a base model to a personalised model. Read `_run` for the table of contents."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dreambooth.config import read_yaml, write_yaml
from dreambooth.data.captions import Role, named_subjects
from dreambooth.errors import RunError, TrainingError
from dreambooth.files import link_or_copy, remove_leftovers, write_text
from dreambooth.memory.plan import PRESETS, describe_plan
from dreambooth.recipes.display import Display, quoted
from dreambooth.recipes.estimate import workload_of
from dreambooth.recipes.journal import Journal, SilentJournal
from dreambooth.recipes.material import gather_material
from dreambooth.recipes.memory_plan import levers_to_pull
from dreambooth.recipes.preflight import Ready, check_everything, least_free_memory
from dreambooth.recipes.resume_rules import check_same_material, settings_for_resume
from dreambooth.recipes.selecting import (
    check_best_is_there,
    peak_has_passed,
    put_back_model,
    put_chosen_model,
    what_was_chosen,
)
from dreambooth.recipes.session import Session, start_session
from dreambooth.recipes.settings import TrainSettings
from dreambooth.runtime.accelerated import start_processes
from dreambooth.runtime.compilation import describe_compilation
from dreambooth.runtime.device import describe_device, is_out_of_memory
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.runtime.lock import exclusive
from dreambooth.training.checkpoints import find_checkpoints, remove_old_checkpoints, restore_checkpoint, save_checkpoint
from dreambooth.training.loop import training_steps
from dreambooth.training.run_folder import RunFolder
from dreambooth.training.settings import FileLayout
from dreambooth.weights.read import model_name, read_model

__all__ = ["TrainResult", "resume", "resume_command", "train"]

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
    with Interrupts(lambda: _how_to_go_on(run, layout)) as interrupts, start_processes(settings.loop.device) as processes:
        display = display if processes.is_main else Display.silent()
        least_free = least_free_memory(settings, processes)
        with processes.main_first():
            ready = check_everything(settings, display, processes, least_free=least_free, is_resume=is_resume)
        with exclusive(run.path) if processes.is_main else nullcontext():
            with processes.together():
                if processes.is_main:
                    _begin(ready, display, is_resume=is_resume, beside=beside)
            with _told_when_out_of_memory(ready):
                session = start_session(ready, gather_material(ready, display))
                restored = _restore(session, display)
                if restored and ready.settings.selection.evaluate_every > 0:
                    put_back_model(session)
                is_done = session.state.step >= ready.settings.loop.steps or (restored and _has_ended_early(session))
                if not is_done:
                    if restored:
                        display.say(f"Going on from step {session.state.step}")
                    is_done = _train(session, display, interrupts, restored=restored)
                elif ready.settings.selection.evaluate_every > 0:
                    put_chosen_model(session)
                elif not ready.run.final_model.exists():
                    session.write_model(ready.run.final_model)
            return replace(_finish(session, display, is_done=is_done), was_asked_to_stop=interrupts.requested is not None)


def _begin(ready: Ready, display: Display, *, is_resume: bool, beside: Mapping[str, str]) -> None:
    """Take the run folder, clear what a killed run left half done, and write down what will be done."""
    _check_it_can_begin(ready, is_resume=is_resume)
    remove_leftovers(ready.run.path, is_deep=True)
    _announce(ready, display)
    for name, text in beside.items():
        write_text(ready.run.path / name, text)
    write_yaml(ready.run.config, ready.settings, comment=_config_comment(ready))


def _check_it_can_begin(ready: Ready, *, is_resume: bool) -> None:
    """What only the process that holds the folder can know: nobody began here meanwhile, and nothing finished is lost."""
    run = ready.run
    if not is_resume and run.config.exists():
        hint = f"Continue it with: {resume_command(run.path, ready.settings.output.file_layout)}"
        raise RunError(f"{run.path}: already holds a run", hint=hint)
    if is_resume and not find_checkpoints(run) and _is_finished(run):
        again = f"dreambooth train --model {quoted(model_name(run.path))} --output ANOTHER_FOLDER ..."
        raise RunError(
            f"{run.path}: has a finished model and no checkpoint to go on from; starting again would overwrite it",
            hint=f"To train further from it: {again}",
        )
    if is_resume and (found := find_checkpoints(run)):
        check_best_is_there(run, ready.settings.selection, last=found[-1].step)


def _is_finished(run: RunFolder) -> bool:
    """Whether the model of the last step that was asked for stands; where its name is also the newest model's, it says so."""
    if not run.final_model.exists() or not run.names.final_is_newest:
        return run.final_model.exists()
    steps = int(read_yaml(run.config)["loop"]["steps"])
    seen = read_model(str(run.final_model)).num_steps
    return run.model_at(steps).exists() or seen is None or seen >= steps


@contextmanager
def _told_when_out_of_memory(ready: Ready) -> Iterator[None]:
    """Nothing is saved here: the step in which memory ran out may be half done, and the last checkpoint is whole."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        workload = workload_of(ready.settings, ready.resolution, num_processes=ready.processes.count)
        levers = levers_to_pull(ready.settings, ready.plan, workload)
        more = f"Resumed with {' or '.join(levers)} it needs less, for the same numbers.\n" if levers else ""
        raise TrainingError(
            f"{describe_device(ready.device)}: out of memory ({str(error).splitlines()[0]})",
            hint=f"{more}{_how_to_go_on(ready.run, ready.settings.output.file_layout)}",
        ) from error


def _announce(ready: Ready, display: Display) -> None:
    settings = ready.settings
    trained = "UNet and text encoder" if settings.trainee.train_text_encoder else "UNet"
    others = ready.processes.count
    each = settings.loop.steps * settings.loop.examples_per_step / len(ready.photos)
    display.say(
        f"{ready.base.report.title} from {settings.base.model}: {trained} train on {describe_device(ready.device)} "
        f"in {ready.policy.name} at {ready.resolution} px"
        + (f", {others} processes share each step" if others > 1 else "")
        + (" and the weights" if ready.plan.shard else "")
    )
    if ready.plan != PRESETS["cpu"]:
        display.say(f"Memory plan {settings.memory.memory_preset}: {describe_plan(ready.plan)}")
    if ready.device.type == "cuda" or settings.loop.compile not in ("auto", "off"):
        display.say(f"In training {describe_compilation(settings.loop.compile)}")
    if ready.predicted is not None:
        display.say(ready.predicted)
    display.say(
        f"{len(ready.photos)} photos of {_subjects(ready)}, {settings.loop.steps} steps: "
        f"each photo is seen {'less than once' if each < 1 else f'about {_times(round(each))}'}"
    )


def resume_command(run: Path, layout: FileLayout) -> str:
    """What is typed to go on with a run; by the door through which it came, when that still has something to do at the end."""
    return f"python main.py -r {quoted(run)}" if layout == "joepenna" else f"dreambooth train --resume {quoted(run)}"


def _times(count: int) -> str:
    return "1 time" if count == 1 else f"{count} times"


def _subjects(ready: Ready) -> str:
    named = named_subjects((one.photo for one in ready.photos), ready.settings.subject)
    names = [f"'{words.token} {words.class_word}'".replace(" '", "'") for words in named]
    return names[0] if len(names) == 1 else f"{len(names)} subjects ({', '.join(names)})"


def _config_comment(ready: Ready) -> str:
    run = ready.run
    return (
        f"Everything that made this run. To go on with it:  {resume_command(run.path, ready.settings.output.file_layout)}\n"
        f"To repeat it:  dreambooth train --preset {quoted(run.config)} --output ANOTHER_FOLDER"
    )


def _how_to_go_on(run: RunFolder, layout: FileLayout) -> str:
    found = find_checkpoints(run)
    kept = (
        f"The run is saved at step {found[-1].step}." if found else "No step was saved yet; class images and latents are kept."
    )
    command = resume_command(run.path, layout)
    is_sharded = run.config.exists() and read_yaml(run.config).get("memory", {}).get("shard")
    again = f"{command} --no-shard\n  torchrun --nproc-per-node N -m {command}" if is_sharded else command
    return f"Stopped. {kept} To go on:\n  {again}"


def _restore(session: Session, display: Display) -> bool:
    """Put the newest checkpoint's state in place; whether there was one."""
    found = find_checkpoints(session.ready.run)
    if not found:
        return False
    check_same_material(found[-1], session.material.made_of)
    with session.host_values():
        restore_checkpoint(found[-1], session.state, session.trainee.parameters)
    steps = session.ready.settings.loop.steps
    if session.state.step >= steps:
        more = f"dreambooth train --resume {quoted(session.ready.run.path)} --steps {2 * steps}"
        display.say(f"Already at its last step, {steps}. To train longer: {more}")
    return True


def _has_ended_early(session: Session) -> bool:
    """Whether the restored step is one at which the scores say that it is enough, by the margin and patience of now."""
    processes = session.ready.processes
    return session.is_scored(is_first=False) and processes.any(processes.is_main and peak_has_passed(session))


def _train(session: Session, display: Display, interrupts: Interrupts, *, restored: bool) -> bool:
    """Whether training is done: the last step, or the one at which the scores say that it is enough."""
    settings, state, processes = session.ready.settings, session.state, session.ready.processes
    deadline = math.inf if settings.loop.max_train_hours is None else time.monotonic() + 3600 * settings.loop.max_train_hours
    journal = Journal.open(session, display) if processes.is_main else SilentJournal(session)
    ends = False
    with journal, interrupts.deferred(_STOPPING if processes.is_main else ""), session.trainee.train_mode():
        if not restored:
            journal.look(is_first=True)
        try:
            for result in training_steps(
                state, session.batches_at, last_step=settings.loop.steps, min_snr_gamma=settings.loop.min_snr_gamma
            ):
                journal.step(result)
                journal.look(is_first=False)
                # All processes meet here in every step: one may have been asked to stop, or be making previews.
                stops = processes.any(interrupts.requested is not None or time.monotonic() >= deadline)
                ends = session.is_scored(is_first=False) and processes.any(journal.ends_early)
                _save_what_is_due(session, journal, stops=stops, ends=ends)
                if stops or ends:
                    break
        except TrainingError as error:
            raise TrainingError(
                error.problems, hint=f"{error.hint}\n{_how_to_go_on(session.ready.run, settings.output.file_layout)}"
            ) from error
    is_done = ends or state.step == settings.loop.steps
    if not is_done and processes.any(interrupts.requested is not None):
        raise interrupts.error()
    return is_done


def _save_what_is_due(session: Session, journal: Journal | SilentJournal, *, stops: bool, ends: bool) -> None:
    """Write the model, then the checkpoint, then remove what these make superfluous.

    In this order a checkpoint's model is always there, wherever the power fails. All processes come here; the main one writes.
    """
    output, step = session.ready.settings.output, session.state.step
    is_last = ends or step == session.ready.settings.loop.steps
    is_scored = session.is_scored(is_first=False)
    has_model = is_last or is_scored or session.is_due(output.steps_between_models, is_first=False)
    has_checkpoint = is_last or session.is_due(output.checkpoint_steps, is_first=False)
    if has_model or has_checkpoint or stops:
        journal.catch_up()  # raises for a step that was not finite, so that nothing is saved after it
        _write_models(session, journal, has_model=has_model, is_last=is_last, stops=stops)
    if has_checkpoint or stops:
        _save_checkpoint(session, journal, is_scheduled=has_checkpoint)


def _write_models(session: Session, journal: Journal | SilentJournal, *, has_model: bool, is_last: bool, stops: bool) -> None:
    run, processes = session.ready.run, session.ready.processes
    if is_last and session.ready.settings.selection.evaluate_every > 0:
        session.write_model(run.model_at(session.state.step))
        put_chosen_model(session)
        journal.chose()
    elif is_last:
        session.write_model(run.final_model)
    elif has_model:
        session.write_model(run.model_at(session.state.step))
        journal.wrote(run.model_at(session.state.step))
        with processes.together():
            if processes.is_main and run.newest_model is not None:
                link_or_copy(run.model_at(session.state.step), run.newest_model)
    elif stops and run.newest_model is not None:
        session.write_model(run.newest_model)


def _save_checkpoint(session: Session, journal: Journal | SilentJournal, *, is_scheduled: bool) -> None:
    run, state, settings, processes = session.ready.run, session.state, session.ready.settings, session.ready.processes
    with session.host_values():
        parameters = session.trainee.parameters
        path = save_checkpoint(run, state, parameters, made_of=session.material.made_of, is_scheduled=is_scheduled)
    with processes.together():
        if processes.is_main:
            remove_old_checkpoints(run, keep=settings.output.keep_checkpoints)
            journal.saved(path)


def _finish(session: Session, display: Display, *, is_done: bool) -> TrainResult:
    """Say what there is and how to use it."""
    settings, run, step = session.ready.settings, session.ready.run, session.state.step
    whats: dict[Role, str] = {"instance": "photo", "prior": "class image"}
    for role, what in whats.items():
        if counts := session.material.source.exposures(role, step):
            fewest, most = min(counts), max(counts)
            times = _times(most) if fewest == most else f"{fewest} to {_times(most)}"
            display.say(f"Each of {len(counts)} {what}s was seen {times}")
    if not is_done:
        display.say(f"Time is up. {_how_to_go_on(run, settings.output.file_layout)}")
        return TrainResult(run.path, None, step)
    if step < settings.loop.steps:
        margin, more = settings.selection.early_stop_margin, resume_command(run.path, settings.output.file_layout)
        display.say(
            f"Training ended at step {step} of {settings.loop.steps}: the balance of the scores stayed lower than its peak by "
            f"more than {margin:g}. To go on all the same:\n  {more} --early-stop-margin 1"
        )
    if chosen := what_was_chosen(session):
        display.say(chosen["text"])
    prompt = session.previewer.prompts[0] if session.previewer.prompts else settings.subject.token
    use = f"dreambooth generate --model {quoted(model_name(run.path))} --prompt {quoted(prompt)}"
    display.say(f"The model is {run.final_model}. To use it:\n  {use}")
    return TrainResult(run.path, run.final_model, step)
