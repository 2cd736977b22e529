"""Training, from photos and a base model to a personalised model. Read `_run` for the table of contents."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dreambooth.config import read_yaml, write_yaml
from dreambooth.data.captions import Role
from dreambooth.errors import RunError, TrainingError
from dreambooth.files import remove_leftovers
from dreambooth.memory.plan import PRESETS, describe_plan
from dreambooth.recipes.display import Display, quoted
from dreambooth.recipes.estimate import workload_of
from dreambooth.recipes.journal import Journal, SilentJournal
from dreambooth.recipes.material import gather_material
from dreambooth.recipes.memory_plan import levers_to_pull
from dreambooth.recipes.preflight import Ready, check_everything, least_free_memory
from dreambooth.recipes.resume_rules import check_same_material, settings_for_resume
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
from dreambooth.weights.read import model_name

__all__ = ["TrainResult", "resume", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What a run left."""

    run: Path
    model: Path | None
    """The final model; None when a time limit stopped the run before its last step."""
    step: int
    was_asked_to_stop: bool = False
    """Whether somebody asked to stop while it ran; the last step may have been done all the same."""


def train(settings: TrainSettings, display: Display) -> TrainResult:
    """Teach a base model one subject. Raises a DreamboothError with everything that is wrong before any training."""
    return _run(settings, display, is_resume=False)


def resume(run: Path, changes: Mapping[str, Any], display: Display) -> TrainResult:
    """Go on with a run bit for bit as if it had never stopped. `changes` maps dotted settings to the values now given."""
    return _run(settings_for_resume(RunFolder(run), changes), display, is_resume=True)


def _run(settings: TrainSettings, display: Display, *, is_resume: bool) -> TrainResult:
    run = RunFolder(settings.output.output)
    with Interrupts(lambda: _how_to_go_on(run)) as interrupts, start_processes(settings.loop.device) as processes:
        display = display if processes.is_main else Display.silent()
        least_free = least_free_memory(settings, processes)
        with processes.main_first():
            ready = check_everything(settings, display, processes, least_free=least_free, is_resume=is_resume)
        with exclusive(run.path) if processes.is_main else nullcontext():
            with processes.together():
                if processes.is_main:
                    _begin(ready, display, is_resume=is_resume)
            with _told_when_out_of_memory(ready):
                session = start_session(ready, gather_material(ready, display))
                restored = _restore(session, display)
                if session.state.step < ready.settings.loop.steps:
                    _train(session, display, interrupts, restored=restored)
                elif not run.final_model.exists():
                    session.write_model(run.final_model)
            return replace(_finish(session, display), was_asked_to_stop=interrupts.requested is not None)


def _begin(ready: Ready, display: Display, *, is_resume: bool) -> None:
    """Take the run folder, clear what a killed run left half done, and write down what will be done."""
    _check_it_can_begin(ready.run, is_resume=is_resume)
    remove_leftovers(ready.run.path, is_deep=True)
    _announce(ready, display)
    write_yaml(ready.run.config, ready.settings, comment=_config_comment(ready.run))


def _check_it_can_begin(run: RunFolder, *, is_resume: bool) -> None:
    """What only the process that holds the folder can know: nobody began here meanwhile, and nothing finished is lost."""
    if not is_resume and run.config.exists():
        raise RunError(
            f"{run.path}: already holds a run", hint=f"Continue it with: dreambooth train --resume {quoted(run.path)}"
        )
    if is_resume and run.final_model.exists() and not find_checkpoints(run):
        again = f"dreambooth train --model {quoted(model_name(run.path))} --output ANOTHER_FOLDER ..."
        raise RunError(
            f"{run.path}: has a finished model and no checkpoint to go on from; starting again would overwrite it",
            hint=f"To train further from it: {again}",
        )


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
            hint=f"{more}{_how_to_go_on(ready.run)}",
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
        f"{len(ready.photos)} photos of '{settings.subject.token} {settings.subject.class_word}', {settings.loop.steps} steps: "
        f"each photo is seen about {each:.0f} times"
    )


def _config_comment(run: RunFolder) -> str:
    return (
        f"Everything that made this run. To go on with it:  dreambooth train --resume {quoted(run.path)}\n"
        f"To repeat it:  dreambooth train --preset {quoted(run.config)} --output ANOTHER_FOLDER"
    )


def _how_to_go_on(run: RunFolder) -> str:
    found = find_checkpoints(run)
    kept = (
        f"The run is saved at step {found[-1].step}." if found else "No step was saved yet; class images and latents are kept."
    )
    command = f"dreambooth train --resume {quoted(run.path)}"
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
    else:
        display.say(f"Going on from step {session.state.step}")
    return True


def _train(session: Session, display: Display, interrupts: Interrupts, *, restored: bool) -> None:
    settings, state, processes = session.ready.settings, session.state, session.ready.processes
    deadline = math.inf if settings.loop.max_train_hours is None else time.monotonic() + 3600 * settings.loop.max_train_hours
    journal = Journal.open(session, display) if processes.is_main else SilentJournal(session)
    with journal, interrupts.deferred(), session.trainee.train_mode():
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
                is_scheduled = result.step == settings.loop.steps or result.step % settings.output.checkpoint_steps == 0
                if is_scheduled or stops:
                    _save(session, journal, is_scheduled=is_scheduled)
                if stops:
                    break
        except TrainingError as error:
            raise TrainingError(error.problems, hint=f"{error.hint}\n{_how_to_go_on(session.ready.run)}") from error
    if state.step < settings.loop.steps and processes.any(interrupts.requested is not None):
        raise interrupts.error()


def _save(session: Session, journal: Journal | SilentJournal, *, is_scheduled: bool) -> None:
    """Write the model, then the checkpoint, then remove what these make superfluous.

    In this order a checkpoint's model is always there, wherever the power fails. All processes come here; the main one writes.
    """
    run, state, settings, processes = session.ready.run, session.state, session.ready.settings, session.ready.processes
    journal.catch_up()  # raises for a step that was not finite, so that nothing is saved after it
    if is_scheduled:
        is_last = state.step == settings.loop.steps
        session.write_model(run.final_model if is_last else run.model_at(state.step))
    with session.host_values():
        parameters = session.trainee.parameters
        path = save_checkpoint(run, state, parameters, made_of=session.material.made_of, is_scheduled=is_scheduled)
    with processes.together():
        if processes.is_main:
            remove_old_checkpoints(run, keep=settings.output.keep_checkpoints)
            journal.saved(path)


def _finish(session: Session, display: Display) -> TrainResult:
    """Say what there is and how to use it."""
    settings, run, step = session.ready.settings, session.ready.run, session.state.step
    whats: dict[Role, str] = {"instance": "photo", "prior": "class image"}
    for role, what in whats.items():
        if counts := session.material.source.exposures(role, step):
            fewest, most = min(counts), max(counts)
            times = f"{fewest} times" if fewest == most else f"{fewest} to {most} times"
            display.say(f"Each of {len(counts)} {what}s was seen {times}")
    if step < settings.loop.steps:
        display.say(f"Time is up. {_how_to_go_on(run)}")
        return TrainResult(run.path, None, step)
    prompt = session.previewer.prompts[0] if session.previewer.prompts else settings.subject.token
    use = f"dreambooth generate --model {quoted(model_name(run.path))} --prompt {quoted(prompt)}"
    display.say(f"The model is {run.final_model}. To use it:\n  {use}")
    return TrainResult(run.path, run.final_model, step)
