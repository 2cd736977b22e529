"""Training of a translated job: compares the checkpoint with the YAML, then trains as `dreambooth train` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dreambooth.compat.translation import HINT, Job, Key
from dreambooth.data.listing import list_folder
from dreambooth.display import Display, quoted
from dreambooth.errors import DreamboothError, ModelFileError, RunError, SettingsError
from dreambooth.files import link_or_copy
from dreambooth.reading import read_text, reading
from dreambooth.recipes.train import resume, train
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.model_names import JoePennaNames
from dreambooth.schema.verbs import TrainSettings
from dreambooth.training.checkpoints import find_checkpoints
from dreambooth.weights.original_config import contradictions
from dreambooth.weights.read import read_base, read_model

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
        family = read_base(settings.base).family
    except DreamboothError:
        return  # training reports this together with all other problems
    mismatches = contradictions({name: key.value for name, key in structure.items()}, family)
    problems = [f"{structure[name].name} is {rest}" for name, rest in (text.split(" is ", 1) for text in mismatches)]
    if problems:
        hint = "Use the YAML that belongs to the checkpoint; keys that describe the model may be omitted."
        raise ModelFileError(problems, hint=hint)


def go_on(run: Path, named: Path, job: Job, display: Display) -> None:
    """Resume a run; `named` is its folder or a model in it, as given by the user.

    Raises what `resume` raises, and RunError for a model of an earlier step: only the newest checkpoint is kept.
    """
    if job.problems:
        raise SettingsError(job.problems, hint=HINT)
    newest = max((checkpoint.step for checkpoint in find_checkpoints(RunFolder(run))), default=0)
    if named.is_file() and (step := read_model(str(named)).num_steps or 0) < newest:
        raise RunError(
            f"{named}: is the model of step {step}, but the run can only resume from its checkpoint at step {newest}",
            hint=f"Resume from there: -r {quoted(run)}\nOr start a new run from this model: --actual_resume {quoted(named)}",
        )
    with _published_at_the_end(run, display):
        resume(run, job.said, display)


@contextmanager
def _published_at_the_end(run: Path, display: Display) -> Iterator[None]:
    """However training ends, also link the models of the second generation's layout into `trained_models`."""
    try:
        yield
    finally:
        note = run / "configs" / _PUBLISHED_NAME
        if note.is_file():
            with reading(note, RunError):
                template = read_text(note).strip()
            for path in sorted((run / JoePennaNames.final).parent.rglob("*.ckpt")):
                steps = read_model(str(path)).num_steps or 0
                target = _PUBLISHED / template.replace("{steps}", f"{steps:05d}")
                if not target.exists():
                    link_or_copy(path, target)
                    display.say(f"Also saved as {target}")
