"""Writes the model and the checkpoint after a step, and removes files they replace."""

from __future__ import annotations

from dreambooth.config import effective_values
from dreambooth.files import link_or_copy
from dreambooth.trainer.due import Due
from dreambooth.trainer.journal import Journal, SilentJournal
from dreambooth.trainer.selection import put_chosen_model
from dreambooth.trainer.session import Session
from dreambooth.training.checkpoints import remove_old_checkpoints, save_checkpoint

__all__ = ["save_what_is_due"]


def save_what_is_due(session: Session, journal: Journal | SilentJournal, due: Due, *, saves: bool) -> None:
    """Write the model, then the checkpoint, then remove the files they replace.

    `saves` asks for both although none is due: the run stops, or somebody asked for it.

    In this order a checkpoint's model always exists, even after a power failure. All processes call this; the main one writes.
    """
    if due.writes_model or due.writes_checkpoint or saves:
        journal.catch_up()  # raises if a step was not finite, so that nothing is saved after it
        _write_models(session, journal, due, saves=saves)
    if due.writes_checkpoint or saves:
        _save_checkpoint(session, journal, is_scheduled=due.writes_checkpoint)


def _write_models(session: Session, journal: Journal | SilentJournal, due: Due, *, saves: bool) -> None:
    run, processes = session.ready.run, session.ready.processes
    if due.is_last and session.ready.measured.chooses:
        session.write_model(run.model_at(session.state.step))
        put_chosen_model(session)
        journal.chose()
    elif due.is_last:
        session.write_model(run.final_model)
    elif due.writes_model:
        session.write_model(run.model_at(session.state.step))
        journal.wrote(run.model_at(session.state.step))
        with processes.together():
            if processes.is_main and run.newest_model is not None:
                link_or_copy(run.model_at(session.state.step), run.newest_model)
    elif saves and run.newest_model is not None:
        session.write_model(run.newest_model)


def _save_checkpoint(session: Session, journal: Journal | SilentJournal, *, is_scheduled: bool) -> None:
    run, state, processes = session.ready.run, session.state, session.ready.processes
    with session.host_values():
        parameters = session.trainee.parameters
        path = save_checkpoint(
            run,
            state,
            parameters,
            made_of=session.material.made_of,
            is_scheduled=is_scheduled,
            settings=effective_values(session.ready.outputs.settings),
        )
    with processes.together():
        if processes.is_main:
            remove_old_checkpoints(run, keep=session.ready.outputs.keep_checkpoints)
            journal.saved(path)
