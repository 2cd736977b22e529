"""Which model the scores choose, read from a run's events alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dreambooth.errors import RunError
from dreambooth.measures.settings import SelectionSettings
from dreambooth.runs.events import EventLog
from dreambooth.runs.folder import RunFolder
from dreambooth.trainees.with_word import word_beside
from dreambooth.trainer.selection import check_best_is_there, peak_has_passed, put_back_model, put_chosen_model, what_was_chosen

PEAK_AT_2 = {0: 0.0, 1: 0.5, 2: 1.0, 3: 0.75, 4: 0.25}


def run_of(folder: Path, balances: Mapping[int, float]) -> RunFolder:
    """A run with these balances by step, and a file for the model of each step but 0."""
    run = RunFolder(folder / "run")
    log = EventLog(run.events)
    for step, balance in balances.items():
        log.add("evaluation", step=step, balance=balance, fidelity=balance, prompt=balance, prior=None, scores={})
        if step > 0:
            run.model_at(step).parent.mkdir(parents=True, exist_ok=True)
            run.model_at(step).write_text(f"model of step {step}", encoding="utf-8")
    log.close()
    return run


def session_of(run: RunFolder, *, step: int, is_scored: bool = True, **selection: Any) -> Any:
    written: list[Path] = []
    processes = SimpleNamespace(is_main=True, together=nullcontext, any=bool)
    measured = SimpleNamespace(selection=SelectionSettings(evaluate_every=1, **selection), chooses=True)
    return SimpleNamespace(
        ready=SimpleNamespace(run=run, processes=processes, measured=measured, loop=SimpleNamespace(steps=4)),
        state=SimpleNamespace(step=step),
        due=SimpleNamespace(scores=is_scored),
        write_model=written.append,
        written=written,
    )


@pytest.mark.parametrize(("select", "step"), [("best", 2), ("last", 4)])
def test_the_final_model_is_that_of_the_chosen_step(tmp_path: Path, select: str, step: int) -> None:
    run = run_of(tmp_path, PEAK_AT_2)
    session = session_of(run, step=4, select=select)
    put_chosen_model(session)
    assert run.final_model.read_text(encoding="utf-8") == f"model of step {step}"
    found = what_was_chosen(session)
    assert (found["chosen"], found["best"]) == (step, 2)
    assert found["balances"] == {"1": 0.5, "2": 1.0, "3": 0.75, "4": 0.25}


def test_the_mean_of_several_subjects_chooses_and_each_is_told(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    log = EventLog(run.events)
    for step, (rex, ada) in {1: (0.5, 0.5), 2: (0.75, 0.625), 3: (0.25, 0.875)}.items():
        parts = {"fidelity": None, "prompt": None, "prior": None, "scores": {}}
        each = {"rex bag": {"balance": rex, **parts}, "ada mug": {"balance": ada, **parts}}
        log.add("evaluation", step=step, balance=(rex + ada) / 2, **parts, subjects=each)
    log.close()
    found = what_was_chosen(session_of(run, step=3))
    assert (found["best"], found["balances"]) == (2, {"1": 0.5, "2": 0.6875, "3": 0.5625})
    assert found["subjects"] == {
        "rex bag": {"1": 0.5, "2": 0.75, "3": 0.25},
        "ada mug": {"1": 0.5, "2": 0.625, "3": 0.875},
    }
    assert "step 2, with a mean balance of 2 subjects of 0.688 (rex bag 0.750, ada mug 0.625); averaged" in found["text"]


def test_the_word_of_the_chosen_step_becomes_the_final_one(tmp_path: Path) -> None:
    run = run_of(tmp_path, PEAK_AT_2)
    for step in (1, 2, 3, 4):
        word = word_beside(run.model_at(step))
        word.parent.mkdir(exist_ok=True)
        word.write_text(f"word of step {step}", encoding="utf-8")
    put_chosen_model(session_of(run, step=4, select="best"))
    assert word_beside(run.final_model).read_text(encoding="utf-8") == "word of step 2"


def test_scores_of_later_steps_do_not_count(tmp_path: Path) -> None:
    """A run that was resumed from an older checkpoint makes those steps again."""
    assert what_was_chosen(session_of(run_of(tmp_path, PEAK_AT_2), step=1))["best"] == 1


def test_without_scores_nothing_was_chosen(tmp_path: Path) -> None:
    assert what_was_chosen(session_of(RunFolder(tmp_path / "run"), step=4)) == {}


def test_a_run_that_stayed_below_its_base_model_says_so(tmp_path: Path) -> None:
    above = what_was_chosen(session_of(run_of(tmp_path, PEAK_AT_2), step=4))["text"]
    below = what_was_chosen(session_of(run_of(tmp_path / "low", {**PEAK_AT_2, 0: 2.0}), step=4))["text"]
    assert "No scored step is above" not in above
    assert "No scored step is above the base model's 2.000" in below


def test_a_best_model_that_is_gone_is_missed(tmp_path: Path) -> None:
    run, best = run_of(tmp_path, PEAK_AT_2), SelectionSettings(evaluate_every=1, select="best")
    check_best_is_there(run, best, last=4)
    run.model_at(2).unlink()
    with pytest.raises(RunError, match="it was the run's best model"):
        check_best_is_there(run, best, last=4)
    check_best_is_there(run, SelectionSettings(evaluate_every=1, select="last"), last=4)
    check_best_is_there(run, best, last=2)  # the checkpoint of step 2 holds the same weights


@pytest.mark.parametrize(
    ("step", "selection", "passed"),
    [
        (4, {"early_stop_margin": 0.1, "early_stop_patience": 1}, True),
        (4, {"early_stop_margin": 1.0, "early_stop_patience": 1}, False),
        (2, {"early_stop_margin": 0.1, "early_stop_patience": 1}, False),
        (4, {"early_stop_margin": 0.1, "early_stop_patience": 5}, False),
        (4, {}, False),
    ],
)
def test_a_run_ends_when_the_balance_stays_below_its_peak(
    tmp_path: Path, step: int, selection: dict[str, Any], passed: bool
) -> None:
    assert peak_has_passed(session_of(run_of(tmp_path, PEAK_AT_2), step=step, **selection)) is passed


@pytest.mark.parametrize(
    ("step", "is_scored", "is_there", "is_written"),
    [(3, True, False, True), (3, True, True, False), (3, False, False, False), (4, False, False, True)],
)
def test_the_model_of_the_restored_step_is_written_again(
    tmp_path: Path, step: int, is_scored: bool, is_there: bool, is_written: bool
) -> None:
    run = run_of(tmp_path, PEAK_AT_2)
    if not is_there:
        run.model_at(step).unlink()
    session = session_of(run, step=step, is_scored=is_scored)
    put_back_model(session)
    assert session.written == ([run.model_at(step)] if is_written else [])
