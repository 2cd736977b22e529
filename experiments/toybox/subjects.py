"""`python -m experiments.toybox subjects`: the effect of DreamBooth on the bundled model, measured by the judge.

Every fixed subject is trained on five rendered photos, once with and once without class images. An image counts as the subject
when the judge prefers the subject to 19 others of its class; chance level is one in twenty.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dreambooth.display import Display
from dreambooth.errors import SettingsError
from dreambooth.files import write_json
from dreambooth.pages.images import write_contact_sheet
from dreambooth.recipes.toybox import write_photos
from dreambooth.recipes.train import resume, train
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.remembered import check_remembered
from dreambooth.runtime.device import choose_device
from dreambooth.sampling.placing import picture_dtype, place
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.schema.presets import toybox_training
from dreambooth.toybox.files import EMBEDDED_MODEL, EMBEDDED_MODEL_FILE, JUDGE_FILE
from dreambooth.toybox.judge import ATTRIBUTES, SIDE, Judge, load_judge, look_scores
from dreambooth.toybox.render import render
from dreambooth.toybox.subjects import HELD_OUT_SEED, SUBJECTS, random_subject, subject_scenes
from dreambooth.toybox.world import PLACES, Look
from dreambooth.weights.read import model_name, read_model
from experiments.paper import PAPER_PRIOR, PRESET_RATE
from experiments.toybox.count import answers_about, judged_pictures
from experiments.toybox.settings import SubjectsSettings

__all__ = ["MEASURES", "measure_subjects"]

MEASURES = {
    "subject": "share of images of the subject's prompt identified as the subject",
    "subject in places": "the same with a place in the prompt",
    "place": "share of these in the right place",
    "class": "share of images of the class prompt that show the class",
    "leak": "share of images of the class prompt identified as the subject",
    "colours": "number of different main colors in images of the class prompt, of eight",
}

_NUM_SEEDS = 5
_NUM_CLASS = 10
_NUM_OTHERS = 19
_OPTIONS = SamplingOptions("ddim", 30, 3.0, SIDE, SIDE, seed=1000)


@dataclass(frozen=True)
class _Case:
    """One subject in one condition."""

    name: str
    look: Look
    condition: str
    model: str
    folder: Path


def measure_subjects(settings: SubjectsSettings, display: Display) -> list[dict[str, float | str]]:
    """Train, make images and measure; returns one row per condition, the mean over the subjects."""
    if strange := [name for name in settings.subjects if name not in SUBJECTS]:
        raise SettingsError(f"subjects: unknown subject {', '.join(strange)}; expected {', '.join(SUBJECTS)}")
    judge, names = load_judge(JUDGE_FILE), tuple(dict.fromkeys(settings.subjects)) or tuple(SUBJECTS)
    _check_same_question(settings)
    found: dict[str, list[dict[str, float]]] = {}
    for name in names:
        look = SUBJECTS[name]
        cases = [_Case(name, look, "base model", EMBEDDED_MODEL, settings.output / name / "base")]
        for weight in dict.fromkeys(settings.prior_weights):
            folder = settings.output / name / f"prior-{weight:g}"
            cases.append(_Case(name, look, f"prior weight {weight:g}", model_name(folder), folder))
            _learn(cases[-1], weight, settings, display)
        found.setdefault("held-out photos", []).append(_real(look, judge))
        for case in cases:
            found.setdefault(case.condition, []).append(_measured(case, judge, settings, display))
    means = {
        condition: {measure: float(np.mean([one[measure] for one in ones])) for measure in ones[0]}
        for condition, ones in found.items()
    }
    display.table(
        f"{len(names)} subjects",
        ("", *MEASURES),
        [(condition, *(_shown(measure, row.get(measure)) for measure in MEASURES)) for condition, row in means.items()],
    )
    write_json(settings.output / "numbers.json", {"measures": MEASURES, "means": means, "subjects": {"names": names, **found}})
    return [{"condition": condition, **row} for condition, row in means.items()]


def _check_same_question(settings: SubjectsSettings) -> None:
    """Finished work in the folder is reused, so its settings must be the same. Raises SettingsError otherwise."""
    files = {"base model": EMBEDDED_MODEL_FILE, "judge": JUDGE_FILE}
    asked = {
        "steps": settings.steps,
        "learning_rate": settings.learning_rate,
        **{name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in files.items()},
    }
    check_remembered(settings.output / "asked.json", asked, hint="Use another --output to start over.")


def _shown(measure: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if measure == "colours" else f"{value:.0%}"


def _learn(case: _Case, weight: float, settings: SubjectsSettings, display: Display) -> None:
    """Train, resume a stopped run, or do nothing when the model already exists."""
    run = RunFolder(case.folder)
    if run.final_model.exists():
        return
    if run.config.exists():
        resume(case.folder, {}, display)
        return
    photos = settings.output / case.name / "photos"
    write_photos(case.name, photos)
    changes: dict[str, Mapping[str, object]] = {
        "subject": {"photos": photos, "class_word": case.look.class_word},
        "loop": {"device": settings.device, **({} if settings.steps is None else {"steps": settings.steps})},
        "output": {"output": case.folder, "preview_steps": 0, "validation_steps": 0},
    }
    if settings.learning_rate is not None:
        changes["optimizer"] = {"learning_rate": settings.learning_rate}
    changes["trainee"] = {"text_encoder_learning_rate": settings.learning_rate or PRESET_RATE}  # the preset's is lower
    made = {} if weight == 0 else {**PAPER_PRIOR, "prior_folder": settings.output / "class-images"}
    training = toybox_training(**changes, prior={**made, "prior_weight": weight})
    train(training, display)


def _real(look: Look, judge: Judge) -> dict[str, float]:
    """The judge's results on held-out renderings of the subject: the upper bound for a model."""
    scenes = subject_scenes(look, num=_NUM_SEEDS, seed=HELD_OUT_SEED)
    rendered = np.stack([render(scene, SIDE) for scene in scenes])
    answers = answers_about(judge, torch.from_numpy(rendered).permute(0, 3, 1, 2).float() / 255)
    is_subject = look_scores(answers, [look, *_others(look)]).argmax(dim=1) == 0
    places = [ATTRIBUTES["place"][index] for index in answers["place"].argmax(dim=1).tolist()]
    right = [place_found == scene.place for place_found, scene in zip(places, scenes, strict=True)]
    return {"subject": float(is_subject.float().mean()), "place": float(np.mean(right))}


def _measured(case: _Case, judge: Judge, settings: SubjectsSettings, display: Display) -> dict[str, float]:
    stored = case.folder / "judged.json"
    if stored.exists():
        numbers: dict[str, float] = json.loads(stored.read_text(encoding="utf-8"))
        return numbers
    device = choose_device(settings.device)
    components = place(read_model(case.model).build(dtype=picture_dtype(None, device)), device)
    places = list(PLACES)[:_NUM_SEEDS]
    subject, class_prompt = f"photo of a sks {case.look.class_word}", f"photo of a {case.look.class_word}"
    pictures = [
        *(Picture(subject, k) for k in range(_NUM_SEEDS)),
        *(Picture(f"{subject} {PLACES[name]}", k) for k, name in enumerate(places)),
        *(Picture(class_prompt, k) for k in range(_NUM_CLASS)),
    ]
    images, answers = judged_pictures(components, pictures, judge, _OPTIONS, display)
    looks = [case.look, *_others(case.look)]
    is_subject = look_scores(answers, looks).argmax(dim=1) == 0
    found = {name: [ATTRIBUTES[name][index] for index in answers[name].argmax(dim=1).tolist()] for name in ATTRIBUTES}
    numbers = _numbers(is_subject, found, places, case.look)
    _write_sheet(case.folder / "judged.png", images)
    write_json(stored, numbers)
    return numbers


def _numbers(
    is_subject: torch.Tensor, found: Mapping[str, Sequence[str]], places: Sequence[str], look: Look
) -> dict[str, float]:
    plain, placed, of_class = (slice(0, _NUM_SEEDS), slice(_NUM_SEEDS, 2 * _NUM_SEEDS), slice(2 * _NUM_SEEDS, None))
    return {
        "subject": float(is_subject[plain].float().mean()),
        "subject in places": float(is_subject[placed].float().mean()),
        "place": float(np.mean([a == b for a, b in zip(found["place"][placed], places, strict=True)])),
        "class": float(np.mean([word == look.class_word for word in found["class"][of_class]])),
        "leak": float(is_subject[of_class].float().mean()),
        "colours": float(len(set(found["primary"][of_class]))),
    }


def _others(look: Look) -> list[Look]:
    """Other subjects of the class, always the same ones."""
    drawn = (random_subject(10_000 + number, look.class_word) for number in range(_NUM_OTHERS))
    return list(drawn)


def _write_sheet(path: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    rows = [images[start : start + _NUM_SEEDS] for start in range(0, len(images), _NUM_SEEDS)]
    write_contact_sheet(path, rows, row_labels=["subject", "in places", "class", ""])
