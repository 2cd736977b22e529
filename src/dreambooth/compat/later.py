"""The second generation of `main.py`: all settings as options, or in a JSON file of schema 1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dreambooth.compat.arguments import Given, unknown_options
from dreambooth.compat.training_flags import FLAGS, LATER_ONLY
from dreambooth.compat.translation import HINT, Collected, Job, settings_of, truth, without_slashes
from dreambooth.config import nearest
from dreambooth.errors import SettingsError
from dreambooth.reading import parse_json, read_text, reason_of

__all__ = ["is_later", "later_job"]

_SETTINGS = {
    "seed": "loop.seed",
    "token": "subject.token",
    "class_word": "subject.class_word",
    "max_training_steps": "loop.steps",
    "flip_p": "views.flip_probability",
    "training_model": "base.model",
    "training_images": "subject.photos",
    "regularization_images": "prior.prior_images",
    "learning_rate": "optimizer.learning_rate",
}
_JSON = {  # key of the file to the equivalent option; None for keys that are only informative
    "schema": None,
    "config_date_time": None,
    "project_config_filename": None,
    "project_name": "project_name",
    "seed": "seed",
    "debug": "debug",
    "gpu": "gpu",
    "max_training_steps": "max_training_steps",
    "save_every_x_steps": "save_every_x_steps",
    "training_images_folder_path": "training_images",
    "training_images_count": None,
    "training_images": None,
    "regularization_images_folder_path": "regularization_images",
    "token": "token",
    "token_only": "token_only",
    "class_word": "class_word",
    "flip_percent": "flip_p",
    "learning_rate": "learning_rate",
    "model_repo_id": None,
    "model_path": "training_model",
}
_NOT_TEXT = ("seed", "debug", "gpu", "max_training_steps", "save_every_x_steps", "token_only", "flip_percent", "learning_rate")
_BESIDE_A_FILE = ("original-pairing", "debug")
_SCHEMA = 1


def is_later(given: Given) -> bool:
    """Whether a command line is for the second generation."""
    return not LATER_ONLY.isdisjoint(given.values)


def later_job(given: Given, *, started: str) -> Job:
    """Translate the command line into a job. `started` is the time in the log folder's name.

    Raises SettingsError with all problems.
    """
    collected = Collected()
    collected.problems += unknown_options(given.rest, FLAGS)
    options, names, text = given.values, {name: f"--{name}" for name in given.values}, None
    if "config_file_path" in options:
        if others := [f"--{name}" for name in options if name not in ("config_file_path", *_BESIDE_A_FILE)]:
            collected.problems.append(
                f"--config_file_path replaces all options, so {', '.join(others)} would have no effect; omit the other options"
            )
        text, options, names = _from_file(Path(options["config_file_path"]), options, collected)
        if text is None:
            raise SettingsError(collected.problems, hint=HINT)
    _translate(options, names, collected)
    said, is_resume = dict(collected.values), "resume" in options
    project = options.get("project_name", "")
    if is_resume and project:
        collected.problems.append("--project_name names a new run and --resume continues an existing one; use only one of them")
    if not project and not is_resume:
        collected.problems.append("--project_name is missing: the name of the run")
    run_name = without_slashes(f"{started}_{project}".replace(" ", "_"))
    folder = Path("logs") / run_name
    if not is_resume:
        _defaults(options, collected)
    collected.values["output.output"] = str(folder)
    job = Job(
        settings=None if is_resume else settings_of(collected, is_later=True),
        is_debug=truth(options.get("debug", "false"), names.get("debug", "--debug"), collected),
        said=said,
        problems=tuple(collected.problems),
        notes=tuple(collected.notes),
        published=_published(started, project, collected),
    )
    config = text or json.dumps(_as_file(options, started), indent=2)
    return replace(job, beside={f"configs/{run_name}-config.json": config})


def _from_file(
    path: Path, options: Mapping[str, str], collected: Collected
) -> tuple[str | None, dict[str, str], dict[str, str]]:
    """The file's text (None on error), its values as options, and the name of each option in messages."""
    kept = {name: value for name, value in options.items() if name in _BESIDE_A_FILE}
    try:
        text = read_text(path)
        values = parse_json(text)
    except OSError as error:
        collected.problems.append(f"{path}: cannot be read: {error.strerror}")
        return None, kept, {}
    except ValueError as error:
        collected.problems.append(f"{path}: not a JSON file: {reason_of(error)}")
        return None, kept, {}
    if not isinstance(values, dict) or values.get("schema") != _SCHEMA:
        schema = repr(values.get("schema")) if isinstance(values, dict) else f"a {type(values).__name__}"
        collected.problems.append(f"{path}: expected a configuration of schema {_SCHEMA}, found {schema}")
        return None, kept, {}
    for key in values:
        if key not in _JSON:
            near = nearest(key, _JSON)
            collected.problems.append(f"{path}: unknown key {key}" + (f"; did you mean {near}?" if near else ""))
    said = {_JSON[key]: str(value) for key, value in values.items() if _JSON.get(key) and value not in (None, "")}
    if "training_model" not in said and values.get("model_repo_id"):
        said["training_model"] = str(values["model_repo_id"])
    names = {option: f"{path}: {key}" for key, option in _JSON.items() if option is not None}
    return text, {**{str(name): value for name, value in said.items()}, **kept}, names


def _translate(options: Mapping[str, str], names: Mapping[str, str], collected: Collected) -> None:
    for option, setting in _SETTINGS.items():
        if options.get(option):  # scripts pass an empty value to omit an option
            collected.set(setting, options[option], names.get(option, f"--{option}"))
    if "gpu" in options:
        collected.set("loop.device", f"cuda:{options['gpu']}", names.get("gpu", "--gpu"))
    if truth(options.get("token_only", "false"), "--token_only", collected):
        collected.notes.append(
            "The token alone names the subject, so class word and class images are ignored, as in the original"
        )
        collected.values.pop("prior.prior_images", None)
        collected.set("subject.class_word", "", "--token_only")
        collected.set("prior.prior_weight", 0.0, "--token_only")
    if truth(options.get("original-pairing", "false"), "--original-pairing", collected):
        collected.set("prior.original_pairing", True, "--original-pairing")
    if "save_every_x_steps" in options:
        collected.set(
            "output.model_steps", options["save_every_x_steps"], names.get("save_every_x_steps", "--save_every_x_steps")
        )


def _defaults(options: Mapping[str, str], collected: Collected) -> None:
    """Set the original program's defaults."""
    if "prior.prior_images" not in collected.values and "prior.prior_weight" not in collected.values:
        collected.values["prior.prior_weight"] = 0.0
        collected.notes.append(
            "Training without class images, because --regularization_images is missing: other members of the class will come "
            "to look like the subject. To make class images: `dreambooth prior`"
        )
    every = str(options.get("save_every_x_steps", "0"))
    looks = int(every) if every.isdecimal() and int(every) > 0 else 500
    for setting, value in {
        "base.weights": "raw",
        "loop.steps": 2000,
        "subject.captions": "filename",
        "subject.class_word": "",
        **({"views.prior_flip_probability": 0.5} if collected.has_priors() else {}),
        "output.file_layout": "joepenna",
        "output.checkpoint_steps": looks,
        "output.keep_checkpoints": 1,  # each is 12 GB at full size; all models are kept
        "output.model_steps": 0,
        "output.image_log_steps": looks,
        "output.model_dtype": "float16",
    }.items():
        collected.default(setting, value)
    for option in ("training_model", "training_images", "token"):
        collected.names.setdefault(_SETTINGS[option], f"--{option}")
        if option == "token" and "token" not in options:
            collected.problems.append("--token is missing: the rare word that names the subject")


def _published(started: str, project: str, collected: Collected) -> str:
    """The name of a model in `trained_models`, with placeholders for the step and the number of photos."""
    token, class_word = collected.values.get("subject.token", ""), collected.values.get("subject.class_word", "")
    of_class = f"_{class_word}_class_word" if class_word else ""
    name = f"{started}_{project}_{{steps}}_steps_{{photos}}_training_images_{token}_token{of_class}.ckpt"
    return without_slashes(name.replace(" ", "_"))


def _as_file(options: Mapping[str, str], started: str) -> dict[str, Any]:
    """The options as a file of schema 1; missing options are null."""
    entries = {key: _typed(key, options.get(option)) for key, option in _JSON.items() if option is not None}
    return {"schema": _SCHEMA, "config_date_time": started, **entries}


def _typed(key: str, text: str | None) -> Any:
    """A value with the type it has in the file: text, number or boolean."""
    if text is None or key not in _NOT_TEXT:
        return text
    try:
        return parse_json(text.lower())
    except ValueError:
        return text
