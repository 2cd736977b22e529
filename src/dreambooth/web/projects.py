"""A project on the disk: photos, settings, runs and images of one subject. Nothing of it lives in a session."""

from __future__ import annotations

import re
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dreambooth.errors import RunError
from dreambooth.files import atomic_directory, remove_directory, write_json
from dreambooth.reading import read_json
from dreambooth.runs.folder import RunFolder

__all__ = ["NoSuchError", "Project", "ProjectNotes", "Projects", "Setting"]

Setting = str | bool | list[str]
"""A value as a form posts it: text, a switch, or lines."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_NOTES = "project.json"


class NoSuchError(RunError):
    """What the path of a request names does not exist: a project, or a photo of it."""


@dataclass(frozen=True)
class ProjectNotes:
    """What a person chose; everything else is read from the files of the runs."""

    title: str
    created: float
    preset: str = ""
    """A built-in preset; empty for the program's defaults."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """Dotted path to a value that differs from the preset's."""
    chosen_run: str = ""
    chosen_step: int = -1
    """The model that was chosen; -1 for the last one."""

    @classmethod
    def read(cls, path: Path) -> ProjectNotes:
        """Read the file of a project. Raises OSError or ValueError when it is damaged."""
        values = read_json(path)
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        notes = cls(**known)
        kinds = {"title": str, "created": int | float, "preset": str, "settings": dict, "chosen_run": str, "chosen_step": int}
        if not all(isinstance(getattr(notes, name), kind) for name, kind in kinds.items()):
            raise ValueError("holds values of the wrong kind")
        return notes


@dataclass(frozen=True)
class Project:
    """A project's folder."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name, by which a browser names the project."""
        return self.path.name

    @property
    def photos(self) -> Path:
        """The photos of the subject and their captions."""
        return self.path / "photos"

    @property
    def runs(self) -> Path:
        """Run folders, numbered from 1."""
        return self.path / "runs"

    @property
    def class_images(self) -> Path:
        """Generated class images, which all runs of the project share."""
        return self.path / "class-images"

    @property
    def pictures(self) -> Path:
        """Images made on request, a folder for each request."""
        return self.path / "pictures"

    @property
    def exports(self) -> Path:
        """Converted models."""
        return self.path / "exports"

    @property
    def notes(self) -> ProjectNotes:
        """The choices. Raises RunError when their file is damaged."""
        try:
            return ProjectNotes.read(self.path / _NOTES)
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{self.name}: {_NOTES} cannot be read ({error})", hint="Restore the file, or remove the folder."
            ) from error

    def all_runs(self) -> list[RunFolder]:
        """The runs, the earliest first."""
        found = self.runs.iterdir() if self.runs.is_dir() else ()
        return [
            RunFolder(path) for path in sorted((one for one in found if one.name.isdecimal()), key=lambda one: int(one.name))
        ]

    def run_named(self, name: str) -> RunFolder:
        """The run of that number. Raises RunError when there is none."""
        for run in self.all_runs():
            if run.path.name == name:
                return run
        raise RunError(f"no run is called {name!r}")

    @property
    def newest_run(self) -> RunFolder | None:
        """The run that was started last; None before the first."""
        runs = self.all_runs()
        return runs[-1] if runs else None

    def next_run(self) -> Path:
        """The folder of the next run, which does not exist."""
        newest = self.newest_run
        return self.runs / str(1 if newest is None else int(newest.path.name) + 1)


class Projects:
    """The folder of all projects."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def all(self) -> list[Project]:
        """Every project, the newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        projects = [Project(path) for path in found if self._is_project(path)]
        return sorted(projects, key=lambda project: (project.path / _NOTES).stat().st_mtime, reverse=True)

    def named(self, name: str) -> Project:
        """The project of that name. Raises NoSuchError when there is none: a name never leads out of the folder."""
        path = self.folder / name
        if not self._is_project(path):
            raise NoSuchError(f"no project is called {name!r}")
        return Project(path)

    def create(self, title: str, *, preset: str = "", settings: Mapping[str, Setting] | None = None) -> Project:
        """A new project named after its title. Raises RunError for a title without letters or digits."""
        title = " ".join(title.split())[:80]
        plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
        stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:32].strip("-") or ("project" if title else "")
        if not stem:
            raise RunError("the project has no name", hint="Give it the name of the subject.")
        with self._lock:
            number, path = 1, self.folder / stem
            while path.exists():
                number += 1
                path = self.folder / f"{stem}-{number}"
            notes = ProjectNotes(title, time.time(), preset, dict(settings or {}))
            with atomic_directory(path) as partial:
                Project(partial).photos.mkdir()
                write_json(partial / _NOTES, asdict(notes))
        return Project(path)

    def remove(self, project: Project) -> None:
        """Remove a project with everything in it."""
        remove_directory(project.path)

    def change(self, project: Project, change: Callable[[ProjectNotes], Mapping[str, Any]]) -> None:
        """Replace fields of the notes by what `change` makes of the present ones; one change at a time."""
        with self._lock:
            notes = project.notes
            write_json(project.path / _NOTES, asdict(replace(notes, **change(notes))))

    def _is_project(self, path: Path) -> bool:
        is_inside = _NAME.fullmatch(path.name) is not None and path.parent == self.folder
        return is_inside and not path.is_symlink() and (path / _NOTES).is_file()
