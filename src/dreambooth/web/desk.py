"""What all requests share: the folder of projects, the queue and the models to choose from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dreambooth.files import remove_leftovers
from dreambooth.web.job_queue import JobQueue
from dreambooth.web.jobs import JobStore
from dreambooth.web.photo_cards import PhotoReader
from dreambooth.web.projects import Projects

__all__ = ["Desk"]

_MODELS = (".safetensors", ".ckpt")


@dataclass(frozen=True)
class Desk:
    """A server's folder and what works on it."""

    projects: Projects
    queue: JobQueue
    photos: PhotoReader
    models_folder: Path | None
    runs_folder: Path | None

    @classmethod
    def at(cls, folder: Path, models_folder: Path | None = None, runs_folder: Path | None = None) -> Desk:
        """The desk of a folder; the folder is made when the first project is."""
        projects = Projects(folder)
        return cls(projects, JobQueue(JobStore(folder / ".jobs"), projects), PhotoReader(), models_folder, runs_folder)

    def tidy(self) -> None:
        """Remove what a killed server left half-written; call it before the first request, where no other server is."""
        busy = {job.project for job in self.queue.store.all() if job.is_active}  # its job may be writing there
        projects = [
            place
            for one in self.projects.all()
            if one.name not in busy
            for place in (one.path, one.photos, one.pictures, one.runs, one.exports)
        ]
        for place in (self.projects.folder, self.queue.store.folder, *projects):
            with suppress(OSError):  # a read-only folder keeps it
                remove_leftovers(place)

    def models(self) -> list[str]:
        """The model files below the folder that was given at the start."""
        if self.models_folder is None:
            return []
        found = sorted(path for path in self.models_folder.rglob("*") if path.suffix.lower() in _MODELS and path.is_file())
        return [str(path) for path in found]
