"""The models that a training wrote, with their previews."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from dreambooth.runs.folder import RunFolder
from dreambooth.runs.progress import preview_pictures

__all__ = ["SavedModel", "saved_models"]


@dataclass(frozen=True)
class SavedModel:
    """A model that training wrote."""

    step: int
    path: Path
    pictures: tuple[Path, ...]
    """Its previews; empty when none were made at this step."""

    @property
    def label(self) -> str:
        """Text for lists."""
        return f"step {self.step}: {self.path.name}, {self.path.stat().st_size / 1e9:.2f} GB"


def saved_models(run: Path) -> tuple[SavedModel, ...]:
    """The models of a run, earliest step first. The step is read from the file, not from its name.

    A step that training selected as the final model has two files; the final one stands for both.
    """
    folder = RunFolder(run)
    files = [*folder.model_at(0).parent.glob("*.safetensors"), folder.final_model]
    steps = {path: _step_of(path) for path in files if path.is_file()}
    final = steps.get(folder.final_model, 0)
    steps = {path: step for path, step in steps.items() if path == folder.final_model or step != final or step == 0}
    models = (SavedModel(step, path, tuple(preview_pictures(folder, step))) for path, step in steps.items())
    return tuple(sorted(models, key=lambda model: (model.step, model.path)))


def _step_of(path: Path) -> int:
    try:
        with safe_open(path, framework="numpy") as file:
            return int((file.metadata() or {}).get("global_step", 0))
    except (OSError, SafetensorError, ValueError):  # damaged, or of another program
        return 0
