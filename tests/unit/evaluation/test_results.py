"""What is said of copies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from dreambooth.display import counted
from dreambooth.evaluation.results import alarm_text
from dreambooth.measures.metrics import Copying


def evaluation(found: Copying | None, *, has_own_photos: bool = True, num_photos: int = 1) -> Any:
    measured = SimpleNamespace(model=SimpleNamespace(copying=found))
    asked, evaluator = SimpleNamespace(has_own_photos=has_own_photos), SimpleNamespace(photos=[None] * num_photos)
    return SimpleNamespace(found=measured, asked=asked, evaluator=evaluator)


def test_an_alarm_says_what_to_do() -> None:
    said = alarm_text(evaluation(Copying(torch.zeros(4), 0.5, share=0.75)))
    assert said.startswith(
        "Copies: 75% of images look nearly identical to a training photo, above the warning threshold of 50%."
    )
    assert "train for fewer steps" in said


def test_no_alarm_is_said_as_well() -> None:
    few = Copying(torch.zeros(4), 0.5, share=0.25)
    assert alarm_text(evaluation(few)).startswith("Copies: 25% of images look nearly identical to a training photo (")
    assert "Training photos outside" not in alarm_text(evaluation(few))
    assert "Training photos outside" in alarm_text(evaluation(few, has_own_photos=False))
    assert "there is only one photo" in alarm_text(evaluation(None))
    assert "all photos are identical" in alarm_text(evaluation(None, num_photos=3))


def test_one_thing_is_not_called_several() -> None:
    assert [counted(num, "picture") for num in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]
