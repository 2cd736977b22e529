"""Reports the progress of a run: on screen, in the run's events and, if enabled, to TensorBoard and Weights & Biases."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from dreambooth.display import Display, counted
from dreambooth.errors import ModelFileError
from dreambooth.runs.boards import Boards, open_boards
from dreambooth.runs.events import EventLog, read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.device import peak_memory_bytes
from dreambooth.trainer.due import Due
from dreambooth.trainer.image_log import image_log_latents, write_image_log
from dreambooth.trainer.live_view import LiveView
from dreambooth.trainer.scored_subjects import scores_texts
from dreambooth.trainer.scorer import Scorer
from dreambooth.trainer.selection import peak_has_passed, what_was_chosen
from dreambooth.trainer.session import Session
from dreambooth.training.loop import StepResult

__all__ = ["Journal", "SilentJournal", "note_checkpoint"]

_FETCH_SECONDS = 0.5


def note_checkpoint(run: RunFolder, log: EventLog, step: int) -> None:
    """Record the restored checkpoint, if the run was killed between writing it and recording it."""
    if not any(event["event"] == "checkpoint" and event["step"] == step for event in read_events(run.events)):
        log.add("checkpoint", step=step, path=str(run.checkpoint_at(step)))


@dataclass(frozen=True)
class Journal:
    """Records steps, validations, previews and checkpoints. Use as a context manager around the loop."""

    session: Session
    display: Display
    view: LiveView
    log: EventLog
    board: Boards
    scorer: Scorer | None
    pending: list[tuple[float, StepResult]] = field(default_factory=list)
    """Steps whose values are still on the device, with the time at which each was queued."""

    @classmethod
    def open(cls, session: Session, display: Display) -> Journal:
        """Open the run's logs; events of steps that will be repeated are dropped, before the first checkpoint all of them."""
        ready, step = session.ready, session.state.step
        view = LiveView(
            display,
            first_step=step,
            last_step=ready.loop.steps,
            peak_memory=lambda: peak_memory_bytes(ready.device),
        )
        scorer = Scorer.open(session, display)  # before the files, since it may raise
        outputs = ready.outputs
        board = open_boards(ready.run, tensorboard=outputs.tensorboard, wandb=outputs.wandb, settings=outputs.dump())
        log = EventLog(ready.run.events, resume_step=step or -1)
        if log.num_damaged:
            display.warn(f"{ready.run.events}: {counted(log.num_damaged, 'damaged line')} left out")
        if step > 0:
            note_checkpoint(ready.run, log, step)
        return cls(session, display, view, log, board, scorer)

    def __enter__(self) -> Journal:
        """Start drawing."""
        self.view.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop drawing and close the logs."""
        self.view.__exit__(kind, error, trace)
        self.log.close()
        self.board.close()

    def step(self, result: StepResult) -> None:
        """Record one update. Values are fetched from the device in groups, since each fetch makes the host wait."""
        self.pending.append((time.monotonic(), replace(result, num_images=self.session.images_per_step)))
        is_first = result.step == self.view.first_step + 1
        if is_first or not result.on_device.is_cuda or time.monotonic() - self.pending[0][0] >= _FETCH_SECONDS:
            self.catch_up()

    def catch_up(self) -> None:
        """Log every pending update. Raises TrainingError for the first whose values are not finite."""
        for when, result in self.pending:
            result.check()
            self._take_down(result, when)
        self.pending.clear()

    def _take_down(self, result: StepResult, when: float) -> None:
        numbers: dict[str, float] = {"loss": result.loss, "instance_loss": result.instance_loss}
        if result.prior_loss is not None:
            numbers["prior_loss"] = result.prior_loss
        numbers["gradient_norm"] = result.gradient_norm
        self._note("step", step=result.step, **numbers, learning_rates=result.learning_rates)
        rates = {f"learning_rate/{name}": rate for name, rate in result.learning_rates.items()}
        self.board.add(result.step, {**{f"train/{name}": value for name, value in numbers.items()}, **rates})
        self.view.step(result, when)

    def look(self, due: Due) -> None:
        """Run validation, scoring and previews if they are due."""
        if not due.looks:
            return
        step = self.session.state.step
        self.catch_up()
        start = time.monotonic()
        if due.validates:
            self._validate(step)
        if due.scores:
            self._score(step)
        if due.previews:
            self._preview(step)
        if due.logs_images:
            self._log_images(step)
        self.view.leave_out(time.monotonic() - start)

    def _note(self, event: str, *, step: int, **values: Any) -> None:
        """Write a record to the run's events and send it to listeners of the display."""
        self.log.add(event, step=step, **values)
        self.display.event(event, {"step": step, **values})

    @property
    def ends_early(self) -> bool:
        """Whether training should stop early at this step, which must have been scored."""
        return peak_has_passed(self.session)

    def chose(self) -> None:
        """Record which model became the final one."""
        self._note("selection", step=self.session.state.step, **what_was_chosen(self.session))

    def wrote(self, model: Path) -> None:
        """Report the file of this step's model."""
        self.view.say(f"step {self.session.state.step}: wrote model {model}")

    def saved(self, checkpoint: Path) -> None:
        """Record that a checkpoint was saved."""
        self._note("checkpoint", step=self.session.state.step, path=str(checkpoint))
        self.view.say(f"step {self.session.state.step}: saved checkpoint {checkpoint}")

    def _score(self, step: int) -> None:
        assert self.scorer is not None, "the main process has encoders if something is scored"
        try:
            found = self.scorer.look()
        except ModelFileError as error:
            if step == 0:
                raise
            self.view.say(f"step {step}: no scores. {error}")
            return
        self._note("evaluation", step=step, **found)
        self.board.add(step, {f"evaluation/{name}": value for name, value in _numbers(found).items()})
        for name, one in found.get("subjects", {}).items():
            self.board.add(step, {f"evaluation/{name}/{score}": value for score, value in _numbers(one).items()})
        self.view.balance(found["balance"])
        for text in scores_texts(found):
            self.view.say(f"step {step}: {text}")

    def _preview(self, step: int) -> None:
        latents = self.session.preview_latents()
        try:
            sheet = self.session.previewer.write(step, latents)
        except ModelFileError as error:  # an image that is not finite is no reason to stop: half precision may overflow
            self.view.say(f"step {step}: no preview. {error}")
            return
        self._note("preview", step=step, sheet=str(sheet))
        self.view.say(f"step {step}: previews in {sheet}")

    def _log_images(self, step: int) -> None:
        latents = image_log_latents(self.session)
        folder = self.session.ready.run.image_log("samples", step).parent
        try:
            write_image_log(self.session, latents)
        except ModelFileError as error:
            self.view.say(f"step {step}: no image log. {error}")
            return
        self._note("image_log", step=step, folder=str(folder))
        self.view.say(f"step {step}: inputs and samples in {folder}")

    def _validate(self, step: int) -> None:
        losses = self.session.validation_losses()
        self._note("validation", step=step, **{f"{role}_loss": loss for role, loss in losses.items()})
        self.board.add(step, {f"validation/{role}_loss": loss for role, loss in losses.items()})
        self.view.validation(losses)


def _numbers(scored: Mapping[str, Any]) -> dict[str, float]:
    return {**scored["scores"], **{name: value for name, value in scored.items() if isinstance(value, float)}}


class SilentJournal:
    """The journal of the processes other than the main one: checks every value and reports nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pending: list[StepResult] = []

    def __enter__(self) -> SilentJournal:
        """Nothing to open."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to close."""

    def step(self, result: StepResult) -> None:
        """Keep it until `catch_up`."""
        self._pending.append(result)

    def catch_up(self) -> None:
        """Raise TrainingError for the first update whose numbers are not finite."""
        for result in self._pending:
            result.check()
        self._pending.clear()

    def look(self, due: Due) -> None:
        """Take part in the forward passes of the main process if they need all processes; otherwise do nothing."""
        if not self._session.all_take_part or not due.looks_together:
            return
        self.catch_up()  # if the main process stops for a value that is not finite, this one must stop too
        if due.validates:
            self._session.validation_losses()
        if due.previews:
            self._session.preview_latents()
        if due.logs_images:
            image_log_latents(self._session)

    @property
    def ends_early(self) -> bool:
        """Always False; the main process decides."""
        return False

    def chose(self) -> None:
        """Nothing; the main process reports."""

    def wrote(self, model: Path) -> None:
        """Nothing; the main process reports."""

    def saved(self, checkpoint: Path) -> None:
        """Nothing; the main process reports."""
