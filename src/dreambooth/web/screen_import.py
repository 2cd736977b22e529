"""Bring a run of the command line into a project."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from dreambooth.config import parse_settings, read_yaml
from dreambooth.display import counted
from dreambooth.errors import RunError
from dreambooth.files import free_disk_bytes
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.status import read_status
from dreambooth.schema.verbs import TrainSettings
from dreambooth.web.answers import Answer, Call, Moved, Page
from dreambooth.web.commands import Command
from dreambooth.web.forms import chosen_values
from dreambooth.web.job_queue import job_of
from dreambooth.web.places import shown_path, typed_line
from dreambooth.web.projects import Project
from dreambooth.web.run_imports import FoundRun, found_run, found_runs
from dreambooth.web.screens import job_values, size_text
from dreambooth.web.uploads import LEAST_FREE_BYTES

__all__ = ["import_run", "imports"]

_MOST_SHOWN = 60


def imports(call: Call) -> Answer:
    """The runs that can be brought into a project, the newest first."""
    desk = call.desk
    projects = [{"name": one.name, "title": one.notes.title} for one in desk.projects.all()]
    jobs = [job for job in desk.queue.store.all() if job.kind == "import"]
    found = found_runs(desk.runs_folder, but_not=desk.projects.folder)
    values = {
        "folder": "" if desk.runs_folder is None else shown_path(desk.runs_folder),
        "runs": [_run_values(call, run) for run in found[:_MOST_SHOWN]],
        "num_runs": len(found),
        "projects": projects,
        "job": job_values(jobs[-1], call) if jobs else None,
    }
    return Page("import.html", values)


def import_run(call: Call) -> Answer:
    """Bring a run into a project, or into a new one with its settings. Large files are linked; copied only if agreed to."""
    desk = call.desk
    run = found_run(desk.runs_folder, call.value("run"), but_not=desk.projects.folder)
    settings, may_copy = _settings_of(run), call.value("copy") == "true"
    _check_room(call, run, may_copy=may_copy)
    if name := call.value("project"):
        project = desk.projects.named(name)
        if any(job.is_active for job in desk.queue.store.of(name, ("train", "import"))):
            raise RunError("a run of this project is being trained or imported", hint="Wait until that ends.")
        _add(call, project, run, may_copy=may_copy)
    else:
        _check_is_one_subject(run, settings)
        title = call.value("title").strip() or run.path.absolute().name
        project = desk.projects.create(title, settings=chosen_values(settings))
        try:
            _add(call, project, run, may_copy=may_copy)
        except OSError:
            desk.projects.remove(project)  # there is nothing in it
            raise
    return Moved("/import", {"project": project.name})


def _add(call: Call, project: Project, run: FoundRun, *, may_copy: bool) -> None:
    destination = project.next_run()
    arguments = [str(run.path), str(destination), *(["--copy"] if may_copy else [])]
    words = (sys.executable, "-m", "dreambooth.web.run_imports", *arguments)
    command = Command(words, typed_line(["cp", "-r", run.path, destination]))
    # A queue of its own: it needs no device, so it waits for no training.
    job = job_of(project, "import", command, title="Import a run", queue="files", place=f"runs/{destination.name}")
    call.desk.queue.add_all([job])


def _settings_of(run: FoundRun) -> TrainSettings:
    """The settings of a run that has ended. Raises RunError for one that is being trained, SettingsError for damaged ones."""
    status = read_status(RunFolder(run.path))
    if status is not None and status.state == "running":
        raise RunError(f"{run.name}: is being trained right now", hint="Import it when it has ended.")
    return parse_settings(TrainSettings, read_yaml(RunFolder(run.path).config), where=f"{run.name}/config.yaml")


def _check_is_one_subject(run: FoundRun, settings: TrainSettings) -> None:
    """Raise RunError for several subjects: the settings of a project hold one, so the others would be lost without a word."""
    if (number := len(settings.subject.subjects)) > 0:
        raise RunError(
            f"{run.name}: was trained with a list of {counted(number, 'subject')}, and a project has one subject, so a new "
            "project cannot take over the settings of this run",
            hint="Import it into an existing project: its models can be chosen, tried and taken away there. "
            "To train on several subjects, use dreambooth train --subjects.",
        )


def _check_room(call: Call, run: FoundRun, *, may_copy: bool) -> None:
    folder = call.desk.projects.folder
    if run.is_on_disk_of(folder):
        return
    size = run.num_bytes
    if not may_copy:
        raise RunError(f"{run.name}: is on another disk, so {size_text(size)} would be copied", hint="Agree to the copy.")
    if free_disk_bytes(folder) < size + LEAST_FREE_BYTES:
        raise RunError(f"{run.name}: there is no room left for {size_text(size)}", hint="Make room, or use another --folder.")


def _run_values(call: Call, run: FoundRun) -> dict[str, Any]:
    size = run.num_bytes
    is_linked = run.is_on_disk_of(call.desk.projects.folder)
    changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.changed))
    name = run.name if run.name != "." else Path(run.path).absolute().name
    return {"id": run.id, "name": name, "changed": changed, "bytes": size, "size": size_text(size), "is_linked": is_linked}
