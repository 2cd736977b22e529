"""`dreambooth evaluate`: what a model learned of its subjects, and what became of their classes, in numbers and in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth.data.pictures import check_apart
from dreambooth.data.problems import PROBLEM_COLUMNS, problem_rows
from dreambooth.display import Display, counted
from dreambooth.errors import SettingsError
from dreambooth.evaluation.choose_encoders import choose_judges
from dreambooth.evaluation.evaluation import MEASURES, Answers, Exam, Questions, confusion
from dreambooth.evaluation.models import ModelAlbums, albums_of, read_models
from dreambooth.evaluation.origins import held_against_origins
from dreambooth.evaluation.report import report_html, score_text
from dreambooth.evaluation.results import Evaluation, Findings, Found, alarm_text, encoders_text, scores_record
from dreambooth.evaluation.results_page import report_of
from dreambooth.evaluation.target import Evaluated, all_evaluated, with_guidance_scale
from dreambooth.files import write_json, write_text
from dreambooth.measures.intervals import Score
from dreambooth.pictures.sample_cache import Album
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.sampling.names import folder_problems
from dreambooth.schema.verbs import EvaluateSettings

__all__ = ["EvaluateResult", "evaluate", "stopped_text"]


@dataclass(frozen=True)
class EvaluateResult:
    """What was found, and where it is written."""

    scores: Mapping[str, Mapping[str, Score]]
    """Of the model, by the name of the subject and that of the score."""
    copying: tuple[str, ...]
    """The subjects whose pictures repeat their photos."""
    scores_file: Path
    report: Path


def evaluate(settings: EvaluateSettings, display: Display) -> EvaluateResult:
    """Make the same pictures with a model, its base and the run's other models, score them, and write a report.

    A run that learned several subjects is asked for all of them. Raises a DreamboothError with what is missing or wrong
    before any picture is made.
    """
    asked = all_evaluated(settings)
    output, device = asked[0].output, choose_device(settings.device)
    for one in asked:
        check_apart(output, one.subject.photos)
    with Interrupts(lambda: stopped_text(output)):
        models = read_models(settings, asked[0])
        asked, warnings = held_against_origins(asked, models, settings)
        _show_what_is_doubtful(asked, warnings, display)
        settings = settings.model_copy(update={"evaluation": with_guidance_scale(settings.evaluation, models.side)})
        questions = [one.questions(settings, models.side) for one in asked]
        photos = [one.photo_pixels(models.side) for one in asked]
        if problems := folder_problems(output, name="output"):
            raise SettingsError(problems, hint="Choose another --output.")
        judges = choose_judges(settings.evaluation, side=models.side, device=device, cache=output / "features")
        exams = [Exam(*one, judges, settings.evaluation.seed) for one in zip(questions, photos, strict=True)]
        albums, num_other_images = albums_of(models, asked[0], settings, device), settings.evaluation.num_checkpoint_images
        _say_what_it_costs(albums, questions, num_other_images, display)
        _make_pictures(albums, questions, num_other_images, display)
        found = [_measure(exam, albums, num_other_images, display) for exam in exams]
        shares_KK = confusion(exams, [one.after for one in found]) if len(exams) > 1 else None
    evaluations = tuple(
        Evaluation(settings, one, exam, models.measured, models.base, its)
        for one, exam, its in zip(asked, exams, found, strict=True)
    )
    return _tell(Findings(evaluations, shares_KK), display)


def stopped_text(output: Path) -> str:
    """What is said when somebody stops the work: what there is in the folder `output`, and what the same command does."""
    if any((output / "pictures").glob("*/*.png")):
        return f"Stopped. The pictures made so far are in {output}; the same command goes on from there."
    return "Stopped before the first picture was made; the same command starts again."


def _show_what_is_doubtful(asked: Sequence[Evaluated], warnings: Sequence[str], display: Display) -> None:
    """Nothing that keeps the work from starting, but whoever reads the scores must know it."""
    if problems := tuple(dict.fromkeys(problem for one in asked for problem in one.photo_warnings)):
        display.table("Pictures", PROBLEM_COLUMNS, problem_rows(problems))
    for warning in warnings:
        display.warn(warning)


def _say_what_it_costs(albums: ModelAlbums, questions: Sequence[Questions], num_other_images: int, display: Display) -> None:
    wanted = albums.wanted(questions, num_other_images=num_other_images)
    total = sum(len(pictures) for _, pictures in wanted)
    missing = sum(len(album.missing(pictures)) for album, pictures in wanted)
    first, num_others = questions[0], len(albums.others)
    of_class = max(0 if one.class_prompt is None else one.num_class_images for one in questions)
    display.say(
        ("" if len(questions) == 1 else f"For each of {len(questions)} subjects ")
        + f"{counted(len(first.prompts), 'prompt')} x {counted(first.num_images, 'picture')} and {of_class} of the class, "
        f"with the model{'' if albums.base is None else ' and its base'}"
        + (f", fewer with {counted(num_others, 'other model')} of the run" if num_others else "")
        + f": {counted(total, 'picture')}, of which {missing} {'is' if missing == 1 else 'are'} still to be made"
    )


def _make_pictures(albums: ModelAlbums, questions: Sequence[Questions], num_other_images: int, display: Display) -> None:
    """Everything that is missing, model by model: to build one takes long, and it shows all subjects then."""
    for album, pictures in albums.wanted(questions, num_other_images=num_other_images):
        if missing := album.missing(pictures):
            album.make(missing, display)


def _measure(exam: Exam, albums: ModelAlbums, num_other_images: int, display: Display) -> Found:
    """Scores of the model, its base and the photos, and of fewer pictures of all models over the steps of training."""

    def made(album: Album, asked: Exam) -> Answers:
        return asked.answers(lambda pictures: album.make(pictures, display))

    before = None if albums.base is None else made(albums.base, exam)
    after = made(albums.measured, exam)
    base = None if before is None else exam.score(before, before=None)
    model = exam.score(after, before=before)
    by_step = {}
    if albums.others:
        few = exam.fewer(num_other_images)
        few_before = None if before is None else before.fewer(few.questions)
        states = {} if few_before is None else {0: few_before}
        states |= {step: made(album, few) for step, album in albums.others.items()}
        states[albums.step] = after.fewer(few.questions)
        by_step = {step: few.score(states[step], before=few_before) for step in sorted(states)}
    return Found(model, base, exam.photo_scores(), by_step, after, before, albums.step)


def _tell(findings: Findings, display: Display) -> EvaluateResult:
    """Write the files and show the tables."""
    folder, judges = findings.subjects[0].asked.output, findings.subjects[0].exam.judges
    scores_file, report = folder / "scores.json", folder / "report.html"
    write_json(scores_file, scores_record(findings))
    write_text(report, report_html(report_of(findings)))
    for evaluation in findings.subjects:
        _show_scores(evaluation, display, is_one=len(findings.subjects) == 1)
    display.say("; ".join(f"{what} {encoder}" for what, encoder in encoders_text(judges).items()))
    _show_confusion(findings, judges.dino.name, display)
    display.say(f"Wrote {scores_file}\nThe report, for a browser: {report}")
    return EvaluateResult(
        {one.asked.name: one.found.model.scores for one in findings.subjects},
        tuple(one.asked.name for one in findings.subjects if one.found.model.is_copying),
        scores_file,
        report,
    )


def _show_scores(evaluation: Evaluation, display: Display, *, is_one: bool) -> None:
    found, name = evaluation.found, evaluation.asked.name
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
    tell = display.warn if found.model.is_copying else display.say
    tell(alarm_text(evaluation) if is_one else f"{name}: {alarm_text(evaluation)}")


def _show_confusion(findings: Findings, encoder: str, display: Display) -> None:
    """Nothing for one subject, which has no other to be taken for."""
    if findings.confusion_KK is None:
        return
    names = findings.names
    display.say(f"Whose photos the pictures of each subject look most like, by {encoder}:")
    display.table(
        "Told apart",
        ("pictures of", *(f"like {name}" for name in names)),
        [
            (name, *(f"{share:.0%}" for share in shares))
            for name, shares in zip(names, findings.confusion_KK.tolist(), strict=True)
        ],
    )
