"""One subject of a benchmark: train on it, generate every prompt, score the images. Finished work is reused."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dreambooth.display import Display
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import Interrupted
from dreambooth.evaluation.choose_encoders import choose_encoders
from dreambooth.evaluation.dataset import BenchmarkSubject
from dreambooth.evaluation.evaluator import Encoders, Evaluator, Measured, PromptSet, Samples
from dreambooth.evaluation.prompt_sets import class_prompt_of, prompt_set_of
from dreambooth.evaluation.prompts import subject_prompt
from dreambooth.evaluation.remembered_run import remembered_run
from dreambooth.evaluation.target import EvaluationTarget
from dreambooth.files import write_json
from dreambooth.measures.intervals import Score
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.pictures.sample_cache import SampleCache, sample_settings
from dreambooth.reading import read_json
from dreambooth.recipes.train import resume, train
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.remembered import read_remembered
from dreambooth.runs.status import read_status
from dreambooth.runtime.device import choose_device
from dreambooth.sampling.records import Picture
from dreambooth.schema.verbs import TrainSettings
from dreambooth.training.checkpoints import find_checkpoints
from dreambooth.weights.bundled import draws_toybox
from dreambooth.weights.read import model_name, read_base, read_model

__all__ = ["SubjectJob", "benchmark_subject", "photos_that_changed", "read_scores", "remove_checkpoints"]

_PARTS = {"subject", "class_word", "is_live", "scores", "photos", "copying", "encoders", "model"}


@dataclass(frozen=True)
class SubjectJob:
    """Everything a worker needs, on any machine."""

    subject: BenchmarkSubject
    folder: Path
    """Folder for everything of this subject."""
    shared: Path
    """Folder shared by subjects of one class: the base model's images of the class."""
    training: TrainSettings
    evaluation: EvaluationSettings
    photos: Mapping[str, str]
    """Name to SHA-256 of the photos; empty if they are rendered, since those cannot change."""

    @property
    def run(self) -> RunFolder:
        """The folder of the training run."""
        return RunFolder(self.training.output.output)

    @property
    def scores_file(self) -> Path:
        """Written last: if it exists, everything else does."""
        return self.folder / "scores.json"

    @property
    def photos_file(self) -> Path:
        """`photos` as they were when the subject was started."""
        return self.folder / "photos.json"


def benchmark_subject(job: SubjectJob) -> None:
    """Do the remaining work of a subject, up to its `scores_file`.

    Raises the DreamboothError of the step that failed, Interrupted when the user stopped it.
    """
    if read_scores(job) is None:
        display = ConsoleDisplay()
        display.say(f"{job.subject.name}, a {job.subject.class_word}:")
        _learn(job, display)
        write_json(job.scores_file, _scores(job, display))
    remove_checkpoints(job)


def remove_checkpoints(job: SubjectJob) -> None:
    """Remove what a measured subject no longer needs, which is larger than everything else."""
    shutil.rmtree(job.run.checkpoints, ignore_errors=True)


def read_scores(job: SubjectJob) -> Mapping[str, Any] | None:
    """The scores of a subject; None if it is not finished or the file is damaged, so that it is measured again."""
    if not job.scores_file.is_file():
        return None
    try:
        found = read_json(job.scores_file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() >= _PARTS else None


def photos_that_changed(job: SubjectJob, *, hint: str) -> list[str]:
    """The differences between a subject's photos and those it was started with; empty if it was not started.

    Raises RunError with `hint` when the record of those photos cannot be read.
    """
    if not job.photos or not (job.run.path.exists() or job.scores_file.exists()):
        return []
    now, before = job.photos, read_remembered(job.photos_file, hint=hint) or job.photos
    since = f"since {job.subject.name} was started"
    return [
        f"{job.subject.photos / name}: {'removed' if name not in now else 'added' if name not in before else 'changed'} {since}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _learn(job: SubjectJob, display: Display) -> None:
    """Train, or resume a stopped run, or do nothing if it is finished or has a model and nothing to resume from."""
    if job.run.final_model.exists() and (_says_finished(job.run) or not find_checkpoints(job.run)):
        return
    trained = resume(job.run.path, {}, display) if job.run.config.exists() else train(job.training, display)
    if trained.was_asked_to_stop:
        raise Interrupted("Stopped after training.", exit_code=130)


def _says_finished(run: RunFolder) -> bool:
    """A run that was killed after its model was written still has to say in its records that it is finished."""
    status = read_status(run)
    return status is None or status.state == "finished"


def _scores(job: SubjectJob, display: Display) -> dict[str, Any]:
    training, device = job.training, choose_device(job.training.loop.device)
    model, base = read_model(model_name(job.run.path)), read_base(training.base)
    side = model.family.resolution
    evaluation_target = _evaluation_target(job)
    prompts = [subject_prompt(template, training.subject) for template in job.subject.prompts]
    encoders = choose_encoders(
        job.evaluation, side=side, is_toybox=draws_toybox(model), device=device, cache=job.folder / "features"
    )
    evaluator = Evaluator(
        prompt_set_of(prompts, job.evaluation, class_prompt=evaluation_target.class_prompt),
        evaluation_target.photo_pixels(side),
        replace(encoders, say=display.say),
        job.evaluation.seed,
    )
    sample = sample_settings(job.evaluation, device=training.loop.device)
    after = SampleCache(job.folder / "pictures", model, model_name(job.run.path), sample, device)
    before = SampleCache(job.shared, base.made_for(side), training.base.model, sample, device)
    samples = evaluator.samples(lambda pictures: after.make(pictures, display))
    measured = evaluator.score(samples, before=_class_before(evaluator.prompt_set, before, display))
    return _record(job, evaluator.encoders, measured, evaluator.photo_scores().values(), digest=model.digest())


def _evaluation_target(job: SubjectJob) -> EvaluationTarget:
    training = job.training
    return EvaluationTarget(
        model=str(job.run.path),
        base=training.base,
        subject=training.subject,
        class_prompt=class_prompt_of(training.subject, training.prior),
        background=training.views.background,
        output=job.folder,
        run=remembered_run(training),
        has_own_photos=True,
    )


def _class_before(prompt_set: PromptSet, base: SampleCache, display: Display) -> Samples:
    """The base model's class images; of its samples only these are needed."""
    assert prompt_set.class_prompt is not None, "every subject of a dataset has a class"
    pictures = [Picture(prompt_set.class_prompt, index) for index in range(prompt_set.num_class_images)]
    return Samples(subject_PSCHW=torch.empty(0), class_NCHW=torch.stack(base.make(pictures, display)))


def _record(job: SubjectJob, encoders: Encoders, measured: Measured, photos: Iterable[Score], *, digest: str) -> dict[str, Any]:
    return {
        "subject": job.subject.name,
        "class_word": job.subject.class_word,
        "is_live": job.subject.is_live,
        "scores": {name: asdict(one) for name, one in measured.scores.items()},
        "photos": {one.name: asdict(one) for one in photos},
        "copying": None if measured.copying is None else measured.copying.share,
        "encoders": {
            "dino": {"name": encoders.dino.name, "digest": encoders.dino.digest},
            "clip": {"name": encoders.clip.name, "digest": encoders.clip.digest},
            "distance": {"name": encoders.distance_name},
        },
        "model": digest,
    }
