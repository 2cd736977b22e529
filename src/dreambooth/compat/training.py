"""A translated job is trained: the checkpoint is held against the YAML, then the one recipe runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dreambooth.compat.translation import HINT, Job, Key
from dreambooth.data.listing import list_folder
from dreambooth.display import Display, quoted
from dreambooth.errors import DreamboothError, ModelFileError, RunError, SettingsError
from dreambooth.files import link_or_copy
from dreambooth.recipes.train import resume, train
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.model_names import JoePennaNames
from dreambooth.schema.verbs import TrainSettings
from dreambooth.training.checkpoints import find_checkpoints
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
        _check_structure(job.structure, settings)
    beside = dict(job.beside)
    if job.published is not None:
        photos = len(list_folder(settings.subject.photos).pictures)
        beside[f"configs/{_PUBLISHED_NAME}"] = job.published.replace("{photos}", str(photos)) + "\n"
    with _published_at_the_end(settings.output.output, display):
        train(settings, display, beside=beside)


def _check_structure(structure: Mapping[str, Key], settings: TrainSettings) -> None:
    try:
        family = read_model(settings.base.model, weights=settings.base.weights).family
    except DreamboothError:
        return  # training says so itself, together with everything else that is wrong
    found = contradictions({name: key.value for name, key in structure.items()}, family)
    problems = [f"{structure[name].name} is {rest}" for name, rest in (problem.split(" is ", 1) for problem in found)]
    if problems:
        hint = "Give the YAML that belongs to the checkpoint: keys that describe the model may be left out."
        raise ModelFileError(problems, hint=hint)


def go_on(run: Path, named: Path, job: Job, display: Display) -> None:
    """Go on with a run, which the person named by its folder or by a model in it.

    Raises what `resume` raises, and RunError for a model of an earlier step: only the newest state is kept.
    """
    if job.problems:
        raise SettingsError(job.problems, hint=HINT)
    newest = max((checkpoint.step for checkpoint in find_checkpoints(RunFolder(run))), default=0)
    if named.is_file() and (step := read_model(str(named)).num_steps or 0) < newest:
        raise RunError(
            f"{named}: is of step {step}, and the run can only go on from step {newest}, whose state is kept",
            hint=f"Go on from there: -r {quoted(run)}\nOr start a new run from this model: --actual_resume {quoted(named)}",
        )
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
                steps = read_model(str(path)).num_steps or 0
                target = _PUBLISHED / template.replace("{steps}", f"{steps:05d}")
                if not target.exists():
                    link_or_copy(path, target)
                    display.say(f"Also as {target}")
