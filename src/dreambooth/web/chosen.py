"""The model of a project that is tried and taken away."""

from __future__ import annotations

from dataclasses import dataclass

from dreambooth.errors import RunError
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.saved_models import SavedModel, saved_models
from dreambooth.web.projects import Project

__all__ = ["Chosen", "chosen_model"]


@dataclass(frozen=True)
class Chosen:
    """The model that is tried and taken away."""

    run: RunFolder
    model: SavedModel
    is_last: bool
    """Whether it is the run's final model, for which the run folder itself stands."""

    @property
    def name(self) -> str:
        """What a command calls it."""
        return str(self.run.path if self.is_last else self.model.path)


def chosen_model(project: Project) -> Chosen:
    """The chosen model, or the final one of the newest run, or its last. Raises RunError when there is none."""
    notes = project.notes
    runs = [run for run in project.all_runs() if saved_models(run.path)]
    if not runs:
        raise RunError("there is no model yet", hint="Train first.")
    run = next((one for one in runs if one.path.name == notes.chosen_run), runs[-1])
    models = saved_models(run.path)
    usual = next((one for one in models if one.path == run.final_model), models[-1])
    model = next((one for one in models if one.step == notes.chosen_step and run.path.name == notes.chosen_run), usual)
    return Chosen(run, model, is_last=model.path == run.final_model)
