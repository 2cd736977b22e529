"""Compares the inputs recorded in a model with the files its run refers to now: they may have changed since."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dreambooth.data.captions import instance_caption, named_subjects
from dreambooth.data.records import Photo
from dreambooth.display import quoted
from dreambooth.errors import ModelFileError, PhotoError, RunError
from dreambooth.evaluation.models import Models
from dreambooth.evaluation.remembered_run import RememberedRun
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.subjects import name_of
from dreambooth.evaluation.target import EvaluationTarget
from dreambooth.files import expanded
from dreambooth.runs.folder import RunFolder
from dreambooth.training.checkpoints import find_checkpoints
from dreambooth.weights.model_weights import ModelWeights, recorded_inputs

__all__ = ["Origins", "held_against_origins", "origins_of"]

_PHOTO = re.compile(r"photo \d+ \(.*\)", re.DOTALL)


@dataclass(frozen=True)
class Origins:
    """The recorded inputs of a run, as far as they are known."""

    base: str | None
    """Digest of the base model; None if unknown."""
    photos: tuple[tuple[str, str], ...]
    """Digest and caption of each photo; empty if unknown."""


def origins_of(model: ModelWeights, run: Path) -> Origins:
    """The origins recorded in the model file; for a .ckpt, which cannot hold them, those of the run's newest checkpoint."""
    try:
        inputs = dict(recorded_inputs(model.metadata)) or _of_checkpoint(run)
    except RunError:  # damaged, and not needed for anything else here
        inputs = {}
    photos = [value.partition(" ") for name, value in inputs.items() if _PHOTO.fullmatch(name)]
    return Origins(inputs.get("base model"), tuple((digest, caption) for digest, _, caption in photos))


def _of_checkpoint(run: Path) -> dict[str, str]:
    found = find_checkpoints(RunFolder(run))
    return found[-1].made_of if found else {}


def held_against_origins(
    asked: Sequence[EvaluationTarget], models: Models, request: EvaluationRequest
) -> tuple[tuple[EvaluationTarget, ...], tuple[str, ...]]:
    """The targets, with `has_own_photos` cleared and a warning if the photos have changed since training.

    Raises ModelFileError when the run's recorded base model has changed, and PhotoError when the photos' folders name a
    subject that was not trained. Explicitly given values are not checked.
    """
    run = asked[0].run
    if run is None:
        return tuple(asked), ()
    origins = origins_of(models.measured, expanded(Path(request.model)))
    if request.base is None and models.base is not None and origins.base not in (None, models.base.digest()):
        raise _other_base(request, run)
    if request.photos is not None or not origins.photos:
        return tuple(asked), ()
    photos = asked[0].photos if asked[0].among is None else asked[0].among
    _check_were_learned(asked, photos, run, origins)
    changes = _changes(photos, origins)
    if not changes:
        return tuple(asked), ()
    warning = (
        f"the photos in {run.subject.photos} are not the ones {request.model} was trained on: {changes}. Scores and copies "
        "are measured against the current photos"
    )
    return tuple(replace(one, has_own_photos=False) for one in asked), (warning,)


def _other_base(request: EvaluationRequest, run: RememberedRun) -> ModelFileError:
    typed = f"dreambooth evaluate --model {quoted(request.model)} --base"
    return ModelFileError(
        f"{run.base.model}: not the model that {request.model} was trained from; it has changed since",
        hint=f"Use the original base model:\n  {typed} MODEL\nOr compare with the changed one:\n  {typed} "
        f"{quoted(run.base.model)}",
    )


def _check_were_learned(
    asked: Sequence[EvaluationTarget], photos: Sequence[Photo], run: RememberedRun, origins: Origins
) -> None:
    """Check that folders which name subjects were not renamed since training, to words that the model does not know.

    A subject was trained if one of its photos was, with its current caption, or if its token was in a caption.
    """
    if run.subject.captions != "filename":
        return
    learned, captions = set(origins.photos), "\n".join(caption for _, caption in origins.photos)
    by_folder = {name_of(words): words for words in named_subjects(photos, run.subject)}
    problems = []
    for one in asked:
        was_seen = any((photo.digest, instance_caption(photo, run.subject)) in learned for photo in one.photos)
        token = rf"(?<!\w){re.escape(one.subject.token)}(?!\w)"
        if one.name in by_folder and not was_seen and not re.search(token, captions, re.IGNORECASE):
            problems.append(f"{run.subject.photos}: a folder names {one.name}, which {one.model} was not trained on")
    if problems:
        said = ", ".join(repr(caption) for caption in dict.fromkeys(caption for _, caption in origins.photos[:4]))
        raise PhotoError(
            problems,
            hint=f"Restore the original folder names; the training captions were {said}"
            f"{' and so on' if len(origins.photos) > 4 else ''}.",
        )


def _changes(photos: Sequence[Photo], origins: Origins) -> str:
    """How many photos are new and how many are missing; empty for the same photos, even if renamed."""
    now, then = {photo.digest for photo in photos}, {digest for digest, _ in origins.photos}
    counts = {"new": len(now - then), "missing": len(then - now)}
    return " and ".join(f"{num} {what}" for what, num in counts.items() if num)
