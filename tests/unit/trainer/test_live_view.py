"""What is shown while training runs."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
import torch
from rich.console import Console

from dreambooth.display_console import ConsoleDisplay
from dreambooth.display_events import EventsDisplay
from dreambooth.display_silent import SilentDisplay
from dreambooth.runs.progress import Smoothed
from dreambooth.trainer import live_view
from dreambooth.trainer.live_view import LiveView
from dreambooth.training.loop import StepResult


def result(step: int, *, prior_loss: float | None = 0.25) -> StepResult:
    return StepResult(
        step=step,
        on_device=torch.tensor([0.75, 0.5, float("nan") if prior_loss is None else prior_loss, 1.5]),
        learning_rates={"unet": 1e-6},
        num_images=2,
        seen=((), ()),
    )


def make_view(*, is_terminal: bool, last_step: int = 100) -> tuple[LiveView, io.StringIO]:
    file = io.StringIO()
    display = ConsoleDisplay(Console(file=file, force_terminal=is_terminal, width=100))
    return LiveView(display, first_step=0, last_step=last_step, peak_memory=lambda: 3 * 2**30), file


def test_a_constant_smooths_to_itself_from_the_first_value_on() -> None:
    smoothed = Smoothed()
    assert [smoothed.add(0.3) for _ in range(3)] == pytest.approx([0.3, 0.3, 0.3])
    assert smoothed.add(1.3) == pytest.approx(0.3 + 1 * 0.05 / (1 - 0.95**4))


def test_plain_lines_come_at_the_first_and_last_step_and_seldom_between() -> None:
    view, file = make_view(is_terminal=False)
    with view:
        for step in range(1, 101):
            view.step(result(step), time.monotonic())
            if step == 50:
                view.validation({"instance": 0.125, "prior": 0.5})
    first, last = file.getvalue().splitlines()
    assert first.startswith("step 1/100  loss photos 0.5000  (now 0.5000)  loss class 0.2500  (now 0.2500)  speed ")
    assert last.startswith("step 100/100  ")
    assert "validation photos 0.1250  class 0.5000" in last
    assert "time left 0 s" in last
    assert "peak memory 3.00 GiB" in last


def test_without_class_images_no_class_loss_is_shown() -> None:
    view, file = make_view(is_terminal=False, last_step=1)
    with view:
        view.step(result(1, prior_loss=None), time.monotonic())
    assert "loss photos" in file.getvalue()
    assert "loss class" not in file.getvalue()


def test_a_terminal_shows_everything_live() -> None:
    view, file = make_view(is_terminal=True)
    with view:
        view.step(result(1), time.monotonic())
        view.say("step 1: previews in x [not markup]")
    shown = file.getvalue()
    for part in ("training", "1/100", "loss photos", "gradient norm", "learning rate", "images/s", "left", "x [not markup]"):
        assert part in shown, part


def test_time_for_previews_is_no_time_for_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(live_view.time, "monotonic", lambda: now)
    view, file = make_view(is_terminal=False)
    with view:
        now = 60.0
        view.leave_out(60.0)  # the previews before the first step
        now = 62.0
        view.step(result(1), time.monotonic())
    assert "speed 2.00 s/step, 1.00 images/s  time left 3:18 min" in file.getvalue()


def test_time_for_previews_between_steps_is_no_time_for_training() -> None:
    """Ten steps of 2 s and a look of 100 s between them: 0.5 steps a second whatever the look took."""
    records: list[dict[str, Any]] = []
    view = LiveView(EventsDisplay(records.append), first_step=0, last_step=100, peak_memory=lambda: 0)
    with view:
        start = time.monotonic()
        for step in range(1, 6):
            view.step(result(step), start + 2 * step)
        view.leave_out(100.0)
        for step in range(6, 11):
            view.step(result(step), start + 2 * step + 100)
    assert [record["rows"]["speed"] for record in records] == ["2.00 s/step, 1.00 images/s"] * 10
    assert records[-1]["time_left"] == records[-1]["rows"]["time left"] == "3:00 min"


def test_a_silent_display_draws_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveView(SilentDisplay(), first_step=0, last_step=2, peak_memory=lambda: 0) as view:
        view.step(result(1), time.monotonic())
    assert capsys.readouterr() == ("", "")
