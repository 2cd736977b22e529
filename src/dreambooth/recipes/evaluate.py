"""`dreambooth evaluate`: how well a model learned its subjects and preserved their classes, as scores and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dreambooth.data.pictures import check_apart
from dreambooth.data.problems import PROBLEM_COLUMNS, problem_rows
from dreambooth.display import Display, counted, quoted
from dreambooth.errors import SettingsError
from dreambooth.evaluation.choose_encoders import choose_encoders
from dreambooth.evaluation.evaluator import MEASURES, Evaluator, PromptSet, Samples, confusion
from dreambooth.evaluation.models import ModelSamples, read_models, samples_of_models
from dreambooth.evaluation.origins import held_against_origins
from dreambooth.evaluation.prompt_sets import with_guidance_scale
from dreambooth.evaluation.report import STRENGTH_COLUMNS, report_html, score_text
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.results import ModelScores, Results, SubjectResults, alarm_text, encoders_text
from dreambooth.evaluation.results_page import report_of
from dreambooth.evaluation.scores_record import scores_record
from dreambooth.evaluation.step_balance import balances_by_step, best_step_text
from dreambooth.evaluation.strengths import (
    balances_by_strength,
    best_strength_text,
    check_strengths,
    strength_rows,
)
from dreambooth.evaluation.target import EvaluationTarget, evaluation_targets
from dreambooth.files import write_json, write_text
from dreambooth.measures.intervals import Score
from dreambooth.pictures.sample_cache import SampleCache, sample_settings
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.sampling.names import folder_problems
from dreambooth.schema.verbs import EvaluateSettings
from dreambooth.weights.lora_apply import applied_loras

__all__ = ["EvaluateResult", "evaluate", "stopped_text"]


@dataclass(frozen=True)
class EvaluateResult:
    """The scores of an evaluation, and the files it wrote."""

    scores: Mapping[str, Mapping[str, Score]]
    """The model's scores, by subject name and score name."""
    copying: tuple[str, ...]
    """The subjects with a copy warning: most of their images reproduce the photos."""
    scores_file: Path
    report: Path


def evaluate(settings: EvaluateSettings, display: Display) -> EvaluateResult:
    """Generate the same images with a model, its base and the run's other models, score them, and write a report.

    A run trained on several subjects is evaluated on all of them. Raises a DreamboothError with every problem before any
    image is generated.
    """
    request, evaluation = _request_of(settings), settings.evaluation
    asked = evaluation_targets(request)
    output, device = asked[0].output, choose_device(settings.device)
    for one in asked:
        check_apart(output, one.subject.photos)
    with Interrupts(lambda: stopped_text(output)):
        models = read_models(request, asked[0])
        asked, warnings = held_against_origins(asked, models, request)
        check_strengths(evaluation, models)
        _show_warnings(asked, warnings, display)
        for line in applied_loras(models.measured):
            display.say(line)
        evaluation = with_guidance_scale(evaluation, is_toybox=models.is_toybox)
        prompt_sets = [one.prompt_set(evaluation, is_toybox=models.is_toybox) for one in asked]
        photos = [one.photo_pixels(models.side) for one in asked]
        if problems := folder_problems(output, name="output"):
            raise SettingsError(problems, hint="Choose another --output.")
        encoders = choose_encoders(
            evaluation, side=models.side, is_toybox=models.is_toybox, device=device, cache=output / "features"
        )
        evaluators = [
            Evaluator(*one, replace(encoders, say=display.say), evaluation.seed)
            for one in zip(prompt_sets, photos, strict=True)
        ]
        sample = sample_settings(evaluation, device=settings.device)
        model_samples, num_other_images = samples_of_models(models, asked[0], sample, device), evaluation.num_checkpoint_images
        _announce_cost(model_samples, prompt_sets, num_other_images, display)
        _make_pictures(model_samples, prompt_sets, num_other_images, display)
        found = [_measure(evaluator, model_samples, num_other_images, display) for evaluator in evaluators]
        by_strength = balances_by_strength(
            models, evaluators, found, evaluation, sample=sample, folder=output / "pictures", device=device, display=display
        )
        found = [replace(one, by_strength=balances) for one, balances in zip(found, by_strength, strict=True)]
        shares_KK = confusion(evaluators, [one.after for one in found]) if len(evaluators) > 1 else None
    evaluations = tuple(
        SubjectResults(evaluation, one, evaluator, models.measured, models.base, its)
        for one, evaluator, its in zip(asked, evaluators, found, strict=True)
    )
    return _tell(Results(evaluations, shares_KK), display)


def _request_of(settings: EvaluateSettings) -> EvaluationRequest:
    return EvaluationRequest(
        model=settings.model,
        photos=settings.photos,
        class_word=settings.class_word,
        token=settings.token,
        base=settings.base,
        loras=settings.loras.lora,
        output=settings.output,
        evaluation=settings.evaluation,
    )


def stopped_text(output: Path) -> str:
    """The message after an interrupt: what the folder `output` holds, and what running the same command does."""
    if any((output / "pictures").glob("*/*.png")):
        return f"Stopped. The images generated so far are in {output}; run the same command to resume."
    return "Stopped before the first image was generated; run the same command to start again."


def _show_warnings(asked: Sequence[EvaluationTarget], warnings: Sequence[str], display: Display) -> None:
    """Problems that do not prevent the evaluation but matter for reading its scores."""
    if problems := tuple(dict.fromkeys(problem for one in asked for problem in one.photo_warnings)):
        display.table("Images", PROBLEM_COLUMNS, problem_rows(problems))
    for warning in warnings:
        display.warn(warning)


def _announce_cost(
    model_samples: ModelSamples, prompt_sets: Sequence[PromptSet], num_other_images: int, display: Display
) -> None:
    wanted = model_samples.wanted(prompt_sets, num_other_images=num_other_images)
    total = sum(len(pictures) for _, pictures in wanted)
    missing = sum(len(sample_cache.missing(pictures)) for sample_cache, pictures in wanted)
    first, num_others = prompt_sets[0], len(model_samples.others)
    of_class = max(0 if one.class_prompt is None else one.num_class_images for one in prompt_sets)
    display.say(
        ("" if len(prompt_sets) == 1 else f"For each of {len(prompt_sets)} subjects ")
        + f"{counted(len(first.prompts), 'prompt')} x {counted(first.num_images, 'image')} and {of_class} of the class, "
        f"with the model{'' if model_samples.base is None else ' and its base model'}"
        + (f", fewer with {counted(num_others, 'other model')} of the run" if num_others else "")
        + f": {counted(total, 'image')}, {missing} still to generate"
    )


def _make_pictures(
    model_samples: ModelSamples, prompt_sets: Sequence[PromptSet], num_other_images: int, display: Display
) -> None:
    """Generate everything that is missing, model by model: building one is slow, so it generates for all subjects."""
    for sample_cache, pictures in model_samples.wanted(prompt_sets, num_other_images=num_other_images):
        sample_cache.fill(pictures, display)


def _measure(evaluator: Evaluator, model_samples: ModelSamples, num_other_images: int, display: Display) -> ModelScores:
    """Scores of the model, its base and the photos, and scores by training step from fewer images of each model."""

    def made(sample_cache: SampleCache, asked: Evaluator) -> Samples:
        return asked.samples(partial(sample_cache.make, display=display))

    before = None if model_samples.base is None else made(model_samples.base, evaluator)
    after = made(model_samples.measured, evaluator)
    base = None if before is None else evaluator.score(before, before=None)
    model = evaluator.score(after, before=before)
    by_step, balances = {}, {}
    if model_samples.others:
        few = evaluator.fewer(num_other_images)
        few_before = None if before is None else before.fewer(few.prompt_set)
        states = {} if few_before is None else {0: few_before}
        states |= {step: made(sample_cache, few) for step, sample_cache in model_samples.others.items()}
        states[model_samples.step] = after.fewer(few.prompt_set)
        by_step = {step: few.score(states[step], before=few_before) for step in sorted(states)}
        balances = balances_by_step(few, by_step, few_before)
    photos, step = evaluator.photo_scores(), model_samples.step
    return ModelScores(model, base, photos, by_step, after, before, step, balances=balances)


def _tell(results: Results, display: Display) -> EvaluateResult:
    """Write the files and show the tables."""
    folder, encoders = results.subjects[0].asked.output, results.subjects[0].evaluator.encoders
    scores_file, report = folder / "scores.json", folder / "report.html"
    write_json(scores_file, scores_record(results))
    write_text(report, report_html(report_of(results)))
    for result in results.subjects:
        _show_scores(result, display, is_one=len(results.subjects) == 1)
    display.say("; ".join(f"{what} {encoder}" for what, encoder in encoders_text(encoders).items()))
    _show_confusion(results, encoders.dino.name, display)
    display.say(f"Wrote {scores_file}\nReport (open in a browser): {report}")
    return EvaluateResult(
        {one.asked.name: one.found.model.scores for one in results.subjects},
        tuple(one.asked.name for one in results.subjects if one.found.model.is_copying),
        scores_file,
        report,
    )


def _show_scores(result: SubjectResults, display: Display, *, is_one: bool) -> None:
    found, name = result.found, result.asked.name
    scores, base = found.model.scores, {} if found.base is None else found.base.scores
    display.table(
        "Scores" if is_one else f"Scores of {name}",
        ("score", "model", "base model", "photos", "better"),
        [
            (
                measure.name,
                *(score_text(of_whom.get(measure.name)) for of_whom in (scores, base, found.photos)),
                "higher" if measure.is_higher_better else "lower",
            )
            for measure in MEASURES
            if measure.name in scores
        ],
    )
    if found.by_strength:
        display.table("By strength" if is_one else f"{name} by strength", STRENGTH_COLUMNS, strength_rows(found.by_strength))
        display.say(best_strength_text(found.by_strength, quoted(result.asked.model)))
    if text := best_step_text(found.balances):
        display.say(text if is_one else f"{name}: {text}")
    tell = display.warn if found.model.is_copying else display.say
    tell(alarm_text(result) if is_one else f"{name}: {alarm_text(result)}")


def _show_confusion(results: Results, encoder: str, display: Display) -> None:
    """Nothing for a single subject."""
    if results.confusion_KK is None:
        return
    names = results.names
    display.say(f"Which subject's photos the images of each subject resemble most, according to {encoder}:")
    display.table(
        "Confusion between subjects",
        ("images of", *(f"like {name}" for name in names)),
        [
            (name, *(f"{share:.0%}" for share in shares))
            for name, shares in zip(names, results.confusion_KK.tolist(), strict=True)
        ],
    )
