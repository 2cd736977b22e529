"""Shows the models of a run with their previews, and lets the user choose one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.errors import RunError
from dreambooth.notebook.markup import picture_rows
from dreambooth.notebook.showing import find_widgets, show
from dreambooth.runs.saved_models import SavedModel, saved_models

__all__ = ["Choice", "choose_model", "show_pictures"]

_SIDE = 192


@dataclass
class Choice:
    """The selected model; a list in the notebook can change it."""

    model: SavedModel

    @property
    def path(self) -> Path:
        """The file of the selected model."""
        return self.model.path


def choose_model(run: str | Path, *, step: int | None = None) -> Choice:
    """Show the models of `run` with their previews and a list to choose from; the last model is preselected.

    `step` preselects the model of that step; without widgets this is the only way to choose an earlier model. Raises RunError
    when the run has no models, or none of that step.
    """
    models = saved_models(Path(run))
    if not models:
        raise RunError(f"{run}: no model has been saved yet", hint="Continue training until its first checkpoint or its end.")
    choice = Choice(models[-1] if step is None else _at(step, models))
    show(picture_rows([(model.label, model.pictures) for model in models], side=_SIDE))
    widgets = find_widgets()
    if widgets is not None:
        options = [(model.label, model) for model in models]
        box = widgets.Dropdown(options=options, value=choice.model, description="Model", layout={"width": "480px"})

        def take(change: Mapping[str, Any]) -> None:
            choice.model = change["new"]

        box.observe(take, names="value")
        show(box)
    return choice


def _at(step: int, models: tuple[SavedModel, ...]) -> SavedModel:
    for model in models:
        if model.step == step:
            return model
    steps = ", ".join(str(model.step) for model in models)
    raise RunError(f"no model was saved at step {step}", hint=f"Models exist for steps {steps}.")


def show_pictures(folder: str | Path, *, newest: int = 8, side: int = 256) -> None:
    """Show the newest images of a folder and its subfolders as small squares."""
    files = sorted(Path(folder).rglob("*.png"), key=lambda path: (path.stat().st_mtime, path.name))[-newest:]
    columns = max(1, 1024 // side)
    show(picture_rows([("", files[start : start + columns]) for start in range(0, len(files), columns)], side=side))
