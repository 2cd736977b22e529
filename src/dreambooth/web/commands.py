"""The commands behind the buttons: what is run, and how a person would type it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreambooth.runs.process import command_line
from dreambooth.schema.verbs import TrainSettings
from dreambooth.web.places import typed_line
from dreambooth.web.projects import Project

__all__ = ["Command", "resume_command", "train_command", "verb_command"]


@dataclass(frozen=True)
class Command:
    """A verb with its arguments."""

    arguments: tuple[str, ...]
    """What is run, with the interpreter."""
    typed: str
    """What a person would type, with paths relative to the current folder or from the home folder on where possible."""


def verb_command(*words: object, **settings: object) -> Command:
    """The command of a verb (`"generate"`, or `"toybox", "photos"`) with positional arguments and flags."""
    verb, *places = words
    arguments = command_line(str(verb), *places, **settings)
    shown = arguments[arguments.index("dreambooth") :]
    return Command(tuple(arguments), typed_line(shown))


def train_command(project: Project, run: Path, settings: TrainSettings | None) -> Command:
    """Train with a project's notes into the folder `run`; `settings` are what they amount to, or None when they are wrong."""
    notes = project.notes
    changed = {path.rpartition(".")[2]: value for path, value in notes.settings.items()}
    made = {"prior_folder": project.class_images} if settings is not None and settings.prior.num_made else {}
    return verb_command("train", preset=notes.preset or None, photos=project.photos, **changed, **made, output=run)


def resume_command(run: Path) -> Command:
    """Resume a run where it stopped."""
    return verb_command("train", resume=run)
