"""`dreambooth evaluate`: what a model learned of its subject, and what became of the class, in numbers and in pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.evaluation.intervals import Score
from dreambooth.evaluation.report import report_html, score_text
from dreambooth.files import write_json, write_text
from dreambooth.recipes.album import Album
from dreambooth.recipes.display import Display
from dreambooth.recipes.evaluated import Evaluated, earlier_models, evaluated, usual_guidance_scale
from dreambooth.recipes.findings import Evaluation, Found, alarm_text, encoders_text, report_of, scores_record
from dreambooth.recipes.judges import choose_judges
from dreambooth.recipes.scoring import MEASURES, Answers, Exam, Questions
from dreambooth.recipes.settings import EvaluateSettings
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.sampling.names import folder_problems
from dreambooth.sampling.settings import SampleSettings
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.settings import BaseModelSettings

__all__ = ["EvaluateResult", "evaluate"]


@dataclass(frozen=True)
class EvaluateResult:
    """What was found, and where it is written."""

    scores: Mapping[str, Score]
    """Of the model, by name."""
    is_copying: bool
    scores_file: Path
    report: Path


@dataclass(frozen=True)
class _Models:
    """The models that make pictures; the tensors stay in their files until they do."""

    last: ModelWeights
    base: ModelWeights | None
    earlier: Mapping[int, ModelWeights]


def evaluate(settings: EvaluateSettings, display: Display) -> EvaluateResult:
    """Make the same pictures with a model, its base and its earlier states, score them, and write a report.

    Raises a DreamboothError with what is missing or wrong before any picture is made.
    """
    asked = evaluated(settings)
    device = choose_device(settings.device)
    with Interrupts(lambda: f"Stopped. The pictures made so far are in {asked.output}; the same command goes on from there."):
        models = _read_models(settings, asked)
        side = models.last.family.resolution
        settings = _filled_in(settings, side)
        questions, photos = asked.questions(settings, side), asked.photo_pixels(side)
        if problems := folder_problems(asked.output, name="output"):
            raise SettingsError(problems, hint="Choose another --output.")
        judges = choose_judges(settings.evaluation, side=side, device=device, cache=asked.output / "features")
        exam = Exam(questions, photos, judges, settings.evaluation.seed)
        albums = _albums(settings, asked, models, device)
        num_checkpoint_images = settings.evaluation.num_checkpoint_images
        _say_what_it_costs(albums, questions, num_checkpoint_images, display)
        found = _measure(exam, albums, num_checkpoint_images, display)
    return _tell(Evaluation(settings, asked, exam, models.last, models.base, found), display)


def _read_models(settings: EvaluateSettings, asked: Evaluated) -> _Models:
    last = read_model(asked.model)
    side = last.family.resolution
    base = None if asked.base is None else _read_base(asked.base, is_given=settings.base is not None)
    earlier: Mapping[int, ModelWeights] = {}
    if asked.run is not None and settings.evaluation.num_checkpoint_images > 0:
        earlier = earlier_models(Path(asked.model).expanduser(), before=_last_step(asked, last), side=side)
    return _Models(last, None if base is None else base.made_for(side), earlier)


def _read_base(base: BaseModelSettings, *, is_given: bool) -> ModelWeights:
    """The model to compare with. A run remembers where it found it, and it may have gone since."""
    try:
        return read_model(base.model, config=base.config, weights=base.weights)
    except ModelFileError as error:
        if is_given:
            raise
        hint = f"This is the base model that the run remembers; say where it is now with --base MODEL.\n{error.hint or ''}"
        raise ModelFileError(error.problems, hint=hint.strip()) from error


def _filled_in(settings: EvaluateSettings, side: int) -> EvaluateSettings:
    """With the choice written down that depends on the model."""
    asked = settings.evaluation
    if asked.guidance_scale is not None:
        return settings
    return settings.model_copy(update={"evaluation": asked.model_copy(update={"guidance_scale": usual_guidance_scale(side)})})


def _last_step(asked: Evaluated, last: ModelWeights) -> int:
    return last.num_steps or (0 if asked.run is None else asked.run.loop.steps)


@dataclass(frozen=True)
class _Albums:
    """The pictures of each model."""

    last: Album
    last_step: int
    base: Album | None
    earlier: Mapping[int, Album]


def _albums(settings: EvaluateSettings, asked: Evaluated, models: _Models, device: torch.device) -> _Albums:
    wanted, folder = settings.evaluation, asked.output / "pictures"
    assert wanted.guidance_scale is not None, "filled in"
    sample = SampleSettings(
        steps=wanted.sampling_steps,
        guidance_scale=wanted.guidance_scale,
        sampler=wanted.sampler,
        seed=wanted.seed,
        batch_size=wanted.batch_size,
        device=settings.device,
    )
    base = None
    if models.base is not None and asked.base is not None:
        base = Album(folder / "base", models.base, asked.base.model, sample, device)
    earlier = {
        step: Album(folder / f"step-{step:06d}", model, str(model.report.source), sample, device)
        for step, model in models.earlier.items()
    }
    last = Album(folder / "model", models.last, asked.model, sample, device)
    return _Albums(last, _last_step(asked, models.last), base, earlier)


def _say_what_it_costs(albums: _Albums, questions: Questions, num_checkpoint_images: int, display: Display) -> None:
    both = [album for album in (albums.last, albums.base) if album is not None]
    wanted = [(album, questions) for album in both]
    wanted += [(album, questions.fewer(num_checkpoint_images)) for album in albums.earlier.values()]
    total = sum(len(asked.pictures()) for _, asked in wanted)
    missing = sum(len(album.missing(asked.pictures())) for album, asked in wanted)
    num_earlier = len(albums.earlier)
    of_class = 0 if questions.class_prompt is None else questions.num_class_images
    display.say(
        f"{len(questions.prompts)} prompts x {questions.num_images} pictures and {of_class} of the class, "
        f"with the model{'' if albums.base is None else ' and its base'}"
        + (f", fewer with {num_earlier} earlier model{'s' if num_earlier > 1 else ''}" if num_earlier else "")
        + f": {total} pictures, of which {missing} are still to be made"
    )


def _measure(exam: Exam, albums: _Albums, num_checkpoint_images: int, display: Display) -> Found:
    """Scores of the model, its base and the photos, and of fewer pictures of all models over the steps of training."""

    def made(album: Album, asked: Exam) -> Answers:
        return asked.answers(lambda pictures: album.make(pictures, display))

    before = None if albums.base is None else made(albums.base, exam)
    after = made(albums.last, exam)
    base = None if before is None else exam.score(before, before=None)
    last = exam.score(after, before=before)
    by_step = {}
    if albums.earlier:
        few = exam.fewer(num_checkpoint_images)
        few_before = None if before is None else before.fewer(few.questions)
        states = {} if few_before is None else {0: few_before}
        states |= {step: made(album, few) for step, album in albums.earlier.items()}
        states[albums.last_step] = after.fewer(few.questions)
        by_step = {step: few.score(one, before=few_before) for step, one in states.items()}
    return Found(last, base, exam.photo_scores(), by_step, after, before, albums.last_step)


def _tell(evaluation: Evaluation, display: Display) -> EvaluateResult:
    """Write the files and show the table."""
    folder, found = evaluation.asked.output, evaluation.found
    scores_file, report = folder / "scores.json", folder / "report.html"
    write_json(scores_file, scores_record(evaluation))
    write_text(report, report_html(report_of(evaluation)))
    last, base = found.last.scores, {} if found.base is None else found.base.scores
    display.table(
        "Scores",
        ("score", "model", "base model", "photos", "better"),
        [
            (
                measure.name,
                *(score_text(scores.get(measure.name)) for scores in (last, base, found.photos)),
                "higher" if measure.is_higher_better else "lower",
            )
            for measure in MEASURES
            if measure.name in last
        ],
    )
    display.say("; ".join(f"{what} {encoder}" for what, encoder in encoders_text(evaluation.exam.judges).items()))
    is_copying = found.last.copying is not None and found.last.copying.is_alarming
    (display.warn if is_copying else display.say)(alarm_text(evaluation))
    display.say(f"Wrote {scores_file}\nThe report, for a browser: {report}")
    return EvaluateResult(last, is_copying, scores_file, report)
