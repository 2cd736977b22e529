"""What a program hears, and that each display takes all that a recipe may say."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from dreambooth.display import Display, Row, TrainingStatus
from dreambooth.display_console import ConsoleDisplay
from dreambooth.display_events import EventsDisplay
from dreambooth.display_silent import SilentDisplay

STATUS = TrainingStatus(3, "5 s", (Row("loss photos", "0.5"), Row("gradient norm", "1.5", is_detail=True)))


def speak(display: Display) -> None:
    """Everything once."""
    display.say("two photos")
    display.warn("only two photos")
    display.table("Photos", ("photo", "problem"), (("a.jpg", "too small"),))
    with display.progress("class images", 3, "images") as advance:
        advance(1)
        advance(2)
    with display.training(first_step=2, last_step=4) as show:
        show(STATUS)
    display.event("validation", {"step": 3, "instance_loss": 0.25})


def test_a_program_hears_everything_in_order_as_plain_records() -> None:
    records: list[dict[str, Any]] = []
    speak(EventsDisplay(records.append))
    progress = {"event": "progress", "description": "class images", "total": 3, "unit": "images"}
    assert records == [
        {"event": "say", "text": "two photos"},
        {"event": "warn", "text": "only two photos"},
        {"event": "table", "title": "Photos", "columns": ["photo", "problem"], "rows": [["a.jpg", "too small"]]},
        {**progress, "done": 0},
        {**progress, "done": 1},
        {**progress, "done": 3},
        {
            "event": "training",
            "step": 3,
            "last_step": 4,
            "time_left": "5 s",
            "rows": {"loss photos": "0.5", "gradient norm": "1.5"},
        },
        {"event": "validation", "step": 3, "instance_loss": 0.25},
    ]
    assert json.loads(json.dumps(records)) == records


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_console_shows_no_events_and_the_status_of_the_first_step(is_terminal: bool) -> None:
    out = io.StringIO()
    speak(ConsoleDisplay(Console(file=out, width=80, force_terminal=is_terminal)))
    text = out.getvalue()
    assert "validation" not in text and "0.25" not in text
    assert ("gradient norm" in text) is is_terminal
    assert ("step 3/4  loss photos 0.5\n" in text) is not is_terminal


def test_a_silent_display_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    speak(SilentDisplay())
    assert capsys.readouterr() == ("", "")
