"""What every screen of a project shares: its steps, what is missing, and what runs."""

from __future__ import annotations

import math
from typing import Any

from dreambooth.data.photos import PhotoReport
from dreambooth.display import format_duration
from dreambooth.errors import RunError
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.saved_models import saved_models
from dreambooth.web.answers import Call
from dreambooth.web.forms import checked_settings
from dreambooth.web.jobs import JobRecord, queue_of
from dreambooth.web.projects import Project

__all__ = [
    "STEPS",
    "device_of",
    "framed",
    "job_values",
    "missing_for_training",
    "photo_report",
    "project_of",
    "run_of",
    "size_text",
    "training_before",
    "training_size",
]

STEPS = (
    ("photos", "Photos"),
    ("model", "Model"),
    ("words", "Words"),
    ("class-images", "Class images"),
    ("train", "Train"),
    ("choose", "Choose"),
    ("try", "Try"),
    ("take", "Take away"),
)
"""The screens of a project, in the order of the work."""

_USUAL_SIZE, _TOYBOX_SIZE = 512, 64
_NEEDS_MODEL = "Train first: there is no model yet."


def project_of(call: Call) -> Project:
    """The project that a path names. Raises RunError when there is none."""
    return call.desk.projects.named(call.names["project"])


def framed(call: Call, project: Project, screen: str, **values: Any) -> dict[str, Any]:
    """The values of a screen, with those of the frame around it."""
    has_model = any(saved_models(run.path) for run in project.all_runs())
    screens = [
        {
            "name": name,
            "title": title,
            "is_here": name == screen,
            "reason": _NEEDS_MODEL if name in ("choose", "try", "take") and not has_model else "",
        }
        for name, title in STEPS
    ]
    jobs = [job_values(job, call) for job in call.desk.queue.store.of(project.name) if job.is_active]
    title = project.notes.title
    return {
        "project": {"name": project.name, "title": title},
        "screen": screen,
        "screens": screens,
        "active_jobs": jobs,
        **values,
    }


def missing_for_training(call: Call, project: Project) -> list[str]:
    """Everything that keeps the next training from starting, in the words of the command line."""
    found = [problem for _, problem in checked_settings(project)[1]]
    report = photo_report(call, project)
    for problem in report.errors:
        place = "Photos" if problem.path == project.photos else problem.path.name
        found.append(f"{place}: {problem.message.replace(f'{project.photos}/', '')}. {problem.advice}")
    return found


def photo_report(call: Call, project: Project) -> PhotoReport:
    """What training would say of a project's photos and masks."""
    has_masks = project.notes.settings.get("subject.masks") is not False
    crop = str(project.notes.settings.get("views.crop", "center"))
    return call.desk.photos.report(project.photos, training_size(project), has_masks=has_masks, crop=crop)


def training_size(project: Project) -> int:
    """The size in pixels that small photos are held against; the model's own where none is set, as far as it is known."""
    settings = project.notes.settings
    resolution = str(settings.get("views.resolution", ""))
    if resolution.isdecimal():
        return int(resolution)
    is_toybox = settings.get("base.model", "toybox" if project.notes.preset == "toybox" else "") == "toybox"
    return _TOYBOX_SIZE if is_toybox else _USUAL_SIZE


def device_of(project: Project) -> str:
    """The --device of a project's settings; empty for the first GPU or the CPU."""
    return str(project.notes.settings.get("loop.device", ""))


def job_values(job: JobRecord, call: Call) -> dict[str, Any]:
    """A job as plain values."""
    seconds = None if job.started is None or job.ended is None else job.ended - job.started
    return {
        "number": job.number,
        "kind": job.kind,
        "title": job.title,
        "project": job.project,
        "state": job.state,
        "is_stopping": job.is_asked_to_stop and job.state == "running",
        "reason": job.reason,
        "command": job.typed,
        "took": "" if seconds is None else format_duration(seconds),
        "place": job.place,
    }


def size_text(num_bytes: int) -> str:
    """The size of a file or folder for people."""
    if num_bytes > 1e9:
        return f"{num_bytes / 1e9:.2f} GB"
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes > 1e5 else f"{math.ceil(num_bytes / 1e3)} KB"


def training_before(call: Call, project: Project) -> dict[str, Any] | None:
    """The training that another job of the project would wait for, if one runs in the same queue."""
    for job in call.desk.queue.store.all():
        if job.kind == "train" and job.state == "running" and job.queue == queue_of(device_of(project)):
            return job_values(job, call)
    return None


def run_of(call: Call, project: Project) -> RunFolder:
    """The run that the query or the path names; the newest without. Raises RunError when there is none."""
    name = call.names.get("run") or call.query.get("run", "")
    if name:
        return project.run_named(name)
    newest = project.newest_run
    if newest is None:
        raise RunError("no run was started yet", hint="Train first.")
    return newest
