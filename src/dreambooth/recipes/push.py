"""`dreambooth push`: the model of a run, its card and its pictures, published in a repository of the Hugging Face hub."""

from __future__ import annotations

import filecmp
import itertools
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.config import yaml_text
from dreambooth.display import Display, counted
from dreambooth.errors import RunError, SettingsError
from dreambooth.evaluation.remembered_run import RememberedRun, read_remembered_run
from dreambooth.files import write_text
from dreambooth.pages.model_card import ModelCard, ShownPicture, ShownScore, model_card
from dreambooth.pages.thumbnails import picture_settings
from dreambooth.reading import parse_json, read_json, reading
from dreambooth.runs.folder import RunFolder
from dreambooth.weights.embedding_file import WORD
from dreambooth.weights.hub import was_fetched
from dreambooth.weights.hub_upload import upload
from dreambooth.weights.other_folders import refuse_runs
from dreambooth.weights.own_word import own_word
from dreambooth.weights.read import is_embedded, may_be_hub_id
from dreambooth.weights.safetensors_file import read_safetensors
from dreambooth.weights.settings import PushSettings
from dreambooth.weights.subjects import subjects_in

__all__ = ["PushResult", "push"]

_MOST_PICTURES = 12
_FAMILIES = {
    "stable-diffusion-v1": ("Stable Diffusion 1", "creativeml-openrail-m"),
    "stable-diffusion-v2": ("Stable Diffusion 2", "openrail++"),
    "stable-diffusion-xl": ("Stable Diffusion XL", "openrail++"),
}
_KINDS = {"lora": "LoRA for", "textual-inversion": "Learned word for"}


@dataclass(frozen=True)
class PushResult:
    """What was published, or written in its place."""

    files: tuple[str, ...]
    place: str
    """Address of the repository, or the folder of a dry run."""


def push(settings: PushSettings, display: Display) -> PushResult:
    """Publish a run's final model, or write what would be published into a folder (`dry_run`).

    A learned word beside the model is published with it. Photos and folders of this machine are not; the metadata of the model
    hold the captions and the photos' file names. Raises RunError when the run has no model to publish or the hub refuses,
    ModelFileError for a folder of runs and when model and word are of different steps, and SettingsError for a repository that
    is public against the settings.
    """
    run = RunFolder(settings.run)
    remembered = read_remembered_run(run.path)
    if remembered is None:
        refuse_runs(run.path)
        what = f"not a run, {run.config.name} is missing" if run.path.exists() else "no such folder"
        raise RunError(f"{run.path}: {what}", hint="Give the --output folder of a training.")
    if not run.final_model.is_file():
        raise RunError(
            f"{run.path}: has no {run.final_model.name} to publish",
            hint="Finish the training; a run in another --file-layout holds a .ckpt file, which is not published.",
        )
    files = _files(run, remembered, settings)
    if settings.dry_run:
        folder = settings.output or _free_folder(run.path / "push", files)
        if not _holds(folder, files):
            _write(files, folder)
        display.say(f"Nothing was published. What would be, {counted(len(files), 'file')}, is in {folder}")
        return PushResult(tuple(files), str(folder))
    page = upload(files, settings.repo, private=settings.private, message=f"Add {run.path.absolute().name}")
    display.say(f"Published {counted(len(files), 'file')}{' privately' if settings.private else ''}: {page}")
    return PushResult(tuple(files), page)


def _files(run: RunFolder, remembered: RememberedRun, settings: PushSettings) -> dict[str, Path | bytes]:
    pictures = dict(_pictures(run))
    card = _card(run, remembered, settings, pictures)
    return {
        "README.md": model_card(card).encode(),
        run.final_model.name: run.final_model,
        **({} if card.word_file is None else {card.word_file: run.path / card.word_file}),
        "settings.yaml": yaml_text(card.settings).encode(),
        **pictures,
    }


def _pictures(run: RunFolder) -> Iterator[tuple[str, Path]]:
    """The newest previews."""
    steps = sorted(folder for folder in run.previews.glob("step-*") if folder.is_dir())
    for path in sorted(steps[-1].glob("*.png"))[:_MOST_PICTURES] if steps else ():
        yield f"pictures/{path.name}", path


def _card(run: RunFolder, remembered: RememberedRun, settings: PushSettings, pictures: Mapping[str, Path]) -> ModelCard:
    metadata = read_safetensors(run.final_model)[1]
    architecture, _, kind = metadata.get("modelspec.architecture", "").partition("/")
    family, usual = next((of for name, of in _FAMILIES.items() if architecture.startswith(name)), (None, None))
    license_name, reason = _license(settings, family, usual, is_toybox=is_embedded(remembered.base.model))
    subjects = subjects_in(metadata)
    base, step = remembered.base.model, metadata.get("global_step", "")
    is_of_hub = may_be_hub_id(base) and was_fetched(base)  # else it may be a path of the machine that trained
    word = own_word(run.final_model, metadata)
    return ModelCard(
        title=settings.repo.rpartition("/")[2],  # a run's folder may be called 1, as those of the browser interface are
        what=f"{_KINDS.get(kind, 'Fine-tuned')} {family or 'a diffusion model'}",
        base=base if is_of_hub else Path(base).name,
        base_hub_id=base if is_of_hub else None,
        license=license_name,
        license_reason=reason,
        trigger_words=tuple(one.name for one in subjects),
        prompts=tuple(one.prompt for one in subjects),
        file=run.final_model.name,
        word=metadata.get(WORD),
        word_file=None if word is None else word.file.path.relative_to(run.path).as_posix(),
        pictures=tuple(ShownPicture(name, str(picture_settings(path).get("prompt", ""))) for name, path in pictures.items()),
        scores=_scores(run.path / "evaluation" / "scores.json"),
        num_steps=int(step) if re.fullmatch("[0-9]{1,15}", step) else None,
        num_photos=sum(key.startswith("photo ") for key in _json(metadata.get("dreambooth.made_of", "{}"), {})),
        settings=_settings(metadata, base if is_of_hub else Path(base).name),
    )


def _settings(metadata: Mapping[str, str], base: str) -> dict[str, Any]:
    """The settings that the model's metadata hold, with the base model as the card names it."""
    settings: dict[str, Any] = _json(metadata.get("dreambooth.config", "{}"), {})
    return {**settings, "base": {**settings["base"], "model": base}} if isinstance(settings.get("base"), dict) else settings


def _license(settings: PushSettings, family: str | None, usual: str | None, *, is_toybox: bool) -> tuple[str, str]:
    """The license, and the reason for it. Raises SettingsError if it is not known."""
    if settings.license is not None:
        return settings.license, "Chosen by the publisher; the terms of the base model apply as well."
    if is_toybox:
        return "apache-2.0", "The bundled model comes with the program, under its license."
    if usual is None:
        raise SettingsError("the license of the base model is not known", hint="Give it: --license NAME, as the hub calls it.")
    return usual, (
        f"The original weights of {family} have this license, which covers everything made from them. "
        "Further terms of the base model apply as well."
    )


def _scores(path: Path) -> tuple[ShownScore, ...]:
    """The scores of `dreambooth evaluate`, if the run was evaluated. Raises RunError for a damaged file."""
    if not path.is_file():
        return ()
    with reading(path, RunError, hint="Remove the file, or evaluate again."):
        return tuple(_shown_scores(read_json(path)))


def _shown_scores(found: Mapping[str, Any]) -> Iterator[ShownScore]:
    records = found.get("subjects") or {f"{found.get('token', '')} {found.get('class_word', '')}".strip(): found}
    for subject, record in records.items():
        scores = record["scores"]
        base = {one["name"]: _with_interval(one) for one in scores["base"] or ()}
        for one in scores["model"]:
            yield ShownScore(subject, one["name"], _with_interval(one), base.get(one["name"], ""))


def _with_interval(score: Mapping[str, Any]) -> str:
    interval = "" if score["low"] is None else f" [{score['low']:.2f}, {score['high']:.2f}]"
    return f"{score['value']:.3f}{interval}"


def _json(text: str, otherwise: Any) -> Any:
    try:
        value = parse_json(text)
    except ValueError:
        return otherwise
    return value if isinstance(value, type(otherwise)) else otherwise


def _free_folder(wanted: Path, files: Mapping[str, Path | bytes]) -> Path:
    """The first of `push`, `push-2`, ... that is empty or holds these files: an earlier card may have been edited."""
    names = (wanted.with_name(wanted.name if number == 1 else f"{wanted.name}-{number}") for number in itertools.count(1))
    return next(folder for folder in names if not folder.exists() or _is_empty(folder) or _holds(folder, files))


def _is_empty(folder: Path) -> bool:
    """Whether it is a folder without anything in it; a file is none."""
    return folder.is_dir() and not any(folder.iterdir())


def _holds(folder: Path, files: Mapping[str, Path | bytes]) -> bool:
    """Whether the folder holds exactly these files."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return found.keys() == files.keys() and all(_is_same(found[name], data) for name, data in files.items())


def _is_same(path: Path, data: Path | bytes) -> bool:
    if isinstance(data, bytes):
        return path.read_bytes() == data
    return path.samefile(data) or filecmp.cmp(path, data, shallow=False)


def _write(files: Mapping[str, Path | bytes], folder: Path) -> None:
    """Write the files into a new folder; the model is linked where the file system can."""
    if folder.exists() and not _is_empty(folder):
        what = "is not empty" if folder.is_dir() else "is a file, not a folder"
        raise RunError(f"{folder}: {what}", hint="Remove it, or choose another --output.")
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, bytes):
            write_text(path, data.decode())
            continue
        try:
            os.link(data, path)
        except OSError:
            shutil.copyfile(data, path)
