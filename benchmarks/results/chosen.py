"""Whether the checkpoint that a run chose is as good as its last one, looked at anew; and what runs scored on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.results.looking import Gallery, judges_in, number, photo_pixels
from benchmarks.results.runs import PRESET_RATE, TOKENS, Place, Scale
from dreambooth.evaluation.selection import PARTS, Span, Weights, balance, best, has_passed_peak, spans
from dreambooth.evaluation.settings import CLASS_IMAGES_EACH, SelectionSettings
from dreambooth.recipes.scoring import Answers, Exam, Questions
from dreambooth.recipes.toybox import subject_look
from dreambooth.toybox.files import EMBEDDED_MODEL
from dreambooth.toybox.world import PLACES
from dreambooth.training.events import read_events
from dreambooth.training.run_folder import RunFolder

__all__ = ["MARGIN", "PATIENCE", "measure_choice", "scored_steps"]

MARGIN, PATIENCE = 0.03, 2
"""Of the early stop that is asked about: the margin of docs/evaluation.md, and the default patience."""

_SEED = 1234  # the runs chose by noise of seed 42
_IMAGES = 2  # of each prompt in one look, so that DIV can be measured
_DEFAULTS = SelectionSettings()
_WEIGHTS = Weights(_DEFAULTS.balance_fidelity, _DEFAULTS.balance_prompt, _DEFAULTS.balance_prior)


def scored_steps(run: RunFolder) -> dict[int, dict[str, float | None]]:
    """Balance, fidelity, prompt and prior by step, as the run scored itself; step 0 is the base model."""
    events = [event for event in read_events(run.events) if event["event"] == "evaluation"]
    return {event["step"]: {name: event[name] for name in ("balance", *PARTS)} for event in events}


def measure_choice(place: Place, scale: Scale, name: str) -> dict[str, Any]:
    """For the usual and the too long run: the step that was chosen, and how it and the last one look by other noise."""
    run, looks = place.at_rate(name, PRESET_RATE), _Looks.of(place, scale, name)
    scored = {step: one["balance"] for step, one in scored_steps(run).items()}
    found: dict[str, Any] = {"subject": name}
    for last in (scale.steps, scale.long_steps):
        history = {step: value for step, value in scored.items() if 0 < step <= last and value is not None}
        chosen = best(history)
        best_G, last_G = (looks.balances(run, step) for step in (chosen, last))
        found[str(last)] = {
            "chosen": chosen,
            "scored": {"chosen": scored[chosen], "last": scored[last]},
            "balance of chosen": number(best_G[None], "balance"),
            "balance of last": number(last_G[None], "balance"),
            "gain": number((best_G - last_G)[None], "gain"),
            "would have ended at": _early_stop(history),
        }
    return found


def _early_stop(history: Mapping[int, float]) -> int | None:
    """The first step at which the run would have ended by itself."""
    steps = sorted(history)
    for at, step in enumerate(steps):
        if has_passed_peak({one: history[one] for one in steps[: at + 1]}, margin=MARGIN, patience=PATIENCE):
            return step
    return None


@dataclass(frozen=True)
class _Looks:
    """Several looks at a model, each by noise of its own."""

    exam: Exam
    """Of a single look."""
    gallery: Gallery
    num: int
    before: Answers
    between: Mapping[str, Span]

    @classmethod
    def of(cls, place: Place, scale: Scale, name: str) -> _Looks:
        """With the base model's pictures made, all of which say where 0 and 1 are."""
        word = subject_look(name).class_word
        questions = Questions(
            prompts=tuple(f"photo of a {TOKENS[0]} {word} {where}" for where in PLACES.values()),
            descriptions=tuple(f"photo of a {word} {where}" for where in PLACES.values()),
            class_prompt=f"photo of a {word}",
            num_images=_IMAGES,
            num_class_images=CLASS_IMAGES_EACH,
        )
        exam = Exam(questions, list(photo_pixels(place.photos(name))), judges_in(place.output / "features"), _SEED)
        gallery = Gallery(place.output / "pictures", scale.sampling_steps // 2, _SEED)
        before = _answers(gallery, EMBEDDED_MODEL, questions, scale.held_out_looks)
        every = replace(
            exam,
            questions=replace(
                questions,
                num_images=_IMAGES * scale.held_out_looks,
                num_class_images=CLASS_IMAGES_EACH * scale.held_out_looks,
            ),
        )
        base = {title: one.value for title, one in every.score(before, before=None).scores.items()}
        own = {title: one.value for title, one in exam.photo_scores().items()}
        between = spans(base, {**own, "CLIP-T": exam.photos_on_prompts()})
        return cls(exam, gallery, scale.held_out_looks, before, between)

    def balances(self, run: RunFolder, step: int) -> Tensor:
        """The balance of a step's model in each look, (looks,)."""
        answers = _answers(self.gallery, str(run.model_at(step)), self.exam.questions, self.num)
        found = []
        for look in range(self.num):
            measured = self.exam.score(_part(answers, look), before=_part(self.before, look))
            one = balance({name: score.value for name, score in measured.scores.items()}, self.between, _WEIGHTS)
            found.append(math.nan if one is None else one.value)
        return torch.tensor(found, dtype=torch.float64)


def _answers(gallery: Gallery, model: str, questions: Questions, num: int) -> Answers:
    assert questions.class_prompt is not None, "every subject of the small world has a class"
    return Answers(
        gallery.shown(model, questions.prompts, num * questions.num_images),
        gallery.shown(model, [questions.class_prompt], num * questions.num_class_images)[0],
    )


def _part(answers: Answers, look: int) -> Answers:
    """The pictures of one look."""
    return Answers(
        answers.subject_PSCHW[:, look * _IMAGES : (look + 1) * _IMAGES],
        answers.class_NCHW[look * CLASS_IMAGES_EACH : (look + 1) * CLASS_IMAGES_EACH],
    )
