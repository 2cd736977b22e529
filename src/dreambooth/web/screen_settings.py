"""The screens that choose: the model, the words, the class images, and every other setting."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from dreambooth.cli.verbs import VERBS
from dreambooth.data.listing import list_folder
from dreambooth.errors import SettingsError
from dreambooth.families.tokens import describe_token, propose_tokens
from dreambooth.schema.leaves import leaves
from dreambooth.schema.presets import preset_names
from dreambooth.schema.verbs import PlanSettings
from dreambooth.web.answers import Answer, Call, Moved, Page
from dreambooth.web.commands import Command, verb_command
from dreambooth.web.forms import all_fields, checked_settings, fields_of, named_settings, posted_changes
from dreambooth.web.jobs import queue_of
from dreambooth.web.memory_bars import memory_bars
from dreambooth.web.photo_cards import photo_id
from dreambooth.web.projects import Project
from dreambooth.web.screens import device_of, framed, job_values, project_of
from dreambooth.web.told import told_records

__all__ = ["class_image", "class_images", "describe", "model", "plan", "save", "settings", "words"]

_MODEL = ("base.model", "memory.memory_preset", "trainee.trainee")
_WORDS = ("subject.class_word", "subject.token", "subject.instance_prompt")
_CLASS_IMAGES = (
    "prior.prior_weight",
    "prior.prior_examples",
    "prior.num_prior_images",
    "prior.prior_prompts",
    "prior.prior_images",
)
_NUM_PROPOSED = 6
_MOST_THUMBNAILS = 24
_BACK = {"model": "model", "words": "words", "class-images": "class-images", "settings": "settings", "photos": "photos"}


def model(call: Call) -> Answer:
    """Which model is trained, what it is, and the memory that it needs."""
    project = project_of(call)
    choices = ["toybox", *call.desk.models()]
    fields, planned = fields_of(project, _MODEL), _told(call, project, "plan")
    values = {
        "fields": fields,
        "models": choices,
        "preset": project.notes.preset,
        "presets": preset_names(),
        "described": _told(call, project, "describe"),
        "planned": planned,
        "bars": [] if planned is None else memory_bars(planned["records"], chosen=fields[1]["value"]),
        "inspect_command": _inspect(project).typed if _model_of(project) else "",
        "plan_command": _plan(project).typed,
    }
    return Page("model.html", framed(call, project, "model", **values))


def words(call: Call) -> Answer:
    """The class word and the token: how they are split, and the sentence that training reads."""
    project = project_of(call)
    settings, _ = checked_settings(project)
    notes = project.notes.settings
    token = str(notes.get("subject.token", "sks"))
    class_word = str(notes.get("subject.class_word", ""))
    template = str(notes.get("subject.instance_prompt", "photo of a {token} {class_word}"))
    described = describe_token(token)
    values = {
        "fields": fields_of(project, _WORDS),
        "sentence": template.replace("{token}", token).replace("{class_word}", class_word).strip(),
        "class_sentence": f"photo of a {class_word}" if class_word else "",
        "token": {"word": token, "pieces": list(described.pieces), "warnings": list(described.warnings)},
        "proposed": propose_tokens(_NUM_PROPOSED),
        "is_complete": settings is not None or bool(class_word),
    }
    return Page("words.html", framed(call, project, "words", **values))


def class_images(call: Call) -> Answer:
    """How the class is kept: with generated images, with the photos, with both, or not at all."""
    project = project_of(call)
    settings, _ = checked_settings(project)
    made = list_folder(project.class_images).pictures if project.class_images.is_dir() else ()
    pictures = [f"/projects/{project.name}/class-images/{photo_id(path, project.class_images)}" for path in made]
    values = {
        "fields": fields_of(project, _CLASS_IMAGES),
        "num_wanted": 0 if settings is None else settings.prior.num_made,
        "num_made": len(made),
        "pictures": pictures[:_MOST_THUMBNAILS],
    }
    return Page("class-images.html", framed(call, project, "class-images", **values))


def class_image(call: Call) -> Answer:
    """A class image, as a small JPEG."""
    project = project_of(call)
    return Response(call.desk.photos.picture(project.class_images, call.names["photo"], 320), media_type="image/jpeg")


def settings(call: Call) -> Answer:
    """Every setting of a training, by section."""
    project = project_of(call)
    sections: dict[str, list[dict[str, Any]]] = {}
    for field in all_fields(project):
        sections.setdefault(field["section"].removesuffix("."), []).append(field)
    others = [problem for path, problem in checked_settings(project)[1] if not path]
    values = {"sections": [{"title": title, "fields": fields} for title, fields in sections.items()], "problems": others}
    return Page("settings.html", framed(call, project, "settings", **values))


def save(call: Call) -> Answer:
    """Write what a form holds; wrong values are kept and shown with their problem."""
    project = project_of(call)
    form = named_settings(call.form) if call.is_json else call.form
    call.desk.projects.change(project, lambda notes: posted_changes(notes, form))
    screen = _BACK.get(call.value("screen"), "settings")
    problems = [{"setting": path, "problem": problem} for path, problem in checked_settings(project)[1]]
    return Moved(f"/projects/{project.name}/{screen}", {"problems": problems})


def describe(call: Call) -> Answer:
    """Look into the model in a process of its own."""
    project = project_of(call)
    if not _model_of(project):
        raise SettingsError("no model was chosen", hint="Type its path, its hub id, or toybox.")
    call.desk.queue.add(project, "describe", _in_json(_inspect(project)), title="Describe the model")
    return Moved(f"/projects/{project.name}/model")


def plan(call: Call) -> Answer:
    """Predict the memory of each preset in a process of its own."""
    project = project_of(call)
    call.desk.queue.add(project, "plan", _in_json(_plan(project)), title="Predict memory", queue=queue_of(device_of(project)))
    return Moved(f"/projects/{project.name}/model")


def _model_of(project: Project) -> str:
    given = str(project.notes.settings.get("base.model", ""))
    return given or ("toybox" if project.notes.preset == "toybox" else "")


def _inspect(project: Project) -> Command:
    return verb_command("inspect", _model_of(project))


def _plan(project: Project) -> Command:
    notes = project.notes
    known = {leaf.path for leaf in leaves(PlanSettings) if leaf.name not in VERBS["plan"].without}
    given: dict[str, object] = {path.rpartition(".")[2]: value for path, value in notes.settings.items() if path in known}
    if given.get("crop") == "bucket":
        given["photos"] = project.photos
    return verb_command("plan", preset=notes.preset or None, **given)


def _in_json(command: Command) -> Command:
    """The same command, with its words as records."""
    words = command.arguments[command.arguments.index("dreambooth") + 1 :]
    return Command((sys.executable, "-m", "dreambooth.web.told", *words), command.typed)


def _told(call: Call, project: Project, kind: str) -> Mapping[str, Any] | None:
    """What the newest job of a kind said; None before the first."""
    jobs = call.desk.queue.store.of(project.name, (kind,))
    if not jobs:
        return None
    records = told_records(call.desk.queue.store.lines(jobs[-1]))
    return {"job": job_values(jobs[-1], call), "records": records}
