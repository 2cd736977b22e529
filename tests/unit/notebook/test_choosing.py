"""The models of a run, and one of them chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from dreambooth.errors import RunError
from dreambooth.notebook import choosing
from dreambooth.notebook.choosing import choose_model, show_pictures
from dreambooth.pages.images import save_picture
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.saved_models import saved_models


def _model(path: Path, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": np.zeros(4, dtype=np.float32)}, path, metadata={"global_step": str(step)})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = RunFolder(tmp_path / "rex")
    for step in (100, 50):
        _model(folder.model_at(step), step)
    _model(folder.final_model, 120)
    save_picture(folder.previews / "step-000050" / "00-a.png", torch.zeros(3, 8, 8), {})
    return folder.path


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    things: list[Any] = []
    monkeypatch.setattr(choosing, "show", things.append)
    return things


def test_models_come_in_the_order_of_their_steps_with_their_previews(run: Path) -> None:
    models = saved_models(run)
    assert [(model.step, model.path.name) for model in models] == [
        (50, "step-000050.safetensors"),
        (100, "step-000100.safetensors"),
        (120, "model.safetensors"),
    ]
    assert [len(model.pictures) for model in models] == [1, 0, 0]


def test_a_model_says_its_step_itself(run: Path) -> None:
    _model(RunFolder(run).final_model, 80)  # training went on past the last step of before
    assert [model.step for model in saved_models(run)] == [50, 80, 100]


def test_the_last_one_stands_until_another_is_chosen(run: Path, shown: list[Any]) -> None:
    choice = choose_model(run)
    assert choice.path == run / "model.safetensors"
    table, box = shown
    assert table.count("<img") == 1
    box.value = saved_models(run)[0]
    assert choice.path.name == "step-000050.safetensors"


def test_a_step_can_be_named_where_there_are_no_widgets(run: Path, shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "find_widgets", lambda: None)
    assert choose_model(run, step=100).model.step == 100
    assert len(shown) == 1
    with pytest.raises(RunError, match="no model was saved at step 99\nModels exist for steps 50, 100, 120"):
        choose_model(run, step=99)


def test_a_run_without_models_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no model has been saved yet"):
        choose_model(tmp_path)


def test_the_newest_pictures_are_shown_in_rows(run: Path, tmp_path: Path, shown: list[Any]) -> None:
    for number in range(6):
        save_picture(tmp_path / "pictures" / f"{number}.png", torch.zeros(3, 8, 8), {})
    show_pictures(tmp_path / "pictures", newest=5)
    assert shown[0].count("<img") == 5 and shown[0].count("<tr>") == 2
