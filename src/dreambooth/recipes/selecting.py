"""Scores while a run trains, and the model that they choose.

What was found stands in the run's events and nowhere else, so a resumed run chooses as one that never stopped. The encoders
look from the CPU: a look needs no more memory of a GPU than a preview does, under every memory plan.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dreambooth.data.captions import CaptionedPhoto, named_subjects
from dreambooth.errors import RunError, SettingsError
from dreambooth.evaluation.selection import Balance, Span, Weights, balance, best, has_passed_peak, smoothed, spans
from dreambooth.evaluation.settings import EvaluationSettings, SelectionSettings
from dreambooth.files import link_or_copy
from dreambooth.recipes.display import Display, format_duration
from dreambooth.recipes.evaluated import evaluated, usual_guidance_scale
from dreambooth.recipes.judges import choose_judges
from dreambooth.recipes.previews import visiting
from dreambooth.recipes.scoring import Answers, Exam, Judges
from dreambooth.recipes.settings import EvaluateSettings, TrainSettings
from dreambooth.runtime.tensor_files import write_tensors
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import decode, final_latents
from dreambooth.training.events import read_events
from dreambooth.training.run_folder import RunFolder
from dreambooth.weights.read import read_model

if TYPE_CHECKING:
    from dreambooth.recipes.session import Session

__all__ = [
    "Scorer",
    "check_best_is_there",
    "check_can_score",
    "judges_of_run",
    "peak_has_passed",
    "put_back_model",
    "put_chosen_model",
    "what_was_chosen",
]

_SEED = 42


def check_can_score(settings: TrainSettings, photos: Sequence[CaptionedPhoto]) -> None:
    """Raise SettingsError with everything in a run that cannot be scored while it trains."""
    every, problems, hints = settings.selection.evaluate_every, [], []
    if every == 0:
        return
    if every > settings.loop.steps:
        problems.append(f"evaluate_every is {every} and steps is {settings.loop.steps}, so no step would be scored")
        hints.append(f"Use --evaluate-every {max(1, settings.loop.steps // 4)}, or more steps.")
    if settings.memory.shard:
        problems.append("evaluate_every scores with one process, and shard leaves each a part of the weights")
        hints.append("Use --no-shard, or --evaluate-every 0 and dreambooth evaluate afterwards.")
    named = named_subjects((one.photo for one in photos), settings.subject)
    if len(named) > 1:
        names = ", ".join(f"{words.token} {words.class_word}".strip() for words in named)
        problems.append(f"evaluate_every scores one subject, and the photos show several: {names}")
        hints.append("Use --evaluate-every 0 and dreambooth evaluate afterwards, which measures all of them.")
    if problems:
        raise SettingsError(problems, hint="\n".join(hints))


def judges_of_run(settings: TrainSettings, *, side: int) -> Judges | None:
    """The encoders of a run whose pictures have `side` pixels; None when nothing is scored. Raises as `choose_judges` does."""
    if settings.selection.evaluate_every == 0:
        return None
    asked = EvaluationSettings(dino=settings.selection.dino, clip=settings.selection.clip)
    cache = RunFolder(settings.output.output).scores / "features"
    return choose_judges(asked, side=side, device=torch.device("cpu"), cache=cache)


@dataclass(frozen=True)
class Scorer:
    """Lets the model as it is make a few pictures, and scores them against the base model's and the photos."""

    session: Session
    exam: Exam
    display: Display

    @classmethod
    def open(cls, session: Session, display: Display) -> Scorer | None:
        """None when nothing is scored. Says what it costs; raises RunError when a resumed run lacks the base's pictures."""
        ready = session.ready
        if ready.judges is None:
            return None
        asked = EvaluateSettings(model=str(ready.run.path))
        subject = evaluated(asked)
        questions = subject.questions(asked, ready.resolution).fewer(ready.settings.selection.evaluation_images)
        exam = Exam(questions, subject.photo_pixels(ready.resolution), ready.judges, _SEED)
        scorer = cls(session, exam, display)
        if session.state.step > 0:
            _ = scorer._before
        chosen, num = ready.settings.selection, len(questions.pictures())
        display.say(
            f"Scores every {chosen.evaluate_every} steps: {num} pictures of {chosen.evaluation_sampling_steps} denoising steps "
            f"each time, {scorer._num_left} times{' and once before training' if session.state.step == 0 else ''}"
        )
        return scorer

    def look(self) -> dict[str, Any]:
        """Score the model as it is now, for the run's events. Before the first step that is the base model, which is kept.

        Raises ModelFileError for a picture that is not finite, and SettingsError when these encoders cannot tell the base
        model's pictures from the photos.
        """
        start, is_base = time.monotonic(), self.session.state.step == 0
        answers = self.exam.answers(self._make)
        if is_base:
            parts = {"subject": answers.subject_PSCHW, "class": answers.class_NCHW}
            write_tensors(self._file, {name: _to_bytes(part) for name, part in parts.items()})
        measured = self.exam.score(answers, before=self._before)
        scores = {name: one.value for name, one in measured.scores.items()}
        found = balance(scores, self._spans, _weights(self.session.ready.settings.selection))
        if found is None:
            raise SettingsError(
                "by these encoders no score tells the base model's pictures from the photos, so there is nothing to choose by",
                hint="Use other ones with --dino and --clip, or --evaluate-every 0.",
            )
        if is_base:
            seconds = time.monotonic() - start
            left = format_duration(seconds * self._num_left)
            self.display.say(f"Scoring took {format_duration(seconds)}; the {self._num_left} times to come will take {left}")
        copies = {} if measured.copying is None else {"copies": measured.copying.share}
        return {**_record(found), "scores": scores, **copies}

    @cached_property
    def _before(self) -> Answers:
        """What the base model made before the first step."""
        try:
            parts = load_file(self._file)
            return Answers(*(parts[name].float() / 255 for name in ("subject", "class")))
        except (OSError, SafetensorError, KeyError) as error:
            raise RunError(
                f"{self._file}: cannot be read ({error}); it holds what the base model made before the first step",
                hint="Put it back, or start a new run with --output.",
            ) from error

    @cached_property
    def _spans(self) -> dict[str, Span]:
        base = {name: one.value for name, one in self.exam.score(self._before, before=None).scores.items()}
        own = {name: one.value for name, one in self.exam.photo_scores().items()} or {"DINO": 1.0, "CLIP-I": 1.0}
        return spans(base, {**own, "CLIP-T": self.exam.photos_on_prompts()})

    def _make(self, pictures: Sequence[Picture]) -> Iterator[Tensor]:
        """Pixels as a file of 8 bits would have them, so that a kept picture is the same as one just made."""
        session, ready = self.session, self.session.ready
        with ExitStack() as stack:
            stack.enter_context(session.state.average.in_place())
            stack.enter_context(visiting(session.components.text_encoder, ready.device))
            latents = [self._latent(picture) for picture in pictures]
        with visiting(session.components.vae, ready.device):
            made = [decode(session.components, latent_BCHW)[0].cpu() for latent_BCHW in latents]
        return (_to_bytes(pixels_CHW).float() / 255 for pixels_CHW in made)

    def _latent(self, picture: Picture) -> Tensor:
        ready = self.session.ready
        options = SamplingOptions(
            sampler="ddim",
            steps=ready.settings.selection.evaluation_sampling_steps,
            guidance_scale=usual_guidance_scale(ready.resolution),
            height=ready.resolution,
            width=ready.resolution,
            seed=_SEED,
        )
        dtype = ready.policy.compute_dtype
        return final_latents(self.session.components, [picture], options, device=ready.device, dtype=dtype)

    @property
    def _file(self) -> Path:
        return self.session.ready.run.scores / "base.safetensors"

    @property
    def _num_left(self) -> int:
        every, steps = self.session.ready.settings.selection.evaluate_every, self.session.ready.settings.loop.steps
        return steps // every - self.session.state.step // every


def peak_has_passed(session: Session) -> bool:
    """Whether the scores up to this step, which was one to score, say that training should end here."""
    chosen, step = session.ready.settings.selection, session.state.step
    if chosen.early_stop_margin is None:
        return False
    history = _history(session.ready.run, step)
    values = {at: one.value for at, one in history.items()}
    return step in values and has_passed_peak(values, margin=chosen.early_stop_margin, patience=chosen.early_stop_patience)


def put_back_model(session: Session) -> None:
    """Write the model of the restored step again where it should be among the others and is not; all processes together."""
    ready, step = session.ready, session.state.step
    if session.is_scored(is_first=False) or step >= ready.settings.loop.steps:
        model = ready.run.model_at(step)
        if ready.processes.any(ready.processes.is_main and not model.is_file()):
            session.write_model(model)


def check_best_is_there(run: RunFolder, chosen: SelectionSettings, *, last: int) -> None:
    """Raise RunError when the best model of the steps up to `last` is wanted and is not there.

    That of step `last` itself is no matter: its weights are those of the checkpoint, see `put_back_model`.
    """
    peak = _wanted_step(run, chosen, last)
    if peak == last or run.model_at(peak).is_file():
        return
    final = run.final_model
    is_final = final.is_file() and read_model(str(final)).num_steps == peak
    where = f"It is {final} as well: copy that there" if is_final else "Put it back"
    raise RunError(f"{run.model_at(peak)}: no such file; it was the best model of the run", hint=f"{where}, or --select last.")


def put_chosen_model(session: Session) -> None:
    """Let the final model be that of the step that was asked for: the last, or the best. All processes call this together.

    Raises RunError when the best step's model is no longer there.
    """
    run = session.ready.run
    with session.ready.processes.together():
        if session.ready.processes.is_main:
            check_best_is_there(run, session.ready.settings.selection, last=session.state.step)
            link_or_copy(run.model_at(_chosen_step(session)), run.final_model)


def what_was_chosen(session: Session) -> dict[str, Any]:
    """The step whose model is the final one, its balance, the last step's, and a sentence; nothing when nothing was scored."""
    run, last = session.ready.run, session.state.step
    history = _history(run, last)
    if not history:
        return {}
    values = smoothed(_values(history))
    peak, chosen = best(_values(history)), _chosen_step(session)
    of_peak = (
        f"step {peak}, whose balance of {_in_words(history[peak])} is, with those of the steps beside it, the highest of "
        f"{len(history)} scored steps: {values[peak]:.3f}"
    )
    of_last = f"; that of the last one, step {last}, is {values[last]:.3f}" if last in values and last != peak else ""
    if chosen == peak:
        text = f"The final model is that of {of_peak}{of_last}. The others are in {run.model_at(peak).parent}"
    else:
        text = f"The final model is that of the last step, {last}. By the scores {of_peak}{of_last}: {run.model_at(peak)}"
    base = _balance_of_base(run)
    if base is not None and values[peak] <= base:
        text += (
            f". No scored step is above the {base:.3f} of the base model: by these scores, what was learned of the subject is "
            "worth no more than what was lost of prompts and class"
        )
    found: dict[str, Any] = {"chosen": chosen, "best": peak, "text": text}
    return {**found, "balances": {str(step): one.value for step, one in history.items()}}


def _chosen_step(session: Session) -> int:
    return _wanted_step(session.ready.run, session.ready.settings.selection, session.state.step)


def _wanted_step(run: RunFolder, chosen: SelectionSettings, last: int) -> int:
    history = _history(run, last)
    return best(_values(history)) if chosen.select == "best" and history else last


def _history(run: RunFolder, last: int) -> dict[int, Balance]:
    """The balances of the steps that were scored, up to step `last`; the base model's is none of them."""
    events = [event for event in read_events(run.events) if event["event"] == "evaluation" and 0 < event["step"] <= last]
    return {one["step"]: Balance(one["balance"], one["fidelity"], one["prompt"], one["prior"]) for one in events}


def _values(history: Mapping[int, Balance]) -> dict[int, float]:
    return {step: one.value for step, one in history.items()}


def _balance_of_base(run: RunFolder) -> float | None:
    """What was scored before the first step; None where that is not taken down."""
    events = (event for event in read_events(run.events) if event["event"] == "evaluation" and event["step"] == 0)
    return next((float(event["balance"]) for event in events), None)


def _weights(chosen: SelectionSettings) -> Weights:
    return Weights(chosen.balance_fidelity, chosen.balance_prompt, chosen.balance_prior)


def _record(found: Balance) -> dict[str, float | None]:
    return {"balance": found.value, "fidelity": found.fidelity, "prompt": found.prompt, "prior": found.prior}


def _in_words(found: Balance) -> str:
    parts = {"fidelity": found.fidelity, "prompt": found.prompt, "prior": found.prior}
    return f"{found.value:.3f} ({', '.join(f'{name} {value:.2f}' for name, value in parts.items() if value is not None)})"


def _to_bytes(pixels: Tensor) -> Tensor:
    return pixels.mul(255).round().to(torch.uint8)
