"""Where numbers are also sent. A module of the test stands for Weights & Biases: nothing is sent anywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dreambooth.errors import RunError, SettingsError
from dreambooth.runs import boards
from dreambooth.runs.boards import Boards, TensorBoard, check_boards, open_boards
from dreambooth.runs.folder import RunFolder


class Wandb(ModuleType):
    """Remembers what it was given, or refuses."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.error: Exception | None = None
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.num_finished = 0

    def Settings(self, **given: Any) -> dict[str, Any]:  # noqa: N802
        return given

    def init(self, **given: Any) -> Wandb:
        if self.error is not None:
            raise self.error
        self.begun.append(given)
        return self

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.num_finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_missing_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError) as caught:
        check_boards(tensorboard=True, wandb="dogs")
    assert caught.value.problems == (
        "tensorboard is on, but its package is not installed",
        "wandb is on, but its package is not installed",
    )
    assert caught.value.hint == "Type: pip install tensorboard wandb"
    check_boards(tensorboard=False, wandb=None)


def test_nothing_is_loaded_or_written_unless_it_is_asked_for(tmp_path: Path, wandb: Wandb) -> None:
    board = open_boards(RunFolder(tmp_path), tensorboard=False, wandb=None, settings={})
    assert board == Boards([])
    board.add(1, {"loss": 0.5})
    board.close()
    assert not list(tmp_path.iterdir()) and not wandb.begun


def test_weights_and_biases_gets_the_numbers_and_the_settings(tmp_path: Path, wandb: Wandb) -> None:
    run = RunFolder(tmp_path / "rex")
    for step in (1, 2):
        board = open_boards(run, tensorboard=False, wandb="dogs", settings={"loop": {"steps": 3}})
        board.add(step, {"train/loss": 0.5})
        board.close()
    first, resumed = wandb.begun
    assert first == resumed, "a resumed run goes on with the same one"
    assert len(first.pop("id")) == 16
    assert first == {
        **{"project": "dogs", "name": "rex", "resume": "allow", "dir": str(run.wandb)},
        **{"config": {"loop": {"steps": 3}}, "settings": {"silent": True}},
    }
    assert wandb.logged == [(1, {"train/loss": 0.5}), (2, {"train/loss": 0.5})]
    assert wandb.num_finished == 2


def test_a_refusal_is_explained(tmp_path: Path, wandb: Wandb) -> None:
    wandb.error = ValueError("api_key not configured\nmore")
    with pytest.raises(RunError) as caught:
        open_boards(RunFolder(tmp_path), tensorboard=False, wandb="dogs", settings={})
    assert caught.value.problems == ("Weights & Biases could not start (ValueError: api_key not configured)",)


def test_tensorboard_writes_its_files_when_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = TensorBoard(tmp_path)
    board.add(1, {"loss/instance": 0.5})
    board.close()
    assert list(tmp_path.glob("events.out.tfevents.*"))
