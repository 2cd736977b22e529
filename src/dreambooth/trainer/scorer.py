"""Scores the model during training.

The scores are stored only in the run's events, so a resumed run selects the same model as one that never stopped. The encoders
run on the CPU: scoring needs no more GPU memory than a preview, with every memory plan.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dreambooth.display import Display, counted, format_duration
from dreambooth.errors import RunError, SettingsError
from dreambooth.evaluation.evaluator import Samples
from dreambooth.evaluation.prompt_sets import usual_guidance_scale
from dreambooth.files import utf8_name
from dreambooth.measures.balance import Span, Weights, balance
from dreambooth.runtime.tensor_files import write_tensors
from dreambooth.sampling.placing import visiting
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import decode, final_latents
from dreambooth.trainer.scored_subjects import ScoredSubject, SubjectScores, all_pictures, scored_subjects, scores_record
from dreambooth.weights.bundled import draws_toybox

if TYPE_CHECKING:
    from dreambooth.trainer.session import Session


__all__ = ["Scorer"]

_SEED = 42


@dataclass(frozen=True)
class Scorer:
    """Generates a few images with the current model, and scores them against the base model's images and the photos."""

    session: Session
    subjects: tuple[ScoredSubject, ...]
    display: Display
    is_toybox: bool
    """Whether the images are of the small rendered world; see `draws_toybox`."""

    @classmethod
    def open(cls, session: Session, display: Display) -> Scorer | None:
        """None if nothing is scored. Announces the cost; raises RunError if a resumed run lacks the base model's images."""
        ready = session.ready
        if ready.measured.encoders is None:
            return None
        is_toybox = draws_toybox(ready.base.made_for(ready.size.shorter_side))
        subjects = scored_subjects(ready, is_toybox=is_toybox, seed=_SEED, say=display.say)
        scorer = cls(session, subjects, display, is_toybox)
        if session.state.step > 0:
            _ = scorer._before
        chosen, images = ready.measured.selection, counted(len(all_pictures(subjects)), "image")
        of_all = f" of {len(subjects)} subjects" if len(subjects) > 1 else ""
        times = f"{counted(scorer._num_left, 'time')}{' and once before training' if session.state.step == 0 else ''}"
        display.say(
            f"Scoring every {chosen.evaluate_every} steps: {images}{of_all} with {chosen.evaluation_sampling_steps} "
            f"denoising steps each time, {times}"
        )
        return scorer

    def look(self) -> dict[str, Any]:
        """Score the current model, for the run's events. Before the first step this is the base model, whose images are kept.

        Raises ModelFileError for an image that is not finite, and SettingsError when these encoders cannot separate the base
        model's images from the photos.
        """
        start, is_base = time.monotonic(), self.session.state.step == 0
        asked = all_pictures(self.subjects)
        made = dict(zip(asked, self._make(asked), strict=True))
        samples = {one.name: one.evaluator.samples(lambda own: [made[picture] for picture in own]) for one in self.subjects}
        if is_base:
            write_tensors(self._file, self._stored(samples))
        found = {one.name: self._scores(one, samples[one.name]) for one in self.subjects}
        if is_base:
            seconds = time.monotonic() - start
            left = format_duration(seconds * self._num_left)
            self.display.say(f"Scoring took {format_duration(seconds)}; the remaining {self._num_left} times will take {left}")
        return scores_record(found)

    def _scores(self, subject: ScoredSubject, samples: Samples) -> SubjectScores:
        measured = subject.evaluator.score(samples, before=self._before[subject.name])
        weights = Weights.of(self.session.ready.measured.selection)
        found = balance(measured.values, self._spans[subject.name], weights)
        if found is None:
            raise SettingsError(
                "with these encoders no score separates the base model's images from the photos"
                f"{f' of {subject.name}' if len(self.subjects) > 1 else ''}, so no model can be chosen",
                hint="Use other encoders with --dino and --clip, or --evaluate-every 0.",
            )
        return SubjectScores(found, measured)

    def _stored(self, samples: Mapping[str, Samples]) -> dict[str, Tensor]:
        parts = {"subject": "subject_PSCHW", "class": "class_NCHW"}
        return {
            self._key(name, role): _to_bytes(getattr(one, part))
            for name, one in samples.items()
            for role, part in parts.items()
        }

    def _key(self, name: str, role: str) -> str:
        """The name of a tensor in the file of the base model's images."""
        return role if len(self.subjects) == 1 else f"{name}/{role}"

    @cached_property
    def _before(self) -> dict[str, Samples]:
        """The base model's images from before the first step, by the name of the subject."""
        try:
            with utf8_name(self._file) as name:
                parts = load_file(name)
            return {
                one.name: Samples(*(parts[self._key(one.name, role)].float() / 255 for role in ("subject", "class")))
                for one in self.subjects
            }
        except (OSError, SafetensorError, KeyError) as error:
            raise RunError(
                f"{self._file}: cannot be read ({error}); it holds the base model's images from before the first step",
                hint="Restore it, or start a new run with --output.",
            ) from error

    @cached_property
    def _spans(self) -> dict[str, dict[str, Span]]:
        return {one.name: one.evaluator.spans(self._before[one.name]) for one in self.subjects}

    def _make(self, pictures: Sequence[Picture]) -> Iterator[Tensor]:
        """Pixels rounded to 8 bits, so that stored images equal newly generated ones."""
        session, ready = self.session, self.session.ready
        with session.state.average.in_place():
            latents = [self._latent(picture) for picture in pictures]
        with visiting([session.components.vae], ready.device):
            made = [decode(session.components, latent_BCHW)[0].cpu() for latent_BCHW in latents]
        return (_to_bytes(pixels_CHW).float() / 255 for pixels_CHW in made)

    def _latent(self, picture: Picture) -> Tensor:
        ready = self.session.ready
        options = SamplingOptions(
            sampler="ddim",
            steps=ready.measured.selection.evaluation_sampling_steps,
            guidance_scale=usual_guidance_scale(is_toybox=self.is_toybox),
            height=ready.size.height,
            width=ready.size.width,
            seed=_SEED,
        )
        dtype = ready.policy.compute_dtype
        return final_latents(self.session.components, [picture], options, device=ready.device, dtype=dtype)

    @property
    def _file(self) -> Path:
        return self.session.ready.run.scores / "base.safetensors"

    @property
    def _num_left(self) -> int:
        every, steps = self.session.ready.measured.selection.evaluate_every, self.session.ready.loop.steps
        return steps // every - self.session.state.step // every


def _to_bytes(pixels: Tensor) -> Tensor:
    return pixels.mul(255).round().to(torch.uint8)
