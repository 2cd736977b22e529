"""What is written after a step, and in which order: a checkpoint's model is there before the checkpoint is."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dreambooth.runs.folder import RunFolder
from dreambooth.runs.model_names import XavierXiaoNames
from dreambooth.trainer import saving
from dreambooth.trainer.due import Due
from dreambooth.trainer.saving import save_what_is_due
from dreambooth.training.settings import OutputSettings

RUN = Path("run")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in its order."""
    done: list[str] = []

    def save_checkpoint(*_: Any, is_scheduled: bool, **__: Any) -> Path:
        done.append(f"checkpoint, {'scheduled' if is_scheduled else 'because it stops'}")
        return RUN

    monkeypatch.setattr(saving, "save_checkpoint", save_checkpoint)
    monkeypatch.setattr(saving, "remove_old_checkpoints", lambda _, *, keep: done.append(f"keep {keep}"))
    monkeypatch.setattr(saving, "put_chosen_model", lambda _: done.append("choose"))
    monkeypatch.setattr(saving, "link_or_copy", lambda source, target: done.append(f"{target} is {source}"))
    return done


def save(done: list[str], due: Due, *, saves: bool = False, chooses: bool = False, run: RunFolder | None = None) -> list[str]:
    def record(name: str) -> Any:
        return lambda *_: done.append(name)

    ready = SimpleNamespace(
        run=run or RunFolder(RUN),
        processes=SimpleNamespace(is_main=True, together=nullcontext),
        measured=SimpleNamespace(chooses=chooses),
        outputs=SimpleNamespace(keep_checkpoints=2, settings=OutputSettings()),
    )
    session: Any = SimpleNamespace(
        ready=ready,
        state=SimpleNamespace(step=7),
        trainee=SimpleNamespace(parameters={}),
        material=SimpleNamespace(made_of={}),
        host_values=nullcontext,
        write_model=lambda path: done.append(f"model {path}"),
    )
    journal: Any = SimpleNamespace(
        catch_up=record("catch up"), chose=record("chose"), wrote=record("wrote"), saved=record("saved")
    )
    save_what_is_due(session, journal, due, saves=saves)
    return done


def test_nothing_is_due(calls: list[str]) -> None:
    assert save(calls, Due(validates=True, previews=True)) == []


def test_a_model_before_its_checkpoint(calls: list[str]) -> None:
    model = str(RunFolder(RUN).model_at(7))
    assert save(calls, Due(writes_model=True, writes_checkpoint=True)) == [
        *("catch up", f"model {model}", "wrote", "checkpoint, scheduled", "keep 2", "saved")
    ]


def test_a_model_alone(calls: list[str]) -> None:
    assert save(calls, Due(writes_model=True)) == ["catch up", f"model {RunFolder(RUN).model_at(7)}", "wrote"]


def test_the_last_step(calls: list[str]) -> None:
    last = Due(writes_model=True, writes_checkpoint=True, is_last=True)
    assert save(calls, last)[:2] == ["catch up", f"model {RunFolder(RUN).final_model}"]


def test_the_last_step_of_a_run_that_is_scored(calls: list[str]) -> None:
    last = Due(writes_model=True, writes_checkpoint=True, is_last=True)
    assert save(calls, last, chooses=True)[:4] == ["catch up", f"model {RunFolder(RUN).model_at(7)}", "choose", "chose"]


def test_a_stop_saves_a_checkpoint_that_no_interval_asked_for(calls: list[str]) -> None:
    assert save(calls, Due(), saves=True) == ["catch up", "checkpoint, because it stops", "keep 2", "saved"]


def test_a_layout_whose_newest_model_has_a_name_of_its_own(calls: list[str]) -> None:
    run = RunFolder(RUN, XavierXiaoNames(steps_per_epoch=1, model_steps=1))
    assert run.newest_model is not None
    assert save(calls, Due(writes_model=True), run=run)[-1] == f"{run.newest_model} is {run.model_at(7)}"
    calls.clear()
    assert save(calls, Due(), saves=True, run=run)[1] == f"model {run.newest_model}"
