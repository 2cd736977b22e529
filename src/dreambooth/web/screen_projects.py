"""The first screen: all projects, a new one, the demo, and the queue."""

from __future__ import annotations

from typing import Any

from dreambooth.runs.folder import RunFolder
from dreambooth.runs.progress import asked_steps, preview_pictures, read_progress
from dreambooth.web.answers import Answer, Call, Moved, Page
from dreambooth.web.commands import train_command, verb_command
from dreambooth.web.job_queue import job_of
from dreambooth.web.projects import Project
from dreambooth.web.screens import job_values

__all__ = ["create", "demo", "job", "pause_for_pictures", "projects", "stop_job"]

_DEMO_SUBJECT = "belted-vase"
_DEMO_SETTINGS = {"subject.class_word": "vase"}


def projects(call: Call) -> Answer:
    """All projects, the newest first, and the jobs that wait or run."""
    found = call.desk.projects.all()
    jobs = call.desk.queue.store.all()
    states = {job.project: job.state for job in jobs if job.kind == "train"}
    return Page(
        "projects.html",
        {
            "projects": [_card(project, states.get(project.name, "")) for project in found],
            "jobs": [job_values(job, call) for job in jobs if job.is_active],
        },
    )


def create(call: Call) -> Answer:
    """A new project named after its subject."""
    project = call.desk.projects.create(call.value("title"))
    return Moved(f"/projects/{project.name}/photos", {"project": project.name})


def demo(call: Call) -> Answer:
    """A project of the bundled model: its photos are rendered, then the training starts by itself."""
    project = call.desk.projects.create("Demo", preset="toybox", settings=_DEMO_SETTINGS)
    rendering = verb_command("toybox", "photos", subject=_DEMO_SUBJECT, output=project.photos)
    run = project.next_run()
    photos = job_of(project, "photos", rendering, title="Render photos")
    training = job_of(project, "train", train_command(project, run, None), title="Train", place=f"runs/{run.name}")
    try:
        call.desk.queue.add_all([photos, training])
    except OSError:
        call.desk.projects.remove(project)  # there is nothing in it
        raise
    return Moved(f"/projects/{project.name}/train", {"project": project.name})


def job(call: Call) -> Answer:
    """One job: what it said, and how it ended."""
    record = call.desk.queue.store.get(_number(call))
    return Page("job.html", {"job": job_values(record, call), "lines": call.desk.queue.store.lines(record)})


def stop_job(call: Call) -> Answer:
    """Take a waiting job out of the queue, or ask a running one to finish its step and save."""
    record = call.desk.queue.stop(_number(call))
    return Moved(f"/projects/{record.project}/{_SCREENS.get(record.kind, 'train')}", {"job": record.number})


def pause_for_pictures(call: Call) -> Answer:
    """Stop a training for the jobs that wait behind it; it goes on by itself after them."""
    record = call.desk.queue.stop(_number(call), goes_on=True)
    screen = call.value("screen") if call.value("screen") in _SCREENS.values() else "try"
    return Moved(f"/projects/{record.project}/{screen}", {"job": record.number})


_SCREENS = {
    "pictures": "try",
    "evaluate": "choose",
    "convert": "take",
    "push-check": "take",
    "push": "take",
    "describe": "model",
    "word": "words",
}


def _number(call: Call) -> int:
    return int(call.names["number"])


def _card(project: Project, state: str) -> dict[str, Any]:
    notes, run = project.notes, project.newest_run
    values: dict[str, Any] = {
        "name": project.name,
        "title": notes.title,
        "state": state,
        "step": 0,
        "steps": None,
        "picture": "",
    }
    if run is not None:
        progress = read_progress(run)
        values["state"] = state or "imported"
        values.update(step=progress.step, steps=asked_steps(run), picture=_newest_preview(project, run, progress.preview_steps))
    return values


def _newest_preview(project: Project, run: RunFolder, steps: tuple[int, ...]) -> str:
    for step in reversed(steps):
        if preview_pictures(run, step):
            return f"/projects/{project.name}/runs/{run.path.name}/previews/{step}/0"
    return ""
