"""What is evaluated: models, photos and words, as recorded in a run or given explicitly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from dreambooth.data.captions import named_subjects
from dreambooth.data.drawing import PerRole, drawing, repeats_of
from dreambooth.data.photos import PhotoReport, scan_photos
from dreambooth.data.pictures import find_pictures, shares_of
from dreambooth.data.problems import PhotoProblem
from dreambooth.data.records import Photo
from dreambooth.data.settings import PriorSettings, SubjectSettings, ViewSettings
from dreambooth.errors import SettingsError
from dreambooth.evaluation.evaluator import PromptSet
from dreambooth.evaluation.photo_squares import photo_squares
from dreambooth.evaluation.prompt_sets import class_prompt_of, subject_prompt_set
from dreambooth.evaluation.remembered_run import RememberedRun, read_remembered_run
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.subjects import chosen_subjects, name_of
from dreambooth.files import expanded
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.weights.settings import BaseModelSettings

__all__ = ["EvaluationTarget", "evaluation_targets"]


@dataclass(frozen=True)
class EvaluationTarget:
    """One subject's evaluation of a model, before anything is built."""

    model: str
    base: BaseModelSettings | None
    """The model to compare with; None if unknown."""
    subject: SubjectSettings
    class_prompt: str | None
    """None if the subject's class has no name."""
    background: str
    output: Path
    run: RememberedRun | None
    """The recorded settings of the model's run; None for a model without a run folder."""
    has_own_photos: bool
    """Whether the photos are those the run was trained on."""
    among: tuple[Photo, ...] | None = None
    """All photos of a run with several subjects, some of which show this one; None if a folder shows only this one."""
    among_warnings: tuple[PhotoProblem, ...] = ()
    """Problems of these photos."""
    is_earlier: bool = False
    """Whether an earlier run taught it, which `run` is then; the model's own run was meant to keep it."""

    @property
    def name(self) -> str:
        """The subject as a prompt names it."""
        return name_of(self.subject)

    def prompt_set(self, evaluation: EvaluationSettings, *, is_toybox: bool) -> PromptSet:
        """The prompts, those of the small rendered world when `is_toybox`.

        Raises SettingsError with all that is wrong in their file.
        """
        return subject_prompt_set(self.subject, evaluation, class_prompt=self.class_prompt, is_toybox=is_toybox)

    @cached_property
    def photos(self) -> tuple[Photo, ...]:
        """The photos of this subject. Raises PhotoError with everything that is wrong with them."""
        if self.among is not None:
            return tuple(photo for photo in self.among if self._is_shown_by(photo))
        return self._scanned.photos

    @property
    def photo_warnings(self) -> tuple[PhotoProblem, ...]:
        """Problems of the photos that do not prevent an evaluation, such as duplicates."""
        return self._scanned.warnings if self.among is None else self.among_warnings

    @cached_property
    def _scanned(self) -> PhotoReport:
        report = scan_photos(self.subject.photos, role="instance", resolution=1)
        report.raise_if_errors()
        return report

    def _is_shown_by(self, photo: Photo) -> bool:
        assert self.run is not None, "only a run has several subjects"
        return self.name in map(name_of, named_subjects((photo,), self.run.subject))

    def photo_pixels(self, side: int) -> list[Tensor]:
        """The largest central square of each photo, (3, side, side) in [0, 1]."""
        return photo_squares(self.photos, background=self.background, side=side)

    def exposures(self, steps: int, resolution: int) -> list[tuple[str, int]]:
        """Each photo's name and how often the run showed it within `steps`; empty if these are not the run's photos."""
        if self.run is None or not self.has_own_photos or self.is_earlier:
            return []
        prior, loop = self.run.prior, self.run.loop
        repeats = repeats_of(prior)
        given = (
            0 if repeats is None else len(find_pictures(self.run.subject, self.run.prior, resolution=resolution).given_priors)
        )
        seen = self.photos if self.among is None else self.among
        shares = shares_of(seen, self.run.subject)
        order = drawing(PerRole(len(seen), prior.num_made + given), repeats, seed=loop.seed, shares=shares)
        counts = order.exposures("instance", steps * loop.examples_per_step)
        own = {photo.path for photo in self.photos}
        return [(photo.path.name, count) for photo, count in zip(seen, counts, strict=True) if photo.path in own]


def _without_loras(request: EvaluationRequest) -> BaseModelSettings | None:
    """What a model with LoRA files is compared with: itself."""
    return BaseModelSettings(model=request.model) if request.loras else None


def evaluation_targets(request: EvaluationRequest) -> tuple[EvaluationTarget, ...]:
    """The target of every evaluated subject; given values override those recorded in the run.

    Without given values, subjects follow that the run kept from an earlier one, as long as their photos are where they were.

    Raises SettingsError with everything that is missing, and PhotoError for broken photos of several subjects.
    """
    folder = expanded(Path(request.model))
    run = read_remembered_run(folder)
    chosen = chosen_subjects(request, run)
    if request.evaluation.is_changed("num_class_images") and not any(one.has_class for one in chosen.subjects):
        raise SettingsError("class_word is empty, so num_class_images would have no effect; remove it")
    base = None if request.base is None else BaseModelSettings(model=request.base)
    prior, views = (PriorSettings(), ViewSettings()) if run is None else (run.prior, run.views)
    targets = tuple(
        EvaluationTarget(
            model=request.model,
            base=base or (_without_loras(request) if run is None else run.base),
            subject=subject,
            class_prompt=class_prompt_of(subject, prior),
            background=views.background,
            output=request.output or (folder.parent if run is None else folder) / "evaluation",
            run=run,
            has_own_photos=run is not None and request.photos is None,
            among=chosen.among,
            among_warnings=chosen.warnings,
        )
        for subject in chosen.subjects
    )
    if run is None or (request.photos, request.class_word, request.token) != (None, None, None):
        return targets
    return (*targets, *_earlier_targets(targets, run, request))


def _earlier_targets(
    own: Sequence[EvaluationTarget], run: RememberedRun, request: EvaluationRequest
) -> Iterator[EvaluationTarget]:
    folder = expanded(Path(run.base.model))
    before = read_remembered_run(folder)
    if before is None or not run.prior.keeps_earlier or not before.subject.photos.is_dir():
        return
    names = {one.name for one in own}
    for one in evaluation_targets(EvaluationRequest(model=str(folder), evaluation=request.evaluation)):
        if one.name not in names:
            yield replace(one, model=own[0].model, base=own[0].base, output=own[0].output, is_earlier=True)
