"""A run whose folder is moved or renamed while it trains: it is saved where the folder is now, and ends with a message.

It does not go on there: what lies beside the folder, such as the base model's predictions, may have been moved with it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dreambooth.errors import RunError
from dreambooth.runs.place import PlacedFolder
from dreambooth.trainer.journal import Journal, SilentJournal
from dreambooth.trainer.messages import resume_hint
from dreambooth.trainer.session import Session

__all__ = ["check_not_moved", "is_elsewhere", "moved", "moved_error"]


def is_elsewhere(session: Session, placed: PlacedFolder | None) -> bool:
    """Whether the run's folder is no longer at the path that the session writes to. None is another process's folder."""
    return placed is not None and placed.now() != session.ready.run.path


def moved(
    session: Session, journal: Journal | SilentJournal, placed: PlacedFolder | None
) -> tuple[Session, Journal | SilentJournal]:
    """The session and the journal, writing into the folder's new place. Raises RunError when there is none."""
    place = None if placed is None else placed.now()
    if place is None:
        raise RunError(
            f"{session.ready.run.path}: the folder was removed, or moved to another disk, while the run trained",
            hint="If it was moved, resume the run there; it goes on from its newest checkpoint:\n"
            "  dreambooth train --resume FOLDER",
        )
    run = replace(session.ready.run, path=place)
    previewer = replace(session.previewer, run=run)
    session = replace(session, ready=replace(session.ready, run=run), previewer=previewer)
    if isinstance(journal, Journal):
        scorer = None if journal.scorer is None else replace(journal.scorer, session=session)
        journal = replace(journal, session=session, scorer=scorer)
    return session, journal


def check_not_moved(session: Session, placed: PlacedFolder | None) -> None:
    """Raise RunError when the folder was moved before the first step, so that nothing is written under its old name."""
    if is_elsewhere(session, placed):
        now, _ = moved(session, SilentJournal(session), placed)
        raise moved_error(session.ready.run.path, now)


def moved_error(before: Path, session: Session) -> RunError:
    """The message for a run that is saved in its new place: where that is, and how to go on."""
    run = session.ready.run
    hint = resume_hint(run, session.ready.outputs.layout)
    if before.exists():
        hint += f"\nWhat was written meanwhile under the old name, {before}, can be deleted."
    return RunError(f"{before}: the folder was moved to {run.path} while the run trained", hint=hint)
