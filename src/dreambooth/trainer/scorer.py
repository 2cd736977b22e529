"""Scores the model during training.

The scores are stored only in the run's events, so a resumed run selects the same model as one that never stopped. The encoders
run on the CPU: scoring needs no more GPU memory than a preview, with every memory plan.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dreambooth.data.captions import named_settings
from dreambooth.data.records import Photo
from dreambooth.data.settings import SubjectSettings
from dreambooth.display import Display, counted, format_duration
from dreambooth.errors import RunError, SettingsError
from dreambooth.evaluation.evaluator import Evaluator, Samples
from dreambooth.evaluation.photo_squares import photo_squares
from dreambooth.evaluation.prompt_sets import class_prompt_of, subject_prompt_set, usual_guidance_scale
from dreambooth.files import utf8_name
from dreambooth.measures.balance import Balance, Span, Weights, balance
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.runtime.tensor_files import write_tensors
from dreambooth.sampling.placing import visiting
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import decode, final_latents
from dreambooth.weights.bundled import draws_toybox

if TYPE_CHECKING:
    from dreambooth.trainer.session import Session


__all__ = ["Scorer"]

_SEED = 42


@dataclass(frozen=True)
class Scorer:
    """Generates a few images with the current model, and scores them against the base model's images and the photos."""

    session: Session
    evaluator: Evaluator
    display: Display
    is_toybox: bool
    """Whether the images are of the small rendered world; see `draws_toybox`."""

    @classmethod
    def open(cls, session: Session, display: Display) -> Scorer | None:
        """None if nothing is scored. Announces the cost; raises RunError if a resumed run lacks the base model's images."""
        ready = session.ready
        if ready.measured.encoders is None:
            return None
        side, photos = ready.size.shorter_side, [one.photo for one in ready.learned.photos]
        subject = _subject_of(ready.learned.subject, photos)
        class_prompt = class_prompt_of(subject, ready.learned.prior)
        is_toybox = draws_toybox(ready.base.made_for(side))
        all_prompts = subject_prompt_set(subject, EvaluationSettings(), class_prompt=class_prompt, is_toybox=is_toybox)
        prompt_set = all_prompts.fewer(ready.measured.selection.evaluation_images)
        squares = photo_squares(photos, background=ready.learned.views.background, side=side)
        encoders = replace(ready.measured.encoders, say=display.say)
        evaluator = Evaluator(prompt_set, squares, encoders, _SEED)
        scorer = cls(session, evaluator, display, is_toybox)
        if session.state.step > 0:
            _ = scorer._before
        chosen, images = ready.measured.selection, counted(len(prompt_set.pictures()), "image")
        times = f"{counted(scorer._num_left, 'time')}{' and once before training' if session.state.step == 0 else ''}"
        display.say(
            f"Scoring every {chosen.evaluate_every} steps: {images} with {chosen.evaluation_sampling_steps} denoising steps "
            f"each time, {times}"
        )
        return scorer

    def look(self) -> dict[str, Any]:
        """Score the current model, for the run's events. Before the first step this is the base model, whose images are kept.

        Raises ModelFileError for an image that is not finite, and SettingsError when these encoders cannot separate the base
        model's images from the photos.
        """
        start, is_base = time.monotonic(), self.session.state.step == 0
        samples = self.evaluator.samples(self._make)
        if is_base:
            parts = {"subject": samples.subject_PSCHW, "class": samples.class_NCHW}
            write_tensors(self._file, {name: _to_bytes(part) for name, part in parts.items()})
        measured = self.evaluator.score(samples, before=self._before)
        scores = measured.values
        found = balance(scores, self._spans, Weights.of(self.session.ready.measured.selection))
        if found is None:
            raise SettingsError(
                "with these encoders no score separates the base model's images from the photos, so no model can be chosen",
                hint="Use other encoders with --dino and --clip, or --evaluate-every 0.",
            )
        if is_base:
            seconds = time.monotonic() - start
            left = format_duration(seconds * self._num_left)
            self.display.say(f"Scoring took {format_duration(seconds)}; the remaining {self._num_left} times will take {left}")
        copies = {} if measured.copying is None else {"copies": measured.copying.share}
        intervals = {name: [one.low, one.high] for name, one in measured.scores.items() if one.low is not None}
        return {**_record(found), "scores": scores, "intervals": intervals, **copies}

    @cached_property
    def _before(self) -> Samples:
        """The base model's images from before the first step."""
        try:
            with utf8_name(self._file) as name:
                parts = load_file(name)
            return Samples(*(parts[role].float() / 255 for role in ("subject", "class")))
        except (OSError, SafetensorError, KeyError) as error:
            raise RunError(
                f"{self._file}: cannot be read ({error}); it holds the base model's images from before the first step",
                hint="Restore it, or start a new run with --output.",
            ) from error

    @cached_property
    def _spans(self) -> dict[str, Span]:
        return self.evaluator.spans(self._before)

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


def _subject_of(subject: SubjectSettings, photos: Sequence[Photo]) -> SubjectSettings:
    """The subject with the words from the photos' folders; preflight has checked that they show one subject."""
    (one,) = named_settings(photos, subject)
    return one


def _record(found: Balance) -> dict[str, float | None]:
    return {"balance": found.value, "fidelity": found.fidelity, "prompt": found.prompt, "prior": found.prior}


def _to_bytes(pixels: Tensor) -> Tensor:
    return pixels.mul(255).round().to(torch.uint8)
