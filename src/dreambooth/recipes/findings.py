"""From what an evaluation found to what is written of it: the record of all numbers, and what the report shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreambooth import __version__
from dreambooth.config import yaml_text
from dreambooth.evaluation.intervals import CONFIDENCE, Score
from dreambooth.evaluation.metrics import Copying
from dreambooth.evaluation.report import Curve, Pictures, Report, ScoreRow
from dreambooth.recipes.evaluated import Evaluated
from dreambooth.recipes.scoring import MEASURES, Answers, Exam, Judges, Measured
from dreambooth.recipes.settings import EvaluateSettings
from dreambooth.sampling.images import to_image
from dreambooth.training.events import read_events
from dreambooth.training.run_folder import RunFolder
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["Evaluation", "Found", "alarm_text", "encoders_text", "report_of", "scores_record"]

_MOST_POINTS = 40
_CURVES = (
    ("The subject, over the steps", ("DINO", "CLIP-I"), "Higher looks more like the photos; step 0 is the base model."),
    ("The prompts, over the steps", ("CLIP-T",), "Falling says that the model shows its photos whatever it is asked for."),
    ("The class, over the steps", ("PRES", "drift"), "Rising says that the subject leaks into its class."),
)

_ABOUT_COPIES = "The share of pictures that repeat a photo; above one half is an alarm."


@dataclass(frozen=True)
class Found:
    """Everything that was measured, and the pictures that it was measured by."""

    last: Measured
    base: Measured | None
    photos: Mapping[str, Score]
    by_step: Mapping[int, Measured]
    """Over the steps of training, by fewer pictures; empty where there are no earlier models."""
    after: Answers
    before: Answers | None
    last_step: int
    """0 where the model does not say it."""


@dataclass(frozen=True)
class Evaluation:
    """What was asked, of what, by what, and what was found."""

    settings: EvaluateSettings
    asked: Evaluated
    exam: Exam
    model: ModelWeights
    base: ModelWeights | None
    found: Found


def scores_record(evaluation: Evaluation) -> dict[str, Any]:
    """Every number with what it was made of, as plain values for JSON."""
    found, asked, questions, judges = evaluation.found, evaluation.asked, evaluation.exam.questions, evaluation.exam.judges
    models = {"model": (asked.model, evaluation.model)}
    if evaluation.base is not None and asked.base is not None:
        models["base"] = (asked.base.model, evaluation.base)
    return {
        "scores": {
            "model": _score_records(found.last),
            "base": None if found.base is None else _score_records(found.base),
            "photos": [_score_record(score) for score in found.photos.values()],
        },
        "copying": _copying_record(found.last.copying, judges.distance_name),
        "by_step": {
            str(step): {
                "scores": _score_records(measured),
                "copying": _copying_record(measured.copying, judges.distance_name),
            }
            for step, measured in found.by_step.items()
        },
        "confidence": CONFIDENCE,
        "prompts": list(questions.prompts),
        "descriptions": list(questions.descriptions),
        "class_prompt": questions.class_prompt,
        "token": asked.subject.token,
        "class_word": asked.subject.class_word,
        "photos": [{"name": photo.path.name, "sha256": photo.digest} for photo in asked.photos],
        "models": {role: {"name": name, "digest": model.digest()} for role, (name, model) in models.items()},
        "step": found.last_step,
        "encoders": {
            "dino": {"name": judges.dino.name, "digest": judges.dino.digest},
            "clip": {"name": judges.clip.name, "digest": judges.clip.digest},
            "distance": {"name": judges.distance_name},
        },
        "settings": evaluation.settings.evaluation.model_dump(mode="json"),
        "side": evaluation.model.family.resolution,
        "versions": {"dreambooth": __version__, "torch": torch.__version__},
    }


def encoders_text(judges: Judges) -> dict[str, str]:
    """Which scores which encoder made."""
    return {
        "DINO, PRES and drift by": judges.dino.name,
        "CLIP-I and CLIP-T by": judges.clip.name,
        "DIV and copies by": judges.distance_name,
    }


def alarm_text(evaluation: Evaluation) -> str:
    """What was found of copies, in words."""
    found = evaluation.found.last.copying
    if found is None:
        return "Whether pictures are copies of photos was not looked at: a single photo has no spread to measure by."
    share = f"{found.share:.0%} of the pictures are nearer to a photo than half of what lies between the two most alike photos"
    if found.is_alarming:
        return (
            f"Alarm: {share}. The model repeats its photos instead of showing the subject anew: take an earlier model of the "
            "run, train for fewer steps, or give more photos that differ more."
        )
    whose = (
        ""
        if evaluation.asked.has_own_photos
        else " Of photos that it learned from and that are not among these nothing is known."
    )
    return f"No alarm about copies: {share}.{whose}"


def report_of(evaluation: Evaluation) -> Report:
    """What the page shows."""
    found, asked = evaluation.found, evaluation.asked
    base = {} if found.base is None else found.base.scores
    subject = f"{asked.subject.token} {asked.subject.class_word}".strip()
    return Report(
        title=f'What was learned of "{subject}"',
        summary=_summary(evaluation),
        scores=[
            ScoreRow(
                one.name,
                one.meaning,
                one.is_higher_better,
                model=found.last.scores.get(one.name),
                base=base.get(one.name),
                photos=found.photos.get(one.name),
            )
            for one in MEASURES
        ],
        alarm=alarm_text(evaluation),
        is_alarming=found.last.copying is not None and found.last.copying.is_alarming,
        pictures=_pictures(evaluation),
        curves=[*_curves(found), *_losses(asked)],
        exposures=asked.exposures(found.last_step, evaluation.model.family.resolution),
        facts=_facts(evaluation),
        settings="" if asked.run is None else yaml_text(asked.run.model_dump(mode="json")),
    )


def _summary(evaluation: Evaluation) -> str:
    asked, found = evaluation.asked, evaluation.found
    step = f", step {found.last_step}" if found.last_step else ""
    beside = "" if asked.base is None else f", beside {asked.base.model}, from the same noise"
    return f"{asked.model}{step}, measured by {len(asked.photos)} photos{beside}."


def _pictures(evaluation: Evaluation) -> list[Pictures]:
    found, questions = evaluation.found, evaluation.exam.questions
    shown = [Pictures("The photos", "What the subject looks like.", [("", _images(evaluation.exam.photos))])]
    prompts = [(prompt, _images(row)) for prompt, row in zip(questions.prompts, found.after.subject_PSCHW, strict=True)]
    shown.append(Pictures("The subject", "What the model makes of each prompt; columns start from the same noise.", prompts))
    if questions.class_prompt is not None:
        title, after = f'"{questions.class_prompt}"', _images(found.after.class_NCHW)
        if found.before is not None:
            before = _images(found.before.class_NCHW)
            shown.append(Pictures(f"{title}, before", "What the base model makes of the class.", [("", before)]))
        shown.append(
            Pictures(f"{title}, after", "The same noise after training: the class should not have moved.", [("", after)])
        )
    return shown


def _images(pictures: Iterable[Tensor]) -> list[NDArray[np.uint8]]:
    return [to_image(pixels_CHW) for pixels_CHW in pictures]


def _curves(found: Found) -> list[Curve]:
    curves = []
    for title, names, sentence in _CURVES if found.by_step else ():
        lines = {
            name: {step: one.scores[name].value for step, one in found.by_step.items() if name in one.scores} for name in names
        }
        curves.append(Curve(title, sentence, {name: values for name, values in lines.items() if values}))
    copies = {step: one.copying.share for step, one in found.by_step.items() if one.copying is not None}
    return [*curves, Curve("Copies, over the steps", _ABOUT_COPIES, {"share": copies})] if copies else curves


def _losses(asked: Evaluated) -> list[Curve]:
    """Losses of the run, those of training as means of neighbours: single steps are mostly chance."""
    if asked.run is None:
        return []
    events = read_events(RunFolder(Path(asked.model).expanduser()).events)
    names = {"photos": "instance_loss", "class images": "prior_loss"}

    def lines(kind: str) -> dict[str, dict[int, float]]:
        mine = [event for event in events if event["event"] == kind]
        found = {title: {event["step"]: event[name] for event in mine if name in event} for title, name in names.items()}
        return {title: _thinned(values) for title, values in found.items() if values}

    validation, training = lines("validation"), lines("step")
    return [
        Curve(
            "Loss on fixed noise and held-out views", "A rise for the photos says that they are learned by heart.", validation
        ),
        Curve("Loss in training", "Means over neighbouring steps.", training),
    ]


def _thinned(values: Mapping[int, float]) -> dict[int, float]:
    steps = sorted(values)
    width = max(1, math.ceil(len(steps) / _MOST_POINTS))
    groups = [steps[start : start + width] for start in range(0, len(steps), width)]
    return {group[-1]: sum(values[step] for step in group) / len(group) for group in groups}


def _facts(evaluation: Evaluation) -> dict[str, str]:
    wanted, questions = evaluation.settings.evaluation, evaluation.exam.questions
    return {
        **encoders_text(evaluation.exam.judges),
        "prompts": f"{len(questions.prompts)}, {questions.num_images} pictures each; CLIP-T leaves the token out",
        "pictures of the class": str(0 if questions.class_prompt is None else questions.num_class_images),
        "pictures by": f"{wanted.sampler}, {wanted.sampling_steps} steps, guidance {wanted.guidance_scale:g}",
        "seed": str(wanted.seed),
        "size of the pictures": f"{evaluation.model.family.resolution} pixels",
        "model's digest": evaluation.model.digest()[:16],
        "dreambooth": __version__,
    }


def _score_records(measured: Measured) -> list[dict[str, Any]]:
    return [_score_record(score) for score in measured.scores.values()]


def _score_record(score: Score) -> dict[str, Any]:
    return {"name": score.name, "value": score.value, "low": score.low, "high": score.high, "encoder": score.encoder}


def _copying_record(found: Copying | None, distance: str) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"share": found.share, "spread": found.spread, "is_alarming": found.is_alarming, "distance": distance}
