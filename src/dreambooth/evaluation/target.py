"""What is evaluated: the models, the photos and the words, as a run remembers them or as they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from dreambooth.config import parse_settings, read_yaml
from dreambooth.data.captions import fill, named_subjects
from dreambooth.data.drawing import PerRole, drawing, repeats_of
from dreambooth.data.photos import PhotoReport, read_pixels, scan_photos
from dreambooth.data.pictures import find_pictures
from dreambooth.data.problems import PhotoProblem
from dreambooth.data.records import Photo
from dreambooth.data.settings import PriorSettings, SubjectSettings, ViewSettings
from dreambooth.data.views import View, render_view
from dreambooth.errors import SettingsError
from dreambooth.evaluation.evaluator import PromptSet
from dreambooth.evaluation.prompts import SubjectPrompt, read_subject_prompts, subject_prompt
from dreambooth.evaluation.subjects import chosen_subjects, name_of
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.runs.folder import RunFolder
from dreambooth.schema.verbs import EvaluateSettings, TrainSettings
from dreambooth.toybox.judge import SIDE
from dreambooth.toybox.world import PLACES
from dreambooth.weights.settings import BaseModelSettings

__all__ = [
    "EvaluationTarget",
    "evaluation_target",
    "evaluation_targets",
    "prompt_set_of",
    "usual_guidance_scale",
    "with_guidance_scale",
]

_PLACES = (
    *("on a sandy beach", "in fresh snow", "on a cobbled street", "in front of a mountain lake"),
    *("on a sunlit wooden floor", "on a striped blanket", "among autumn leaves", "in a city at night"),
)
_GUIDANCE_SCALE, _SMALL_GUIDANCE_SCALE = 7.5, 3.0


@dataclass(frozen=True)
class EvaluationTarget:
    """Everything that is asked about a model, before anything is built."""

    model: str
    base: BaseModelSettings | None
    """What it is compared with; None where nobody says."""
    subject: SubjectSettings
    class_prompt: str | None
    """None where the subject's class has no name."""
    background: str
    output: Path
    run: TrainSettings | None
    """The settings of the run that made the model; None for a model from elsewhere."""
    has_own_photos: bool
    """Whether the photos are those that the run learned from."""
    among: tuple[Photo, ...] | None = None
    """All photos of a run of several subjects, some of which show this one; None where a folder shows this one alone."""
    among_warnings: tuple[PhotoProblem, ...] = ()
    """What was found wrong with these."""

    @property
    def name(self) -> str:
        """The subject as a prompt names it."""
        return name_of(self.subject)

    def prompt_set(self, settings: EvaluateSettings, side: int) -> PromptSet:
        """The prompts: those of a file, or the subject in eight places. Raises SettingsError with all that is wrong there."""
        asked, subject = settings.evaluation, self.subject
        places = PLACES.values() if side == SIDE else _PLACES
        if asked.prompts is None:
            prompts = tuple(subject_prompt(f"photo of a {{token}} {{class_word}} {place}", subject) for place in places)
        else:
            prompts = read_subject_prompts(asked.prompts, subject)
        return prompt_set_of(prompts, asked, class_prompt=self.class_prompt)

    @cached_property
    def photos(self) -> tuple[Photo, ...]:
        """The photos of this subject. Raises PhotoError with everything that is wrong with them."""
        if self.among is not None:
            return tuple(photo for photo in self.among if self._is_shown_by(photo))
        return self._scanned.photos

    @property
    def photo_warnings(self) -> tuple[PhotoProblem, ...]:
        """What is wrong with the photos and keeps nothing from being measured, such as one that is there twice."""
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
        """The largest square in the middle of each photo, (3, side, side) in [0, 1]."""
        pixels = [read_pixels(photo.path, background=self.background) for photo in self.photos]
        return [(render_view(one, _middle(photo, side)) + 1) / 2 for one, photo in zip(pixels, self.photos, strict=True)]

    def exposures(self, steps: int, resolution: int) -> list[tuple[str, int]]:
        """Each photo's name and how often so many steps of the run showed it; empty where these are not its photos."""
        if self.run is None or not self.has_own_photos:
            return []
        prior, loop = self.run.prior, self.run.loop
        repeats = repeats_of(prior)
        given = (
            0 if repeats is None else len(find_pictures(self.run.subject, self.run.prior, resolution=resolution).given_priors)
        )
        seen = self.photos if self.among is None else self.among
        order = drawing(PerRole(len(seen), prior.num_made + given), repeats, seed=loop.seed)
        counts = order.exposures("instance", steps * loop.examples_per_step)
        own = {photo.path for photo in self.photos}
        return [(photo.path.name, count) for photo, count in zip(seen, counts, strict=True) if photo.path in own]


def evaluation_targets(settings: EvaluateSettings) -> tuple[EvaluationTarget, ...]:
    """Every subject that is asked for, what is given put over what the run remembers.

    Raises SettingsError with everything that is still missing, and PhotoError for broken photos of several subjects.
    """
    folder = Path(settings.model).expanduser()
    config = RunFolder(folder).config
    is_run = folder.is_dir() and config.is_file()
    run = parse_settings(TrainSettings, read_yaml(config), where=str(config)) if is_run else None
    chosen = chosen_subjects(settings, run)
    if settings.evaluation.is_changed("num_class_images") and not any(one.has_class for one in chosen.subjects):
        raise SettingsError("class_word is empty, so num_class_images would have no effect; leave it out")
    base = None if settings.base is None else BaseModelSettings(model=settings.base)
    prior, views = (PriorSettings(), ViewSettings()) if run is None else (run.prior, run.views)
    return tuple(
        EvaluationTarget(
            model=settings.model,
            base=base or (None if run is None else run.base),
            subject=subject,
            class_prompt=fill(prior.class_prompt, token="", class_word=subject.class_word) if subject.has_class else None,
            background=views.background,
            output=settings.output or (folder if is_run else folder.parent) / "evaluation",
            run=run,
            has_own_photos=run is not None and settings.photos is None,
            among=chosen.among,
            among_warnings=chosen.warnings,
        )
        for subject in chosen.subjects
    )


def evaluation_target(settings: EvaluateSettings) -> EvaluationTarget:
    """The subject of a run that learned one; see `all_evaluated`."""
    found = evaluation_targets(settings)
    assert len(found) == 1, "whoever asks for one has looked that there are not several"
    return found[0]


def usual_guidance_scale(side: int) -> float:
    """How strongly the prompt pulls in pictures that are measured, when nothing else is asked for."""
    return _SMALL_GUIDANCE_SCALE if side == SIDE else _GUIDANCE_SCALE


def with_guidance_scale(asked: EvaluationSettings, side: int) -> EvaluationSettings:
    """The same with that choice written down, which depends on the model."""
    return (
        asked if asked.guidance_scale is not None else asked.model_copy(update={"guidance_scale": usual_guidance_scale(side)})
    )


def prompt_set_of(prompts: Sequence[SubjectPrompt], asked: EvaluationSettings, *, class_prompt: str | None) -> PromptSet:
    """These prompts, with as many pictures as are asked for."""
    return PromptSet(
        prompts=tuple(one.prompt for one in prompts),
        descriptions=tuple(one.description for one in prompts),
        class_prompt=class_prompt,
        num_images=asked.num_images,
        num_class_images=asked.num_class_images,
    )


def _middle(photo: Photo, side: int) -> View:
    square = min(photo.width, photo.height)
    top, left = (photo.height - square) // 2, (photo.width - square) // 2
    return View(side, top=top, left=left, height=square, width=square, flip=False)
