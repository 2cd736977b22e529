"""The runs that are measured, made by the commands that a user types, and where they are.

Every command is one that goes on where it was stopped or has nothing left to do, so the whole can be started again.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from dreambooth.cli.main import main
from dreambooth.errors import RunError
from dreambooth.recipes.toybox import subject_look, write_photos
from dreambooth.runs.folder import RunFolder

__all__ = [
    "FULL",
    "PRESET_RATE",
    "TOKENS",
    "Pair",
    "Place",
    "Scale",
    "learn_at_rates",
    "learn_pair",
    "learn_with_prior",
    "train_at",
]

PRESET_RATE = 2e-4
"""Learning rate of the preset `toybox`."""

TOKENS = ("sks", "zwx")
"""Of the first and of the second subject."""


@dataclass(frozen=True)
class Pair:
    """Two subjects for one model."""

    first: str
    second: str

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.first}+{self.second}"

    @property
    def subjects(self) -> tuple[str, str]:
        """Both, in their order."""
        return (self.first, self.second)


@dataclass(frozen=True)
class Scale:
    """How much is done. A smaller one shows that everything works, and no number of it means anything."""

    subjects: tuple[str, ...] = ("banded-container", "zigzag-mug", "marked-ball", "belted-vase", "crossed-teapot")
    pairs: tuple[Pair, ...] = (Pair("marked-ball", "belted-vase"), Pair("banded-container", "marked-container"))
    steps: int = 400
    """Of every run that is not told otherwise: as many as the preset has."""
    long_steps: int = 1600
    """Of runs that are trained too long."""
    rates: tuple[float, ...] = (5e-5, 1e-4, PRESET_RATE, 4e-4)
    rate_subjects: tuple[str, ...] = ("banded-container", "zigzag-mug", "marked-ball")
    """Which of the subjects are learned at every rate; the others at the preset's."""
    rate_steps: int = 800
    evaluate_every: int = 50
    sampling_steps: int = 50
    num_images: int = 4
    """Pictures of each prompt."""
    num_class_images: int = 16
    """Pictures of the class alone, and of the subject without anything else."""
    num_renderings: int = 1000
    """From which the judges read."""
    held_out_looks: int = 6
    """Times that a chosen model is looked at anew, with other noise than that which chose it."""
    num_prior_images: int = 48
    prior_sampling_steps: int = 25
    """Both as the preset has them."""
    evaluation_sampling_steps: int = 25
    """Of the pictures that runs score on the way."""


FULL = Scale()


@dataclass(frozen=True)
class Place:
    """Where everything is."""

    output: Path

    @property
    def class_images(self) -> Path:
        """Class images that the embedded model made, for all runs but those of the benchmark."""
        return self.output / "class-images"

    def photos(self, name: str) -> Path:
        """Photos of a subject, rendered when they are not there."""
        folder = self.output / "photos" / name
        if not folder.is_dir():
            write_photos(name, folder)
        return folder

    def with_prior(self, weight: int) -> Path:
        """A benchmark's folder."""
        return self.output / f"prior-{weight}"

    def learned_with_prior(self, name: str, weight: int) -> Path:
        """A subject's run in a benchmark."""
        return self.with_prior(weight) / "subjects" / name / "run"

    def at_rate(self, name: str, rate: float) -> RunFolder:
        """The run of a subject at a learning rate."""
        return RunFolder(self.output / "rates" / f"{rate:.0e}".replace("e-0", "e-") / name)

    def of_pair(self, pair: Pair) -> Path:
        """The folder of everything that two subjects have in common."""
        return self.output / "pairs" / pair.name


def learn_with_prior(place: Place, scale: Scale, weight: int) -> None:
    """`dreambooth benchmark` with prior weight 1 or 0."""
    preset = place.output / f"prior-{weight}.yaml"
    made = {"num_prior_images": scale.num_prior_images, "prior_sampling_steps": scale.prior_sampling_steps}
    prior = {"prior_weight": weight, **(made if weight else {})}
    preset.write_text(yaml.safe_dump({"prior": prior}), encoding="utf-8")
    asked = ["--num-images", scale.num_images, "--num-class-images", scale.num_class_images]
    asked += ["--sampling-steps", scale.sampling_steps, "--steps", scale.steps, "--subjects", *scale.subjects]
    _type("benchmark", "--dataset", "toybox", "--preset", preset, *asked, "--output", place.with_prior(weight))


def learn_at_rates(place: Place, scale: Scale, name: str) -> None:
    """A subject at every learning rate, scored on the way; at the preset's rate first as long as it says, then too long."""
    shown = ("--evaluation-images", 1, "--evaluation-sampling-steps", scale.evaluation_sampling_steps)
    scored = ("--evaluate-every", scale.evaluate_every, "--select", "best", *shown)
    for rate in scale.rates if name in scale.rate_subjects else (PRESET_RATE,):
        run, is_presets = place.at_rate(name, rate), rate == PRESET_RATE
        steps = scale.steps if is_presets else scale.rate_steps
        _train(place, scale, name, run, *scored, "--learning-rate", rate, "--steps", steps)
        if is_presets:
            _go_on(run, scale.long_steps)


def learn_pair(place: Place, scale: Scale, pair: Pair) -> None:
    """Two subjects alone, one after the other, and both at once."""
    folder = place.of_pair(pair)
    for number, name in enumerate(pair.subjects):
        _train(place, scale, name, RunFolder(folder / f"alone-{number + 1}"), "--token", TOKENS[number], "--steps", scale.steps)
    first, second = (subject_look(name).class_word for name in pair.subjects)
    alone = ("--model", folder / "alone-1", "--no-replay")
    base = (*alone, "--token", TOKENS[1], "--prior-folder", folder / "class-images")
    earlier = () if first == second else ("--also-prior", _class_images(place, first))
    _train(place, scale, pair.second, RunFolder(folder / "consecutive"), *base, *earlier, "--steps", scale.steps)
    _write_joint_photos(place, pair, folder / "photos")
    other = () if first == second else ("--also-prior", _class_images(place, second))
    named = ("--captions", "filename", "--photos", folder / "photos", *other)
    _train(place, scale, pair.first, RunFolder(folder / "joint"), *named, "--steps", 2 * scale.steps)


def train_at(place: Place, scale: Scale, name: str, folder: Path, *flags: object) -> None:
    """A run with the preset and more flags in `folder`, unless it is there."""
    _train(place, scale, name, RunFolder(folder), *flags)


def _train(place: Place, scale: Scale, name: str, run: RunFolder, *flags: object) -> None:
    """A run with the preset, unless it is there."""
    if run.final_model.exists():
        return
    photos = () if "--photos" in flags else ("--photos", place.photos(name))
    kept = () if "--prior-folder" in flags else ("--prior-folder", place.class_images)
    is_made = "photos" not in flags and ("--prior-weight", "0") not in itertools.pairwise(flags)
    made = ("--num-prior-images", scale.num_prior_images, "--prior-sampling-steps", scale.prior_sampling_steps)
    fixed = (
        "--class-word",
        subject_look(name).class_word,
        *photos,
        *((*kept, *made) if is_made else ()),
        "--preview-steps",
        0,
        "--validation-steps",
        0,
    )
    if run.config.exists():
        _type("train", "--resume", run.path)
        return
    _type("train", "--preset", "toybox", *fixed, *flags, "--output", run.path)


def _go_on(run: RunFolder, steps: int) -> None:
    _type("train", "--resume", run.path, "--steps", steps)


def _class_images(place: Place, class_word: str) -> Path:
    (found,) = place.class_images.glob(f"{class_word}-*")
    return found


def _write_joint_photos(place: Place, pair: Pair, folder: Path) -> None:
    """Folders that say token and class, and file names that say the caption."""
    for token, name in zip(TOKENS, pair.subjects, strict=True):
        below = folder / token / subject_look(name).class_word
        below.mkdir(parents=True, exist_ok=True)
        for number, photo in enumerate(sorted(place.photos(name).iterdir())):
            shutil.copy(photo, below / f"{number}@photo of a S C.png")


def _type(*words: object) -> None:
    """Run a command as it is typed. Raises RunError when it fails."""
    arguments: Sequence[str] = [str(word) for word in words]
    if code := main(arguments):
        raise RunError(f"dreambooth {' '.join(arguments)} ended with exit code {code}")
