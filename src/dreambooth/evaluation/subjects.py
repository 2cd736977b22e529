"""Which subjects a run was trained on, and which of them are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.data.captions import named_settings
from dreambooth.data.file_name_captions import Words
from dreambooth.data.pictures import scan_subjects
from dreambooth.data.problems import PhotoProblem
from dreambooth.data.records import Photo
from dreambooth.data.settings import SubjectSettings
from dreambooth.display import quoted
from dreambooth.errors import SettingsError
from dreambooth.evaluation.remembered_run import RememberedRun
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.files import expanded
from dreambooth.weights.other_folders import refuse_runs
from dreambooth.weights.read import is_embedded, may_be_hub_id

__all__ = ["ChosenSubjects", "chosen_subjects", "name_of"]

_WORDS = ("photos", "class_word", "token")
_EXPECTED = "a run folder (needs no other options), a .ckpt or .safetensors file, a diffusers folder or a hub id"
_SUFFIXES = (".ckpt", ".safetensors", ".bin", ".pt")  # of files that cannot be a run folder


@dataclass(frozen=True)
class ChosenSubjects:
    """The evaluated subjects and their photos."""

    subjects: tuple[SubjectSettings, ...]
    among: tuple[Photo, ...] | None
    """All photos of a run with several subjects, each evaluated with its own; None if a folder shows a single subject."""
    warnings: tuple[PhotoProblem, ...] = ()
    """Problems of these photos."""


def name_of(subject: SubjectSettings | Words) -> str:
    """The subject as a prompt names it: `sks dog`."""
    return f"{subject.token} {subject.class_word}".strip()


def chosen_subjects(request: EvaluationRequest, run: RememberedRun | None) -> ChosenSubjects:
    """All subjects of a run, the named one, or one that is fully specified.

    Raises SettingsError when the subject is ambiguous, and PhotoError for broken photos of several subjects.
    """
    given = {name: value for name in _WORDS if (value := getattr(request, name)) is not None}
    if run is None:
        return ChosenSubjects((_given_alone(request, given),), None)
    is_alone = run.subject.captions == "prompt" and not run.subject.subjects
    if is_alone or len(given) == len(_WORDS):
        return ChosenSubjects((run.subject.model_copy(update={**given, "subjects": ()}),), None)
    report = scan_subjects(run.subject, resolution=1)
    named = {name_of(one): one for one in named_settings(report.photos, run.subject)}
    if len(named) < 2:
        return ChosenSubjects((next(iter(named.values()), run.subject).model_copy(update={**given, "subjects": ()}),), None)
    report.raise_if_errors()
    meant = _meant(request, given, {name: Words(one.token, one.class_word) for name, one in named.items()})
    subjects = tuple(named[f"{one['token']} {one['class_word']}".strip()].model_copy(update=one) for one in meant)
    return ChosenSubjects(subjects, None) if "photos" in given else ChosenSubjects(subjects, report.photos, report.warnings)


def _given_alone(request: EvaluationRequest, given: Mapping[str, Any]) -> SubjectSettings:
    """The subject of a model without a run folder.

    Raises SettingsError for missing options and options without effect, and ModelFileError for a folder that holds runs.
    """
    missing, path = [name for name in _WORDS if name not in given], expanded(Path(request.model))
    if missing:
        refuse_runs(path)
    is_nothing = not (path.exists() or is_embedded(request.model))
    may_be_elsewhere = may_be_hub_id(request.model)
    nothing = f"model is {request.model}: no such file or folder; expected {_EXPECTED}"
    if is_nothing and missing and not (may_be_elsewhere or path.suffix in _SUFFIXES):
        raise SettingsError(nothing, hint="Use the --output folder of an earlier dreambooth train.")
    also = "a local file or folder, and not " if is_nothing and may_be_elsewhere else ""
    reason = f"{request.model} is not {also}a run folder that records it"
    problems = [nothing] if is_nothing and missing and not may_be_elsewhere else []
    problems += [f"{name} is missing: {reason}" for name in missing]
    if request.evaluation.is_changed("num_checkpoint_images"):
        problems.append(f"{request.model} is not a run folder, so num_checkpoint_images would have no effect; remove it")
    if problems:
        raise SettingsError(problems, hint=f"Type: {_typed_whole(request)}" if missing else None)
    return SubjectSettings(**given)


def _meant(request: EvaluationRequest, given: Mapping[str, Any], learned: Mapping[str, Words]) -> list[dict[str, Any]]:
    """The words of the selected subjects: all if none is given. Raises SettingsError unless the selection is clear."""
    said = {name: value for name, value in given.items() if name != "photos"}
    found = [words for words in learned.values() if said.items() <= _as_settings(words).items()]
    if not given or (said and len(found) == 1):
        return [{**_as_settings(words), **given} for words in found]
    what = " and ".join(f"{name} {value!r}" for name, value in said.items())
    which = f"{len(found)} of them have {what}" if found else f"none of them has {what}"
    raise SettingsError(
        f"{request.model}: was trained on several subjects ({', '.join(learned)}), and "
        + (which if said else "photos does not say which of them it shows"),
        hint=_ways(request, next(iter(found or learned.values()))),
    )


def _as_settings(words: Words) -> dict[str, str]:
    return {"token": words.token, "class_word": words.class_word}


def _ways(request: EvaluationRequest, words: Words) -> str:
    typed = f"dreambooth evaluate --model {quoted(request.model)}"
    photos = "" if request.photos is None else f" --photos {quoted(request.photos)}"
    named = f"{typed}{photos} --token {quoted(words.token)} --class-word {quoted(words.class_word)}"
    return f"All of them: {typed}\nOne of them: {named}\nAnother subject: {_typed_whole(request)}"


def _typed_whole(request: EvaluationRequest) -> str:
    return f"dreambooth evaluate --model {quoted(request.model)} --photos FOLDER --class-word WORD --token WORD"
