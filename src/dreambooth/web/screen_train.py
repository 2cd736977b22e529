"""The training: what will happen, what happens, and how it ended. Everything is read from the files of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from starlette.responses import FileResponse

from dreambooth.display import format_duration
from dreambooth.errors import RunError, SettingsError
from dreambooth.pages.chart import Line, chart
from dreambooth.pages.templates import Markup, render
from dreambooth.pages.thumbnails import picture_settings
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.progress import Curve, Progress, asked_steps, preview_pictures, read_progress
from dreambooth.web.answers import Answer, Call, Moved, Page
from dreambooth.web.commands import resume_command, train_command
from dreambooth.web.desk import Desk
from dreambooth.web.forms import checked_settings, fields_of
from dreambooth.web.jobs import JobRecord, queue_of
from dreambooth.web.projects import Project
from dreambooth.web.run_scores import evaluated_scores, trained_scores, with_short_paths
from dreambooth.web.screens import device_of, framed, job_values, missing_for_training, project_of

__all__ = ["live_parts", "preview", "preview_now", "resume", "save_now", "start", "train"]

_FIELDS = ("loop.steps", "optimizer.learning_rate", "output.preview_prompts", "selection.evaluate_every")
_MOST_STEPS_SHOWN = 8  # of previews: the first, and the newest
_LAST_LINES = 8
_COLOURS = {"photos": 0, "class": 1}
_UNSETTLED = 20  # the first smoothed losses average few steps, and would set the height of the chart


def train(call: Call) -> Answer:
    """The screen before, during and after a training."""
    project = project_of(call)
    state = training_state(call.desk, project)
    settings, _ = checked_settings(project)
    num_photos = sum(1 for _ in project.photos.iterdir()) if project.photos.is_dir() else 0
    values = {
        "fields": fields_of(project, _FIELDS),
        "missing": [] if state["is_active"] else missing_for_training(call, project),
        "steps_planned": None if settings is None else settings.loop.steps,
        "num_photos": num_photos,
        "command": train_command(project, project.next_run(), settings).typed,
        **state,
    }
    return Page("train.html", framed(call, project, "train", **values), drawn={"losses_chart": _chart(state)})


def start(call: Call) -> Answer:
    """Put a new training into the queue. Raises SettingsError with everything that is missing."""
    project = project_of(call)
    if any(job.is_active for job in _jobs(call.desk, project)):
        raise RunError("this project is being trained already", hint="Wait until it ends, or stop it.")
    if any(job.is_active for job in call.desk.queue.store.of(project.name, ("import",))):
        raise RunError("a run is being imported into this project", hint="Wait until that ends.")
    if missing := missing_for_training(call, project):
        raise SettingsError(missing)
    settings, _ = checked_settings(project)
    run = project.next_run()
    command = train_command(project, run, settings)
    call.desk.queue.add(project, "train", command, title="Train", queue=queue_of(device_of(project)), place=f"runs/{run.name}")
    return Moved(f"/projects/{project.name}/train", {"run": run.name})


def resume(call: Call) -> Answer:
    """Go on with the newest run where it stopped."""
    project = project_of(call)
    run = project.newest_run
    if run is None or any(job.is_active for job in _jobs(call.desk, project)):
        raise RunError("there is nothing to go on with", hint="A training is running, or none was started.")
    command = resume_command(run.path)
    place = f"runs/{run.path.name}"
    call.desk.queue.add(project, "train", command, title="Go on training", queue=queue_of(device_of(project)), place=place)
    return Moved(f"/projects/{project.name}/train", {"run": run.path.name})


def save_now(call: Call) -> Answer:
    """Write a checkpoint after the current step and go on."""
    return _ask(call, "save")


def preview_now(call: Call) -> Answer:
    """Make previews after the current step and go on."""
    return _ask(call, "previews")


def _ask(call: Call, what: Literal["save", "previews"]) -> Answer:
    project = project_of(call)
    job = _newest(call.desk, project)
    if job is None or not training_state(call.desk, project)["can_save"]:
        raise RunError("the training has not made its first step yet")
    call.desk.queue.ask(job.number, what)
    return Moved(f"/projects/{project.name}/train")


def preview(call: Call) -> Answer:
    """A preview picture of a run by its step and its place among the prompts."""
    run = project_of(call).run_named(call.names["run"])
    pictures = preview_pictures(run, int(call.names["step"]))
    index = int(call.names["index"])
    if index >= len(pictures):
        raise RunError("no such preview")
    return FileResponse(pictures[index], media_type="image/png")


def training_state(desk: Desk, project: Project) -> dict[str, Any]:
    """Where the newest training is, as plain values."""
    job, run = _newest(desk, project), project.newest_run
    if job is not None and job.place and job.is_active:
        run = RunFolder(project.path / job.place)
    elif job is not None and run is not None and _number(job) < int(run.path.name):
        job = None  # the run was imported after this training
    progress = None if run is None else read_progress(run, since=(job.started or 0.0) if job else 0.0)
    steps = None if run is None else asked_steps(run)
    is_active = job is not None and job.is_active
    step = 0 if progress is None else progress.step
    scores = [] if run is None else trained_scores(run)
    tables = [] if run is None else [*evaluated_scores(run), *scores]
    is_unfinished = run is not None and steps is not None and step < steps and run.config.is_file()
    return {
        "job": None if job is None else job_values_of(desk, job),
        "run": "" if run is None else run.path.name,
        "is_active": is_active,
        "can_resume": not is_active and is_unfinished and (job is not None or _has_checkpoint(run)),
        "can_save": job is not None and job.state == "running" and step > 0 and progress is not None and _is_stepping(progress),
        "step": step,
        "steps": steps,
        "time_left": "" if progress is None or steps is None or not is_active else _time_left(progress, steps),
        "losses": {} if progress is None else {name: list(curve) for name, curve in progress.losses.items()},
        "validation": {} if progress is None else {name: list(curve) for name, curve in progress.validation.items()},
        "previews": [] if progress is None or run is None else _previews(project, run, progress),
        "scores": [row for table in scores for row in table["rows"]],
        "score_tables": with_short_paths(tables, projects=desk.projects.folder),
        "can_score": not is_active and run is not None and run.final_model.is_file(),
        "lines": [] if job is None or job.state == "finished" else desk.queue.store.lines(job)[-_LAST_LINES:],
    }


def live_parts(desk: Desk, project: Project) -> dict[str, str]:
    """The parts of the screen that change while a model trains, as HTML by the id of their place."""
    state = training_state(desk, project)
    values = {"project": {"name": project.name}, **state}
    return {
        "live-state": render("live-state.html", package="dreambooth.web", **values),
        "live-actions": render("live-actions.html", package="dreambooth.web", **values),
        "live-losses": render("live-losses.html", package="dreambooth.web", losses_chart=_chart(state), **values),
        "live-previews": render("live-previews.html", package="dreambooth.web", **values),
    }


def job_values_of(desk: Desk, job: JobRecord) -> dict[str, Any]:
    """A job as plain values, where there is no call."""
    return job_values(job, Call(desk, {}, {}))


def _jobs(desk: Desk, project: Project) -> list[JobRecord]:
    return desk.queue.store.of(project.name, ("train",))


def _newest(desk: Desk, project: Project) -> JobRecord | None:
    jobs = _jobs(desk, project)
    return jobs[-1] if jobs else None


def _number(job: JobRecord) -> int:
    """The number of the run that a job trains."""
    name = job.place.rpartition("/")[2]
    return int(name) if name.isdecimal() else 0


def _has_checkpoint(run: RunFolder | None) -> bool:
    return run is not None and run.checkpoints.is_dir() and any(run.checkpoints.iterdir())


def _is_stepping(progress: Progress) -> bool:
    """Whether two steps of this process are known, so that it listens for the signal to save."""
    return progress.seconds_per_step is not None


def _time_left(progress: Progress, steps: int) -> str:
    seconds = progress.seconds_per_step
    return "" if seconds is None or progress.step >= steps else f"{format_duration((steps - progress.step) * seconds)} left"


def _previews(project: Project, run: RunFolder, progress: Progress) -> list[dict[str, Any]]:
    """A row for each prompt, with its picture at each step."""
    steps = progress.preview_steps
    shown = steps if len(steps) <= _MOST_STEPS_SHOWN else (steps[0], *steps[1 - _MOST_STEPS_SHOWN :])
    rows: dict[int, dict[str, Any]] = {}
    for step in shown:
        for index, path in enumerate(preview_pictures(run, step)):
            row = rows.setdefault(index, {"prompt": str(picture_settings(path).get("prompt", "")), "pictures": []})
            url = f"/projects/{project.name}/runs/{run.path.name}/previews/{step}/{index}"
            row["pictures"].append({"step": step, "url": url})
    return list(rows.values())


def _chart(state: Mapping[str, Any]) -> Markup:
    """Training losses in the background, losses on fixed noise with dots; empty before there are any."""
    lines = [
        *(_line(name, _settled(curve), "in training", is_faint=True) for name, curve in state["losses"].items() if curve),
        *(_line(name, curve, "on fixed noise", is_faint=False) for name, curve in state["validation"].items() if curve),
    ]
    if not any(math.isfinite(value) for line in lines for value in line.values.values()):
        return Markup("")
    return chart(lines, last_step=max(state["steps"] or 1, 1), is_styled=False)


def _line(name: str, curve: Curve, where: str, *, is_faint: bool) -> Line:
    return Line(f"{name} {where} {curve[-1][1]:.4f}", dict(curve), colour=_COLOURS[name], is_faint=is_faint)


def _settled(curve: Curve) -> Curve:
    return curve[_UNSETTLED:] if len(curve) > 3 * _UNSETTLED else curve
