"""What a run folder remembers of its training: the one place in evaluation that reads the settings of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreambooth.config import parse_settings, read_yaml, yaml_text
from dreambooth.data.settings import PriorSettings, SubjectSettings, ViewSettings
from dreambooth.runs.folder import RunFolder
from dreambooth.schema.verbs import TrainSettings
from dreambooth.training.settings import LoopSettings
from dreambooth.weights.settings import BaseModelSettings

__all__ = ["RememberedRun", "read_remembered_run", "remembered_run"]


@dataclass(frozen=True)
class RememberedRun:
    """The sections of a run's settings that an evaluation needs."""

    base: BaseModelSettings
    subject: SubjectSettings
    prior: PriorSettings
    views: ViewSettings
    loop: LoopSettings
    text: str
    """All settings as YAML, to be shown."""


def read_remembered_run(folder: Path) -> RememberedRun | None:
    """None for what is no run folder. Raises SettingsError for settings that cannot be read."""
    config = RunFolder(folder).config
    if not (folder.is_dir() and config.is_file()):
        return None
    return remembered_run(parse_settings(TrainSettings, read_yaml(config), where=str(config)))


def remembered_run(settings: TrainSettings) -> RememberedRun:
    """The same from settings that are already parsed."""
    return RememberedRun(
        base=settings.base,
        subject=settings.subject,
        prior=settings.prior,
        views=settings.views,
        loop=settings.loop,
        text=yaml_text(settings.model_dump(mode="json")),
    )
