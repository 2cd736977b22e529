"""What a look takes down, in the run's events and for whoever listens; and where other processes take part."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dreambooth.display_events import EventsDisplay
from dreambooth.errors import ModelFileError, TrainingError
from dreambooth.runs.boards import Boards
from dreambooth.runs.events import EventLog, read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.trainer import journal as journal_module
from dreambooth.trainer.due import Due
from dreambooth.trainer.journal import Journal, SilentJournal, note_checkpoint
from dreambooth.trainer.live_view import LiveView
from dreambooth.training.loop import StepResult

ALL = Due(validates=True, scores=True, previews=True, logs_images=True)
FOUND: dict[str, Any] = {"balance": 0.75, "fidelity": 1.0, "prompt": 0.5, "prior": None, "scores": {"DINO": 0.5}}


def result(step: int, loss: float = 0.5) -> StepResult:
    numbers = torch.tensor([loss, loss, float("nan"), 1.5])
    return StepResult(step=step, on_device=numbers, learning_rates={"unet": 1e-6}, num_images=2, seen=((), ()))


class Stage:
    """A session, a clock and a scorer that note what is asked of them; a look takes 100 seconds for each part."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, all_take_part: bool = True) -> None:
        self.done: list[str] = []
        self.heard: list[dict[str, Any]] = []
        self.now = 0.0
        self.unreadable = False
        self.run = RunFolder(folder)
        self.session: Any = SimpleNamespace(
            ready=SimpleNamespace(run=self.run),
            state=SimpleNamespace(step=3),
            images_per_step=2,
            all_take_part=all_take_part,
            validation_losses=lambda: self.take("validation", {"instance": 0.25}),
            preview_latents=lambda: self.take("latents", None),
            previewer=SimpleNamespace(write=self.write_preview),
        )
        monkeypatch.setattr(journal_module, "image_log_latents", lambda _: self.take("image log", None))
        monkeypatch.setattr(journal_module, "write_image_log", lambda *_: self.take("images", None))
        monkeypatch.setattr(journal_module.time, "monotonic", lambda: self.now)

    def take(self, what: str, value: Any) -> Any:
        self.now += 100.0
        self.done.append(what)
        return value

    def write_preview(self, step: int, _latents: object) -> Path:
        if self.unreadable:
            raise ModelFileError("a picture is not finite")
        return self.take("preview", Path(f"sheet-{step}.png"))

    def journal(self) -> Journal:
        display = EventsDisplay(self.heard.append)
        view = LiveView(display, first_step=0, last_step=10, peak_memory=lambda: 0)
        scorer: Any = SimpleNamespace(look=lambda: self.take("scores", FOUND))
        return Journal(self.session, display, view, EventLog(self.run.events), Boards(), scorer)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path / "run", monkeypatch)


def test_a_checkpoint_that_a_killed_run_did_not_record_is_recorded_once(stage: Stage) -> None:
    stage.run.path.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        with closing(EventLog(stage.run.events, resume_step=5)) as log:
            note_checkpoint(stage.run, log, 5)
    events = read_events(stage.run.events)
    assert [(event["event"], event["step"], event["path"]) for event in events] == [
        ("checkpoint", 5, str(stage.run.checkpoint_at(5)))
    ]


def test_a_look_does_what_is_due_in_this_order(stage: Stage) -> None:
    with stage.journal() as journal:
        journal.look(ALL)
    assert stage.done == ["validation", "scores", "latents", "preview", "image log", "images"]


@pytest.mark.parametrize(
    ("due", "done"),
    [
        (Due(), []),
        (Due(writes_model=True, writes_checkpoint=True, is_last=True), []),
        (Due(validates=True), ["validation"]),
        (Due(scores=True), ["scores"]),
        (Due(previews=True), ["latents", "preview"]),
        (Due(logs_images=True), ["image log", "images"]),
    ],
)
def test_a_look_does_nothing_else(stage: Stage, due: Due, done: list[str]) -> None:
    with stage.journal() as journal:
        journal.look(due)
    assert stage.done == done


def test_whoever_listens_hears_the_events_of_the_run(stage: Stage) -> None:
    with stage.journal() as journal:
        journal.step(result(3))
        journal.look(ALL)
        journal.saved(Path("checkpoints/step-000003"))
    events = [{name: value for name, value in event.items() if name != "time"} for event in read_events(stage.run.events)]
    assert [event["event"] for event in events] == ["step", "validation", "evaluation", "preview", "image_log", "checkpoint"]
    assert events[0]["loss"] == 0.5
    assert events[1] == {"event": "validation", "step": 3, "instance_loss": 0.25}
    heard = [record for record in stage.heard if record["event"] not in ("say", "training")]
    assert heard == events


def test_the_scores_of_each_of_several_subjects_are_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FOUND, "subjects", {"rex bag": {**FOUND, "balance": 1.0}, "ada mug": {**FOUND, "balance": 0.5}})
    with stage.journal() as journal:
        journal.look(Due(scores=True))
    assert [record["text"] for record in stage.heard if record["event"] == "say"] == [
        "step 3: mean balance of 2 subjects 0.750 (DINO 0.500)",
        "step 3: rex bag: balance 1.000 (DINO 0.500)",
        "step 3: ada mug: balance 0.500 (DINO 0.500)",
    ]


def test_the_time_of_a_look_is_no_time_of_training(stage: Stage) -> None:
    with stage.journal() as journal:
        for step in (1, 2):
            stage.now += 2.0
            journal.step(result(step))
        journal.look(ALL)
        stage.now += 2.0
        journal.step(result(3))
    speeds = [record["rows"]["speed"] for record in stage.heard if record["event"] == "training"]
    assert speeds == ["2.00 s/step, 1.00 images/s"] * 3


def test_a_preview_that_cannot_be_drawn_is_said_and_training_goes_on(stage: Stage) -> None:
    stage.unreadable = True
    with stage.journal() as journal:
        journal.look(Due(previews=True, logs_images=True))
    assert [record["event"] for record in stage.heard] == ["say", "image_log", "say"]
    assert stage.heard[0]["text"] == "step 3: no preview. a picture is not finite"


def test_a_look_comes_after_the_check_of_the_steps_before_it(stage: Stage) -> None:
    with stage.journal() as journal:
        journal.pending.append((0.0, result(3, loss=float("inf"))))
        with pytest.raises(TrainingError):
            journal.look(Due(validates=True))
    assert stage.done == []


@pytest.mark.parametrize(
    ("due", "done"),
    [
        (ALL, ["validation", "latents", "image log"]),
        (Due(scores=True), []),
        (Due(validates=True), ["validation"]),
        (Due(previews=True), ["latents"]),
        (Due(logs_images=True), ["image log"]),
    ],
)
def test_other_processes_take_part_in_all_but_the_scores(stage: Stage, due: Due, done: list[str]) -> None:
    SilentJournal(stage.session).look(due)
    assert stage.done == done


def test_other_processes_with_whole_weights_have_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path / "run", monkeypatch, all_take_part=False)
    SilentJournal(stage.session).look(ALL)
    assert stage.done == []


def test_other_processes_stop_for_the_same_number(stage: Stage) -> None:
    journal = SilentJournal(stage.session)
    journal.step(result(3, loss=float("nan")))
    journal.look(Due(scores=True))  # in which they have no part
    with pytest.raises(TrainingError):
        journal.look(Due(validates=True))
    assert stage.done == []
