"""Scores on request: the models of a run are measured in a process of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dreambooth.errors import RunError
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.runs.folder import RunFolder
from dreambooth.schema.leaves import leaves
from dreambooth.web.answers import Answer, Call, Moved
from dreambooth.web.commands import Command, verb_command
from dreambooth.web.forms import check_request, request_fields
from dreambooth.web.jobs import JobRecord, queue_of
from dreambooth.web.projects import Project
from dreambooth.web.run_scores import best_step, score_tables, with_short_paths
from dreambooth.web.screens import device_of, job_values, project_of, training_before

__all__ = ["score_now", "score_values"]

_FIELDS = ("num_images", "num_class_images", "num_checkpoint_images", "sampling_steps", "dino", "clip")


def score_now(call: Call) -> Answer:
    """Measure the models of a run: its subject, its prompts and its class. What was measured before is not made again."""
    project = project_of(call)
    run = project.run_named(call.value("run"))
    if not run.final_model.is_file():
        raise RunError("this run has not written its final model yet", hint="Go on with the training until its last step.")
    if any(job.is_active for job in _jobs(call, project, run)):
        raise RunError("this run is being scored already", hint="Wait until that ends, or stop it.")
    values = {name: call.value(name).strip() for name in _FIELDS}
    usual, defaults = _usual(project), _defaults()
    changed = {name: value for name, value in values.items() if value and value != defaults.get(name)}
    check_request(EvaluationSettings, usual | changed)
    command = _command(project, run, usual | changed)
    place = f"runs/{run.path.name}/evaluation"
    queue = queue_of(device_of(project))
    job = call.desk.queue.add(project, "evaluate", command, title=f"Score run {run.path.name}", queue=queue, place=place)
    return Moved(f"/projects/{project.name}/choose?run={run.path.name}", {"job": job.number})


def score_values(call: Call, project: Project, run: RunFolder) -> dict[str, Any]:
    """What the Choose screen shows of a run's scores."""
    tables = with_short_paths(score_tables(run), projects=call.desk.projects.folder)
    jobs = _jobs(call, project, run)
    return {
        "score_tables": tables,
        "best_step": best_step(tables),
        "can_score": run.final_model.is_file() and not (jobs and jobs[-1].is_active),
        "score_fields": request_fields(EvaluationSettings, _FIELDS, _usual(project)),
        "score_job": job_values(jobs[-1], call) if jobs else None,
        "score_command": _command(project, run, _usual(project)).typed,
        "score_waits_for": training_before(call, project) if jobs and jobs[-1].state == "waiting" else None,
    }


def _jobs(call: Call, project: Project, run: RunFolder) -> list[JobRecord]:
    place = f"runs/{run.path.name}/evaluation"
    return [job for job in call.desk.queue.store.of(project.name, ("evaluate",)) if job.place == place]


def _usual(project: Project) -> dict[str, str]:
    """The encoders that the project chose for scores while training."""
    chosen = {name: str(project.notes.settings.get(f"selection.{name}", "")) for name in ("dino", "clip")}
    return {name: value for name, value in chosen.items() if value}


def _defaults() -> dict[str, str]:
    return {leaf.name: "" if leaf.default is None else str(leaf.default) for leaf in leaves(EvaluationSettings)}


def _command(project: Project, run: RunFolder, values: Mapping[str, str]) -> Command:
    return verb_command("evaluate", model=run.path, **values, device=device_of(project) or None)
