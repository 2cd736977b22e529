"""What a run wrote down becomes curves that can be read, and the choice of its model a sentence that is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreambooth.evaluation.run_curves import _thinned, run_curves
from dreambooth.runs.events import EventLog

CHOSEN: dict[str, Any] = {"chosen": 2, "best": 2, "text": "Step 2 is best", "balances": {"1": 0.6, "2": 0.75, "3": 0.55}}


def write_events(run: Path, *events: tuple[str, int, dict[str, Any]]) -> None:
    log = EventLog(run / "events.jsonl")
    for name, step, values in events:
        log.add(name, step=step, **values)
    log.close()


def scored(step: int, balance: float, prior: float | None = 1.0) -> tuple[str, int, dict[str, Any]]:
    return ("evaluation", step, {"balance": balance, "fidelity": balance / 2, "prompt": 1.0, "prior": prior, "scores": {}})


def test_the_balance_and_its_parts_run_over_all_scored_steps(tmp_path: Path) -> None:
    write_events(tmp_path, scored(0, 0.5), ("step", 1, {"instance_loss": 0.1}), scored(1, 0.6), scored(2, 0.75, None))
    curve, *losses = run_curves(tmp_path, step=2)
    assert curve.title == "Balance by step"
    assert curve.lines == {
        "balance": {0: 0.5, 1: 0.6, 2: 0.75},
        "fidelity": {0: 0.25, 1: 0.3, 2: 0.375},
        "prompt": {0: 1.0, 1: 1.0, 2: 1.0},
        "prior": {0: 1.0, 1: 1.0},
    }
    assert curve.sentence.endswith("which selects the best step."), "nothing is chosen yet"
    assert [one.title for one in losses] == ["Loss on fixed noise and held-out views", "Training loss"]


def test_each_of_several_subjects_has_its_own_balance(tmp_path: Path) -> None:
    def of_two(step: int, rex: float, ada: float) -> tuple[str, int, dict[str, Any]]:
        name, at, mean = scored(step, (rex + ada) / 2)
        return name, at, {**mean, "subjects": {"rex bag": scored(step, rex)[2], "ada mug": scored(step, ada)[2]}}

    write_events(tmp_path, of_two(0, 0.5, 0.5), of_two(1, 0.25, 0.75))
    mean, each, *_ = run_curves(tmp_path, step=1)
    assert (mean.title, mean.lines["balance"]) == ("Mean balance of the subjects by step", {0: 0.5, 1: 0.5})
    assert (each.title, each.lines) == (
        "Balance of each subject by step",
        {"rex bag": {0: 0.5, 1: 0.25}, "ada mug": {0: 0.5, 1: 0.75}},
    )


def test_a_part_that_nothing_measures_has_no_line(tmp_path: Path) -> None:
    write_events(tmp_path, scored(0, 0.5, None), scored(1, 0.6, None))
    assert [*run_curves(tmp_path, step=1)[0].lines] == ["balance", "fidelity", "prompt"]


def test_the_choice_is_told_in_the_run_s_own_words(tmp_path: Path) -> None:
    earlier = {**CHOSEN, "text": "An earlier choice"}
    write_events(tmp_path, scored(1, 0.6), ("selection", 2, earlier), scored(2, 0.75), ("selection", 3, CHOSEN))
    assert run_curves(tmp_path, step=2)[0].sentence.endswith(" Step 2 is best.")


def test_a_model_that_was_put_in_place_later_is_not_said_to_be_another(tmp_path: Path) -> None:
    """A finished run resumed with --select last has the last step's model, and its last choice still says the best's."""
    write_events(tmp_path, scored(2, 0.75), ("selection", 3, CHOSEN))
    sentence = run_curves(tmp_path, step=3)[0].sentence
    assert "Step 2 is best" not in sentence
    assert sentence.endswith("model is from step 3. The best of 3 scored steps is 2.")


def test_a_run_without_scores_has_its_losses_alone(tmp_path: Path) -> None:
    steps = [("step", step, {"instance_loss": 0.1, "prior_loss": 0.2}) for step in (1, 2)]
    write_events(tmp_path, *steps, ("validation", 1, {"instance_loss": 0.3}))
    validation, training = run_curves(tmp_path, step=2)
    assert validation.lines == {"photos": {1: 0.3}}
    assert training.lines == {"photos": {1: 0.1, 2: 0.1}, "class images": {1: 0.2, 2: 0.2}}


def test_many_losses_become_means_of_neighbours() -> None:
    line = _thinned({step: float(step) for step in range(1, 101)})
    assert len(line) <= 40
    assert line[3] == 2.0, "steps 1, 2 and 3"
    assert line[100] == 100.0, "the last one alone"
    assert [*line][-1] == 100
    assert sum(line.values()) / len(line) == pytest.approx(50.5, rel=0.02)
    assert _thinned({5: 1.0, 2: 3.0}) == {2: 3.0, 5: 1.0}
