"""A translated job is trained: the checkpoint is held against the YAML, then the one recipe runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth.compat.translation import HINT, Job
from dreambooth.data.listing import list_folder
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.files import link_or_copy
from dreambooth.recipes.display import Display
from dreambooth.recipes.train import resume, train
from dreambooth.training.model_names import JoePennaNames
from dreambooth.weights.original_config import contradictions
from dreambooth.weights.read import read_model

__all__ = ["go_on", "train_job"]

_PUBLISHED = Path("trained_models")
_PUBLISHED_NAME = "published.txt"


def train_job(job: Job, display: Display) -> None:
    """Train a new run. Raises what `train` raises, and ModelFileError where the YAML contradicts the checkpoint."""
    settings = job.settings
    assert settings is not None
    if job.structure:
        family = read_model(settings.base.model, weights=settings.base.weights).family
        if problems := contradictions(job.structure, family):
            hint = "Give the YAML that belongs to the checkpoint: keys that describe the model may be left out."
            raise ModelFileError(problems, hint=hint)
    beside = dict(job.beside)
    if job.published is not None:
        photos = len(list_folder(settings.subject.photos).pictures)
        beside[f"configs/{_PUBLISHED_NAME}"] = job.published.replace("{photos}", str(photos)) + "\n"
    with _published_at_the_end(settings.output.output, display):
        train(settings, display, beside=beside)


def go_on(run: Path, job: Job, display: Display) -> None:
    """Go on with a run. Raises what `resume` raises."""
    if job.problems:
        raise SettingsError(job.problems, hint=HINT)
    with _published_at_the_end(run, display):
        resume(run, job.said, display)


@contextmanager
def _published_at_the_end(run: Path, display: Display) -> Iterator[None]:
    """However training ends, give the models of the second generation's layout their names in `trained_models`, too."""
    try:
        yield
    finally:
        note = run / "configs" / _PUBLISHED_NAME
        if note.is_file():
            template = note.read_text(encoding="utf-8").strip()
            for path in sorted((run / JoePennaNames.final).parent.rglob("*.ckpt")):
                steps = int(read_model(str(path)).report.bookkeeping["global_step"])
                target = _PUBLISHED / template.replace("{steps}", f"{steps:05d}")
                if not target.exists():
                    link_or_copy(path, target)
                    display.say(f"Also as {target}")
