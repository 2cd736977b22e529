"""Re-evaluates the checkpoint chosen by a run against its last one, and reads the scores recorded during training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dreambooth.evaluation.evaluator import Evaluator, PromptSet, Samples
from dreambooth.measures.balance import PARTS, Span, Weights, balance, best, has_passed_peak, spans
from dreambooth.measures.settings import CLASS_IMAGES_EACH, SelectionSettings
from dreambooth.recipes.toybox import subject_look
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.toybox.files import EMBEDDED_MODEL
from dreambooth.toybox.world import PLACES
from experiments.paper import PRESET_RATE
from experiments.results.looking import Gallery, judges_in, number, photo_pixels
from experiments.results.runs import TOKENS, Place, Scale

__all__ = ["CHOOSING", "MARGIN", "PATIENCE", "measure_choice", "scored_steps"]

MARGIN, PATIENCE = 0.03, 2
"""Settings of the early stop under test: the margin of docs/explanation/evaluation.md, and the default patience."""

CHOOSING = (1, 4)
"""Images per prompt used to choose a step: the minimum, with which the runs scored themselves, and the default."""

_MOST_LOOKS = 8  # candidates for the choice
_CHOOSING_SEED, _SEED = 42, 1234  # the choice and its evaluation share no noise
_MOST_CLASS_IMAGES = 16  # as in the evaluation during training
_IMAGES = 2  # per prompt in one evaluation, enough to compute DIV
_DEFAULTS = SelectionSettings()
_WEIGHTS = Weights(_DEFAULTS.balance_fidelity, _DEFAULTS.balance_prompt, _DEFAULTS.balance_prior)


def scored_steps(run: RunFolder) -> dict[int, dict[str, float | None]]:
    """Balance, fidelity, prompt and prior by step, as recorded by the run; step 0 is the base model."""
    events = [event for event in read_events(run.events) if event["event"] == "evaluation"]
    return {event["step"]: {name: event[name] for name in ("balance", *PARTS)} for event in events}


def measure_choice(place: Place, scale: Scale, name: str) -> dict[str, Any]:
    """For the normal and the long run: the chosen steps, and the balance of these and the last step with other seeds."""
    run = place.at_rate(name, PRESET_RATE)
    looks = _Looks.of(place, scale, name, seed=_SEED, num_images=_IMAGES, num=scale.held_out_looks)
    record: dict[str, Any] = {"subject": name}
    for last in (scale.steps, scale.long_steps):
        histories = _histories(place, scale, name, last)
        last_G = looks.balances(run, last)
        record[str(last)] = {
            "last": number(last_G[None], "balance"),
            "would have ended at": _early_stop(histories[CHOOSING[0]]),
        }
        for num, history in histories.items():
            chosen_G = looks.balances(run, best(history))
            record[str(last)][f"by {num}"] = {
                "chosen": best(history),
                "balance": number(chosen_G[None], "balance"),
                "gain": number((chosen_G - last_G)[None], "gain"),
                "history": history,
            }
    return record


def _histories(place: Place, scale: Scale, name: str, last: int) -> dict[int, dict[int, float]]:
    """Maps images per prompt to the balances of at most eight steps: recorded by the run, and evaluated here."""
    run = place.at_rate(name, PRESET_RATE)
    scored = {step: scores["balance"] for step, scores in scored_steps(run).items() if 0 < step <= last}
    every = math.ceil(len(scored) / _MOST_LOOKS)
    own = {step: value for step in sorted(scored)[every - 1 :: every] if (value := scored[step]) is not None}
    more = _Looks.of(place, scale, name, seed=_CHOOSING_SEED, num_images=CHOOSING[1], num=1)
    return {CHOOSING[0]: own, CHOOSING[1]: {step: float(more.balances(run, step)) for step in own}}


def _early_stop(history: Mapping[int, float]) -> int | None:
    """The first step at which early stopping would have ended the run."""
    steps = sorted(history)
    for at, step in enumerate(steps):
        if has_passed_peak({earlier: history[earlier] for earlier in steps[: at + 1]}, margin=MARGIN, patience=PATIENCE):
            return step
    return None


@dataclass(frozen=True)
class _Looks:
    """Several evaluations of a model, each with different noise."""

    evaluator: Evaluator
    """Evaluator of a single look."""
    gallery: Gallery
    num: int
    before: Samples
    between: Mapping[str, Span]

    @classmethod
    def of(cls, place: Place, scale: Scale, name: str, *, seed: int, num_images: int, num: int) -> _Looks:
        """Generate the base model's images, which together define the scales; `num_images` is per prompt and evaluation."""
        word = subject_look(name).class_word
        prompt_set = PromptSet(
            prompts=tuple(f"photo of a {TOKENS[0]} {word} {where}" for where in PLACES.values()),
            descriptions=tuple(f"photo of a {word} {where}" for where in PLACES.values()),
            class_prompt=f"photo of a {word}",
            num_images=num_images,
            num_class_images=min(_MOST_CLASS_IMAGES, CLASS_IMAGES_EACH * num_images),
        )
        evaluator = Evaluator(prompt_set, list(photo_pixels(place.photos(name))), judges_in(place.output / "features"), seed)
        gallery = Gallery(place.output / "pictures", scale.evaluation_sampling_steps, seed)
        before = _samples(gallery, EMBEDDED_MODEL, prompt_set, num)
        in_all = replace(prompt_set, num_images=num * prompt_set.num_images, num_class_images=num * prompt_set.num_class_images)
        every = replace(evaluator, prompt_set=in_all)
        base = {title: score.value for title, score in every.score(before, before=None).scores.items()}
        own = {title: score.value for title, score in evaluator.photo_scores().items()}
        between = spans(base, {**own, "CLIP-T": evaluator.photos_on_prompts()})
        return cls(evaluator, gallery, num, before, between)

    def balances(self, run: RunFolder, step: int) -> Tensor:
        """The balance of a step's model in each evaluation, (looks,)."""
        samples = _samples(self.gallery, str(run.model_at(step)), self.evaluator.prompt_set, self.num)
        balances = []
        for look in range(self.num):
            measured = self.evaluator.score(
                _part(samples, self.evaluator.prompt_set, look), before=_part(self.before, self.evaluator.prompt_set, look)
            )
            combined = balance({name: score.value for name, score in measured.scores.items()}, self.between, _WEIGHTS)
            balances.append(math.nan if combined is None else combined.value)
        return torch.tensor(balances, dtype=torch.float64)


def _samples(gallery: Gallery, model: str, prompt_set: PromptSet, num: int) -> Samples:
    assert prompt_set.class_prompt is not None, "every toybox subject has a class"
    return Samples(
        gallery.shown(model, prompt_set.prompts, num * prompt_set.num_images),
        gallery.shown(model, [prompt_set.class_prompt], num * prompt_set.num_class_images)[0],
    )


def _part(samples: Samples, prompt_set: PromptSet, look: int) -> Samples:
    """The images of one evaluation."""
    few, of_class = prompt_set.num_images, prompt_set.num_class_images
    return Samples(
        samples.subject_PSCHW[:, look * few : (look + 1) * few], samples.class_NCHW[look * of_class : (look + 1) * of_class]
    )
