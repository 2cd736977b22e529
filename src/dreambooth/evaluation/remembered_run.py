"""The training settings recorded in a run folder; the only place in evaluation that reads them."""

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
    """All settings as YAML, for display."""


def read_remembered_run(folder: Path) -> RememberedRun | None:
    """The recorded settings; None if `folder` is not a run folder. Raises SettingsError if they cannot be read."""
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
