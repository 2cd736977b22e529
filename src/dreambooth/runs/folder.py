"""Where everything of a run is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dreambooth.runs.model_names import ModelNames, OwnNames, epoch_of

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: the resolved settings, events, previews, checkpoints to resume from, models to use."""

    path: Path
    names: ModelNames = field(default_factory=OwnNames)
    """How models are called; of no matter to whoever asks for something else."""

    @property
    def config(self) -> Path:
        """The resolved settings; training with them again repeats the run."""
        return self.path / "config.yaml"

    @property
    def events(self) -> Path:
        """One JSON object a line: steps, validations, scores, previews, checkpoints."""
        return self.path / "events.jsonl"

    @property
    def status(self) -> Path:
        """Whether the run is running, in which process, and why it ended."""
        return self.path / "status.json"

    @property
    def previews(self) -> Path:
        """Preview pictures by step, and the sheet over time."""
        return self.path / "previews"

    @property
    def checkpoints(self) -> Path:
        """Folders step-000500 and so on, to resume from."""
        return self.path / "checkpoints"

    @property
    def scores(self) -> Path:
        """What scoring while training is held against: pictures of the base model, and features."""
        return self.path / "scores"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's files, when asked for."""
        return self.path / "tensorboard"

    @property
    def wandb(self) -> Path:
        """What Weights & Biases keeps, when asked for."""
        return self.path / "wandb"

    @property
    def final_model(self) -> Path:
        """The model of the last step."""
        return self.path / self.names.final

    @property
    def newest_model(self) -> Path | None:
        """The name under which the newest model is found before the last step as well; None where there is no such name."""
        return self.final_model if self.names.final_is_newest else None

    def model_at(self, step: int) -> Path:
        """The model of an earlier step."""
        return self.path / self.names.at(step)

    def image_log(self, what: str, step: int) -> Path:
        """A sheet of the image log: inputs, samples and so on of a step."""
        epoch, batch = epoch_of(step, self.names.steps_per_epoch)
        return self.path / "images" / "train" / f"{what}_gs-{step:06d}_e-{epoch:06d}_b-{batch:06d}.png"

    def previews_at(self, step: int) -> Path:
        """The folder of the previews of a step."""
        return self.previews / f"step-{step:06d}"

    def checkpoint_at(self, step: int) -> Path:
        """The checkpoint of a step."""
        return self.checkpoints / f"step-{step:06d}"
