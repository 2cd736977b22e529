"""Where everything of a run is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: the resolved settings, events, previews, checkpoints to resume from, models to use."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved settings; training with them again repeats the run."""
        return self.path / "config.yaml"

    @property
    def events(self) -> Path:
        """One JSON object a line: steps, validations, previews, checkpoints."""
        return self.path / "events.jsonl"

    @property
    def previews(self) -> Path:
        """Preview pictures by step, and the sheet over time."""
        return self.path / "previews"

    @property
    def checkpoints(self) -> Path:
        """Folders step-000500 and so on, to resume from."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's files, when asked for."""
        return self.path / "tensorboard"

    @property
    def final_model(self) -> Path:
        """The model of the last step."""
        return self.path / "model.safetensors"

    def model_at(self, step: int) -> Path:
        """The model of an earlier step."""
        return self.path / "models" / f"step-{step:06d}.safetensors"

    def checkpoint_at(self, step: int) -> Path:
        """The checkpoint of a step."""
        return self.checkpoints / f"step-{step:06d}"
