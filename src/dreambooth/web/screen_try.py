"""Pictures on request from the chosen model, and from the base model with the same seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.responses import FileResponse

from dreambooth.cli.verbs import VERBS
from dreambooth.config import read_yaml
from dreambooth.errors import RunError
from dreambooth.files import atomic_directory, remove_directory, write_json
from dreambooth.pages.thumbnails import picture_settings
from dreambooth.reading import read_json
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.leaves import leaves
from dreambooth.web.answers import Answer, Call, Moved, Page
from dreambooth.web.chosen import Chosen, chosen_model
from dreambooth.web.commands import Command, verb_command
from dreambooth.web.forms import check_request, request_fields
from dreambooth.web.job_queue import job_of
from dreambooth.web.jobs import JobRecord, queue_of
from dreambooth.web.projects import Project
from dreambooth.web.screens import device_of, framed, job_values, project_of, training_before

__all__ = ["made_picture", "make", "pictures"]

_FIELDS = ("num_images", "sampling_steps", "guidance_scale", "seed", "sampler", "negative_prompt", "width", "height")
_MOST_SETS = 20
_PLACES = {"subject": ".", "base": "base"}


def pictures(call: Call) -> Answer:
    """The pictures made so far, the newest first, and the form for more."""
    project = project_of(call)
    chosen = chosen_model(project)
    jobs = {job.place: job for job in call.desk.queue.store.of(project.name, ("pictures",))}
    words = _words(chosen)
    newest = next(iter(_sets(project)), None)
    before = _request(newest) if newest is not None else {}
    values = {
        "step": chosen.model.step,
        "words": words,
        "prompt": before.get("prompt", f"photo of a {' '.join(words)}"),
        "fields": _sample_fields(before, chosen),
        "sets": [_set_values(call, project, folder, jobs) for folder in _sets(project)[:_MOST_SETS]],
        "training": training_before(call, project),
        "command": _command(project, chosen, {"prompt": before.get("prompt", "...")}, project.pictures / "1").typed,
    }
    return Page("try.html", framed(call, project, "try", **values))


def make(call: Call) -> Answer:
    """Ask for pictures; they wait for the device."""
    project = project_of(call)
    chosen = chosen_model(project)
    given: dict[str, Any] = {name: call.value(name).strip() for name in ("prompt", *_FIELDS)}
    given = {name: value for name, value in given.items() if value}
    prompts = [line.strip() for line in given.get("prompt", "").splitlines() if line.strip()]
    if not prompts:
        raise RunError("no prompt was given", hint="Write what the images should show.")
    values = {**given, "prompt": prompts}
    check_request(SampleSettings, values)
    wants_base = call.value("with_base") == "true"
    folder = _next_set(project, {**given, "prompt": "\n".join(prompts), "with_base": wants_base})
    jobs = []
    for name in ("subject", "base") if wants_base else ("subject",):
        place = folder / _PLACES[name]
        command = _command(project, chosen, values, place, is_base=name == "base")
        relative = place.relative_to(project.path).as_posix()
        queue = queue_of(device_of(project))
        jobs.append(job_of(project, "pictures", command, title="Make pictures", queue=queue, place=relative))
    try:
        call.desk.queue.add_all(jobs)
    except OSError:
        remove_directory(folder)
        raise
    return Moved(f"/projects/{project.name}/try", {"set": folder.name})


def made_picture(call: Call) -> Answer:
    """A picture that was made, by its set, its model and its place."""
    project = project_of(call)
    folder = next((one for one in _sets(project) if one.name == call.names["set"]), None)
    files = [] if folder is None else _files(folder / _PLACES.get(call.names["which"], "."))
    index = int(call.names["index"])
    if index >= len(files):
        raise RunError("no such picture")
    return FileResponse(files[index], media_type="image/png")


def _command(project: Project, chosen: Chosen, values: dict[str, Any], place: Path, *, is_base: bool = False) -> Command:
    device = device_of(project) or None
    known = {leaf.name for leaf in leaves(VERBS["generate"].record())}
    sample = {name: value for name, value in values.items() if name in known}
    base = str(_recorded(chosen, "base").get("model", ""))
    is_beside = _recorded(chosen, "trainee").get("trainee", "full") != "full"  # a file that is applied to its base model
    model, lora = chosen.name, None
    if is_base:
        model = base
    elif is_beside and not chosen.is_last:
        model, lora = base, [str(chosen.model.path)]
    prompts = sample.pop("prompt")
    prompt = prompts if isinstance(prompts, list) else [prompts]
    return verb_command("generate", model=model, lora=lora, prompt=prompt, **sample, device=device, grid=False, output=place)


def _recorded(chosen: Chosen, section: str) -> dict[str, Any]:
    """A section of the settings of the model's run; empty where there is none. Raises SettingsError for a damaged file."""
    values = read_yaml(chosen.run.config).get(section)
    return values if isinstance(values, dict) else {}


def _words(chosen: Chosen) -> list[str]:
    subject = _recorded(chosen, "subject")
    return [str(word) for word in (subject.get("token", "sks"), subject.get("class_word", "")) if word]


def _sample_fields(before: dict[str, Any], chosen: Chosen) -> list[dict[str, str]]:
    guidance = _recorded(chosen, "output").get("preview_guidance_scale")
    as_previews = {"guidance_scale": f"{guidance:g}"} if isinstance(guidance, int | float) else {}
    return request_fields(SampleSettings, _FIELDS, as_previews | before)


def _sets(project: Project) -> list[Path]:
    """The folders of requests, the newest first."""
    found = [path for path in project.pictures.iterdir() if path.name.isdecimal()] if project.pictures.is_dir() else []
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _next_set(project: Project, request: dict[str, Any]) -> Path:
    """A new folder for images, with what was asked for in it."""
    sets = _sets(project)
    folder = project.pictures / str(int(sets[0].name) + 1 if sets else 1)
    with atomic_directory(folder) as partial:
        write_json(partial / "request.json", request)
    return folder


def _request(folder: Path) -> dict[str, Any]:
    try:
        values = read_json(folder / "request.json")
    except (OSError, ValueError):
        return {}
    return {name: str(value) for name, value in values.items()} if isinstance(values, dict) else {}


def _files(place: Path) -> list[Path]:
    return sorted(place.glob("*.png")) if place.is_dir() else []


def _set_values(call: Call, project: Project, folder: Path, jobs: dict[str, JobRecord]) -> dict[str, Any]:
    request = {"prompt": "", **_request(folder)}
    shown = []
    for which, place in _PLACES.items():
        job = jobs.get((folder / place).relative_to(project.path).as_posix())
        if job is None:
            continue
        files = _files(folder / place)
        base = f"/projects/{project.name}/pictures/{folder.name}/{which}"
        images = [
            {"url": f"{base}/{index}", "prompt": str(picture_settings(path).get("prompt", "")), "name": path.name}
            for index, path in enumerate(files)
        ]
        shown.append({"which": which, "pictures": images, "job": job_values(job, call)})
    return {"name": folder.name, "request": request, "models": shown}
