"""Converts the results of an evaluation to its report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dreambooth import __version__
from dreambooth.display import counted, quoted
from dreambooth.evaluation.evaluator import MEASURES
from dreambooth.evaluation.report import Confusion, Curve, PictureRow, Pictures, Report, ScoreRow, SubjectPart
from dreambooth.evaluation.results import ModelScores, Results, SubjectResults, alarm_text, encoders_text
from dreambooth.evaluation.run_curves import run_curves
from dreambooth.evaluation.step_balance import best_step_text
from dreambooth.evaluation.strengths import best_strength_text, strength_rows
from dreambooth.evaluation.verdict import verdict
from dreambooth.files import expanded
from dreambooth.pages.images import to_image

__all__ = ["report_of"]

_CURVES = (
    ("Subject by step", ("DINO", "CLIP-I"), "Higher is closer to the photos; step 0 is the base model."),
    ("Prompts by step", ("CLIP-T",), "A falling curve means that the model shows its photos whatever the prompt says."),
    ("Class by step", ("PRES", "drift"), "A rising curve means that the subject leaks into its class."),
)
_ABOUT_COPIES = "The share of images that are nearly identical to a photo; the warning threshold is 50%."


def report_of(results: Results) -> Report:
    """The report of an evaluation."""
    first, names = results.subjects[0], results.names
    run, found = first.asked.run, first.found
    confusion = None
    if results.confusion_KK is not None:
        confusion = Confusion(names, results.confusion_KK.tolist(), first.evaluator.encoders.dino.name)
    return Report(
        title=f"Evaluation of {_listed(names)}",
        summary=_summary(results),
        confusion=confusion,
        subjects=[_part(one) for one in results.subjects],
        curves=[] if run is None else run_curves(expanded(Path(first.asked.model)), step=found.step),
        exposures=_exposures(results),
        facts=_facts(results),
        settings="" if run is None else run.text,
    )


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _summary(results: Results) -> str:
    asked, found = results.subjects[0].asked, results.subjects[0].found
    step = f", step {found.step}" if found.step else ""
    beside = "" if asked.base is None else f", compared with {asked.base.model} with the same seeds"
    *others, last = (len(one.asked.photos) for one in results.subjects)
    photos = _listed([*map(str, others), counted(last, "photo")])
    each = "" if not others else f"{len(results.subjects)} subjects, "
    return f"{asked.model}{step}, {each}measured against {photos}{beside}."


def _part(result: SubjectResults) -> SubjectPart:
    found = result.found
    base = {} if found.base is None else found.base.scores
    return SubjectPart(
        name=result.asked.name,
        verdict=[*verdict(found, is_earlier=result.asked.is_earlier), *filter(None, [best_step_text(found.balances)])],
        scores=[
            ScoreRow(
                name=one.name,
                meaning=one.meaning,
                is_higher_better=one.is_higher_better,
                model=found.model.scores.get(one.name),
                base=base.get(one.name),
                photos=found.photos.get(one.name),
            )
            for one in MEASURES
        ],
        alarm=alarm_text(result),
        is_alarming=found.model.is_copying,
        pictures=_pictures(result),
        curves=_curves(found),
        strengths=strength_rows(found.by_strength),
        about_strengths=best_strength_text(found.by_strength, quoted(result.asked.model)) if found.by_strength else "",
    )


def _pictures(result: SubjectResults) -> list[Pictures]:
    found, prompt_set = result.found, result.evaluator.prompt_set
    before = found.before
    shown = [Pictures("The photos", "What the subject looks like.", [PictureRow("", _images(result.evaluator.photos))])]
    rows = [
        PictureRow(prompt, _images(images), () if before is None else _images(before.subject_PSCHW[number]))
        for number, (prompt, images) in enumerate(zip(prompt_set.prompts, found.after.subject_PSCHW, strict=True))
    ]
    shown.append(Pictures("The subject", "Images of each prompt; images in the same place come from the same seed.", rows))
    if prompt_set.class_prompt is not None:
        base = () if before is None else _images(before.class_NCHW)
        about = "Images of the class from the same seeds; they should be the same with both models."
        row = PictureRow("", _images(found.after.class_NCHW), base)
        shown.append(Pictures(f'"{prompt_set.class_prompt}"', about if base else "Images of the class.", [row]))
    return shown


def _images(pictures: Iterable[Tensor]) -> list[NDArray[np.uint8]]:
    return [to_image(pixels_CHW) for pixels_CHW in pictures]


def _curves(found: ModelScores) -> list[Curve]:
    curves = []
    for title, names, sentence in _CURVES if found.by_step else ():
        lines = {
            name: {step: one.scores[name].value for step, one in found.by_step.items() if name in one.scores} for name in names
        }
        curves.append(Curve(title, sentence, {name: values for name, values in lines.items() if values}))
    copies = {step: one.copying.share for step, one in found.by_step.items() if one.copying is not None}
    return [*curves, Curve("Copies by step", _ABOUT_COPIES, {"share": copies})] if copies else curves


def _exposures(results: Results) -> list[tuple[str, int]]:
    """How often each photo was seen; files of several subjects are prefixed with the subject, since names may repeat."""
    side, is_one = results.subjects[0].model.family.resolution, len(results.subjects) == 1
    seen = [(one.asked.name, one.asked.exposures(one.found.step, side)) for one in results.subjects]
    return [(file if is_one else f"{name}: {file}", times) for name, photos in seen for file, times in photos]


def _facts(results: Results) -> dict[str, str]:
    first = results.subjects[0]
    wanted, prompt_set = first.evaluation, first.evaluator.prompt_set
    has_class = any(one.evaluator.prompt_set.class_prompt is not None for one in results.subjects)
    return {
        **encoders_text(first.evaluator.encoders),
        "prompts": f"{len(prompt_set.prompts)}, {counted(prompt_set.num_images, 'image')} each; CLIP-T omits the token",
        "class images": str(prompt_set.num_class_images if has_class else 0),
        "sampling": f"{wanted.sampler}, {wanted.sampling_steps} steps, guidance {wanted.guidance_scale:g}",
        "seed": str(wanted.seed),
        "image size": f"{first.model.family.resolution} pixels",
        "model digest": first.model.digest()[:16],
        "dreambooth": __version__,
    }
