"""What a training made: choose a model by its previews, and take the files away."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, StreamingResponse

from dreambooth.errors import RunError, SettingsError
from dreambooth.pages.thumbnails import picture_settings
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.saved_models import SavedModel, saved_models
from dreambooth.web.answers import Answer, Call, Moved, Page
from dreambooth.web.archive import zipped
from dreambooth.web.chosen import Chosen, chosen_model
from dreambooth.web.commands import verb_command
from dreambooth.web.projects import Project
from dreambooth.web.run_scores import scores_of_step
from dreambooth.web.screen_push import push_values
from dreambooth.web.screen_scores import score_values
from dreambooth.web.screens import framed, job_values, project_of, size_text

__all__ = ["choose", "convert", "download", "download_all", "set_choice", "take"]

_FORMATS = {"safetensors": ".safetensors", "ckpt": ".ckpt"}
_PRECISIONS = ("float16", "float32", "bfloat16")


def choose(call: Call) -> Answer:
    """All models of a run with their previews and scores; two of them can be laid side by side."""
    project = project_of(call)
    chosen = chosen_model(project)
    run = project.run_named(call.query["run"]) if call.query.get("run") else chosen.run
    scores = score_values(call, project, run)
    rows = [_row(project, run, model, scores, chosen) for model in saved_models(run.path)]
    wanted = [call.query.get("left", ""), call.query.get("right", "")]
    pair = [row for name in wanted for row in rows if str(row["step"]) == name]
    values = {
        "rows": rows,
        "run": run.path.name,
        "runs": [one.path.name for one in project.all_runs() if saved_models(one.path)],
        "pair": pair if len(pair) == 2 else [],
        **scores,
    }
    return Page("choose.html", framed(call, project, "choose", **values))


def set_choice(call: Call) -> Answer:
    """Choose the model of a step."""
    project = project_of(call)
    run, step = project.run_named(call.value("run")), call.value("step")
    if step not in {str(model.step) for model in saved_models(run.path)}:
        raise RunError(f"no model was saved at step {step}")
    call.desk.projects.change(project, lambda _: {"chosen_run": run.path.name, "chosen_step": int(step)})
    return Moved(f"/projects/{project.name}/choose?run={run.path.name}")


def take(call: Call) -> Answer:
    """The files, how to use them elsewhere, and a conversion."""
    project = project_of(call)
    chosen = chosen_model(project)
    shown = _shown_picture(project, chosen)
    jobs = call.desk.queue.store.of(project.name, ("convert",))
    values = {
        "step": chosen.model.step,
        "run": chosen.run.path.name,
        "files": [_file_values(project, path, title) for path, title in _files(project, chosen)],
        "formats": list(_FORMATS),
        "precisions": list(_PRECISIONS),
        "example": shown,
        "convert_command": _convert_command(project, chosen, "safetensors", "float16").typed,
        "job": job_values(jobs[-1], call) if jobs else None,
        "push": push_values(call, project),
    }
    return Page("take.html", framed(call, project, "take", **values))


def convert(call: Call) -> Answer:
    """Write the chosen model in another form or precision."""
    project = project_of(call)
    form, precision = call.value("format"), call.value("precision")
    if form not in _FORMATS or precision not in _PRECISIONS:
        raise SettingsError("unknown format or precision")
    command = _convert_command(project, chosen_model(project), form, precision)
    call.desk.queue.add(project, "convert", command, title="Convert the model")
    return Moved(f"/projects/{project.name}/take")


def download(call: Call) -> Answer:
    """A file by its id; a broken download can be taken up again."""
    project = project_of(call)
    for path, _ in _files(project, chosen_model(project)):
        if _file_id(project, path) == call.names["file"]:
            name = f"{project.name}-{'-'.join(path.relative_to(project.path).parts[-2:])}"
            return FileResponse(path, filename=name.encode("utf-8", "replace").decode(), media_type="application/octet-stream")
    raise RunError("no such file")


def download_all(call: Call) -> Answer:
    """All files in one ZIP file."""
    project = project_of(call)
    files = [(path.relative_to(project.path).as_posix(), path) for path, _ in _files(project, chosen_model(project))]
    headers = {"Content-Disposition": f'attachment; filename="{project.name}.zip"'}
    return StreamingResponse(zipped(files), media_type="application/zip", headers=headers)


def _row(project: Project, run: RunFolder, model: SavedModel, scores: Mapping[str, Any], chosen: Chosen) -> dict[str, Any]:
    base = f"/projects/{project.name}/runs/{run.path.name}/previews/{model.step}"
    return {
        "step": model.step,
        "is_last": model.path == run.final_model,
        "is_chosen": chosen.model.path == model.path,
        "pictures": [
            {"url": f"{base}/{index}", "prompt": str(picture_settings(path).get("prompt", ""))}
            for index, path in enumerate(model.pictures)
        ],
        "is_best": model.step == scores["best_step"],
        "scores": scores_of_step(scores["score_tables"], model.step),
    }


def _files(project: Project, chosen: Chosen) -> Iterator[tuple[Path, str]]:
    yield chosen.model.path, f"The chosen model, step {chosen.model.step}"
    for path in sorted(project.exports.glob("*")) if project.exports.is_dir() else ():
        if path.is_file() and path.suffix in _FORMATS.values():
            yield path, "Converted model"
    for path, title in (
        (chosen.run.previews / "over-time.png", "All previews over the steps"),
        (chosen.run.path / "evaluation" / "report.html", "Scores and images of the evaluation, to open in a browser"),
        (chosen.run.config, "Settings of the run, for --preset"),
    ):
        if path.is_file():
            yield path, title


def _file_values(project: Project, path: Path, title: str) -> dict[str, Any]:
    size = path.stat().st_size
    return {
        "url": f"/projects/{project.name}/files/{_file_id(project, path)}",
        "name": path.name,
        "title": title,
        "size": size_text(size),
        "bytes": size,
    }


def _file_id(project: Project, path: Path) -> str:
    return hashlib.sha256(path.relative_to(project.path).as_posix().encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _convert_command(project: Project, chosen: Chosen, form: str, precision: str) -> Any:
    name = f"{project.name}-run{chosen.run.path.name}-step{chosen.model.step}-{precision}{_FORMATS[form]}"
    return verb_command("convert", chosen.name, project.exports / name, dtype=precision)


def _shown_picture(project: Project, chosen: Chosen) -> dict[str, Any] | None:
    """A preview of the chosen model with the settings that repeat it in another program."""
    if not chosen.model.pictures:
        return None
    settings = picture_settings(chosen.model.pictures[0])
    url = f"/projects/{project.name}/runs/{chosen.run.path.name}/previews/{chosen.model.step}/0"
    names = ("prompt", "sampler", "steps", "guidance_scale", "seed", "width", "height")
    return {"url": url, "settings": {name: settings[name] for name in names if name in settings}}
