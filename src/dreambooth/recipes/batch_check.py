"""All subjects of a batch, checked before the first one is trained; every problem is reported under its subject."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dreambooth.config import effective_values, parse_settings, read_yaml
from dreambooth.display_silent import SilentDisplay
from dreambooth.errors import DreamboothError, SettingsError
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.kept_training import is_finished, is_running_here, is_started
from dreambooth.runtime.processes import OneProcess
from dreambooth.schema.layers import value_at
from dreambooth.schema.leaves import leaves
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer.disk_space import check_disk_space
from dreambooth.trainer.photo_folders import with_photo_folders
from dreambooth.trainer.preflight import check_everything
from dreambooth.trainer.resume_rules import settings_for_resume

__all__ = ["Checked", "check_subjects", "error_of", "warnings_by_text"]

_LIST = "subject.subjects"  # of it only paths may change, which the run remembers


@dataclass(frozen=True)
class Checked:
    """What was found of one subject. Holds plain values, since it may come from another process."""

    problems: tuple[str, ...] = ()
    hint: str | None = None
    is_about_settings: bool = False
    """Whether the problems are mistakes in the settings."""
    warnings: tuple[str, ...] = ()
    changes: Mapping[str, object] = field(default_factory=dict)
    """Settings of an unfinished run, by flag, that are other than when it was started."""
    disk_bytes: int = 0
    """Peak disk usage of a run that has not been started."""

    @classmethod
    def wrong(cls, error: DreamboothError) -> Checked:
        """The result of a check that failed."""
        return cls(error.problems, error.hint, isinstance(error, SettingsError))


class _Warnings(SilentDisplay):
    def __init__(self) -> None:
        self.found: list[str] = []

    def warn(self, text: str) -> None:
        """Kept for the one who shows them for all subjects."""
        self.found.append(text)


def check_subjects(
    given: tuple[Mapping[str, TrainSettings], Mapping[str, Path], str],
) -> dict[str, Checked]:
    """Check each training as `dreambooth train` would, on the device with the name that comes last.

    The paths are of the settings with which the runs that exist were started.
    """
    trainings, started_with, device = given
    return {name: _checked(training, started_with[name], device) for name, training in trainings.items()}


def _checked(training: TrainSettings, started_with: Path, device: str) -> Checked:
    run, display = RunFolder(training.output.output), _Warnings()
    try:
        if is_running_here(run):
            return Checked()
        is_resume = is_started(run)
        changes = _changes(training, started_with) if is_resume else {}
        if is_resume:
            whole = _resumed(run, {**changes, "loop.device": device})
            if is_finished(run) and "loop.steps" not in changes:
                return Checked()
        else:
            whole = training.model_copy(update={"loop": training.loop.model_copy(update={"device": device})})
        subject = with_photo_folders(whole.subject, run.path.absolute().parent / "photo-archives")
        whole = whole.model_copy(update={"subject": subject})
        ready = check_everything(whole, display, OneProcess(), is_resume=is_resume)
        return Checked(
            warnings=tuple(display.found),
            changes={path.rpartition(".")[2]: value for path, value in changes.items() if path != _LIST},
            disk_bytes=0 if is_resume else ready.disk_bytes,
        )
    except DreamboothError as error:
        return Checked.wrong(error)


def _changes(training: TrainSettings, started_with: Path) -> dict[str, object]:
    """Dotted path to value of the settings that were others when the run was started; none where nobody knows."""
    if not started_with.is_file():
        return {}
    before = parse_settings(TrainSettings, read_yaml(started_with), where=str(started_with))
    now = parse_settings(TrainSettings, effective_values(training), where=str(started_with))
    values = {leaf.path: (value_at(before, leaf.path), value_at(now, leaf.path)) for leaf in leaves(TrainSettings)}
    return {path: after for path, (earlier, after) in values.items() if after != earlier}


def _resumed(run: RunFolder, changes: Mapping[str, object]) -> TrainSettings:
    try:
        return settings_for_resume(run, changes)
    except SettingsError as error:
        hint = f"Put the earlier values back, or remove {run.path} to train the subject again from the start."
        raise SettingsError(error.problems, hint=hint) from error


def error_of(found: Mapping[str, Checked], output: Path) -> DreamboothError | None:
    """One error with every problem under its subject, or None; subjects that only together need too much disk are one too."""
    wrong = {name: one for name, one in found.items() if one.problems}
    if not wrong:
        try:
            check_disk_space(output, sum(one.disk_bytes for one in found.values()))
        except DreamboothError as error:
            return error
        return None
    kind = SettingsError if all(one.is_about_settings for one in wrong.values()) else DreamboothError
    hints = {one.hint for one in wrong.values()}
    lines = list[str]()
    for name, one in wrong.items():
        lines += [f"{name}: {problem}" for problem in one.problems]
        if one.hint is not None and len(hints) > 1:
            lines[-1] += "".join(f"\n  {line}" for line in one.hint.splitlines())
    return kind(lines, hint=hints.pop() if len(hints) == 1 else None)


def warnings_by_text(found: Mapping[str, Checked]) -> dict[str, list[str]]:
    """Each warning with the subjects that it is about."""
    names = defaultdict[str, list[str]](list)
    for name, one in found.items():
        for text in dict.fromkeys(one.warnings):
            names[text].append(name)
    return dict(names)
