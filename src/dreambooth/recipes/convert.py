"""`dreambooth convert`: the same model in another form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dreambooth.display import Display, quoted
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.evaluation.blended import model_at_strength
from dreambooth.files import expanded, free_disk_bytes, remove_partials_of, without_paths
from dreambooth.reading import parse_json
from dreambooth.runtime.tensor_files import STORAGE_DTYPES
from dreambooth.schema.verbs import ConvertSettings
from dreambooth.trainees.with_word import word_beside
from dreambooth.weights.embedding_convert import WORD_SUFFIXES, convert_embedding
from dreambooth.weights.embedding_file import read_embedding_file
from dreambooth.weights.model_weights import ModelWeights, ReadingReport
from dreambooth.weights.own_word import write_word_beside
from dreambooth.weights.read import embedding_at
from dreambooth.weights.settings import BaseModelSettings, ModelForm
from dreambooth.weights.write import SINGLE_FILE_SUFFIXES, write_diffusers_folder, write_single_file

__all__ = ["Conversion", "convert"]

_FILE_SUFFIX = re.compile(r"\.[A-Za-z]\w*")  # unlike the end of a folder such as sd-v1.4
_SETTINGS = "dreambooth.config"
_MERGED = ("primary", "secondary", "tertiary")
_OF_THE_OLD_BYTES = ("modelspec.hash", "sshs_")  # metadata that holds hashes of the source file


@dataclass(frozen=True)
class Conversion:
    """The written model or learned word, and how its source was read."""

    destination: Path
    form: ModelForm
    num_bytes: int
    report: ReadingReport


def convert(settings: ConvertSettings, display: Display) -> Conversion:
    """Read a model or a learned word in any form and write it in the requested form; never overwrites anything.

    A word that a model was trained together with is written beside it. Raises ModelFileError when the source is neither, or
    when the destination exists, has an ambiguous form or is on a full disk.
    """
    destination = expanded(settings.destination)
    if destination.exists():
        raise ModelFileError(f"{destination}: already exists", hint="Choose another name, or remove it first.")
    if (word := embedding_at(expanded(Path(settings.source)))) is not None:
        return _convert_word(settings, word, destination, display)
    form = _form(destination, settings.to)
    source = BaseModelSettings(
        model=settings.source,
        config=settings.config,
        weights=settings.weights,
        vae=settings.vae,
        prediction=settings.prediction,
        zero_terminal_snr=settings.zero_terminal_snr,
    )
    read = model_at_strength(source, settings.blend)
    dtype = None if settings.dtype is None else STORAGE_DTYPES[settings.dtype]
    remove_partials_of(destination)
    _check_room(destination, _num_bytes(read, dtype))
    display.say(f"Read {read.report.source} ({read.report.form}, {read.report.title}).")
    for choice in read.report.choices:
        display.say(choice)
    for warning in (*read.report.all_warnings, *read.not_finite()):
        display.warn(warning)
    if destination.suffix == ".ckpt" and (side := read.family.resolution) != read.family.usual_resolution:
        display.warn(
            f"A .ckpt file cannot record the model's resolution of {side} px: generate with --width {side} --height {side}, "
            f"and train with --resolution {side}."
        )
    write = write_single_file if form == "single-file" else write_diffusers_folder
    metadata = _metadata(read)
    for learned in read.words:
        write_word_beside(destination, learned, read.family, dtype=dtype or torch.float32, metadata=metadata)
        path = word_beside(destination)
        how = f"give it as --embedding {quoted(path)}" if destination.suffix == ".ckpt" else "--model finds it there"
        display.say(f"Wrote the learned word '{learned.word}' to {path}; {how}.")
    write(destination, replace(read, words=()), dtype=dtype, metadata=metadata)
    files = [destination] if destination.is_file() else [entry for entry in destination.rglob("*") if entry.is_file()]
    num_bytes = sum(file.stat().st_size for file in files)
    display.say(f"Wrote {destination} ({form}, {settings.dtype or 'dtypes unchanged'}, {num_bytes / 1e9:.2f} GB).")
    return Conversion(destination, form, num_bytes, read.report)


def _convert_word(settings: ConvertSettings, source: Path, destination: Path, display: Display) -> Conversion:
    """Write a learned word in the form of the destination's suffix. Raises SettingsError for options of models."""
    if useless := settings.is_changed("to", "blend", "weights", "vae", "config", "prediction", "zero_terminal_snr"):
        names = ", ".join("strength" if name == "blend" else name for name in useless)
        raise SettingsError(
            f"{settings.source} is a learned word, so {names} would have no effect; omit them",
            hint=f"The suffix says the form: {', '.join(WORD_SUFFIXES)}",
        )
    file = read_embedding_file(source)
    remove_partials_of(destination)
    convert_embedding(destination, file, dtype=STORAGE_DTYPES[settings.dtype or "float32"])
    num_bytes = destination.stat().st_size
    display.say(f"Wrote the learned word '{file.word}' to {destination} ({num_bytes / 1e3:.1f} kB).")
    kind = "safetensors" if source.suffix == ".safetensors" else "pickle"
    title = f"a learned word for {file.made_for or 'an unknown model'}"
    report = ReadingReport(source, "single file", (kind,), title, parts=(), unet_weights="only")
    return Conversion(destination, "single-file", num_bytes, report)


def _form(destination: Path, to: ModelForm | None) -> ModelForm:
    is_single = destination.suffix in SINGLE_FILE_SUFFIXES
    expected = " or ".join(SINGLE_FILE_SUFFIXES)
    if to == "diffusers" and is_single:
        problem = f"{destination}: --to diffusers writes a folder, but {destination.suffix} is a file suffix"
        raise ModelFileError(problem, hint="Drop --to, or use a name without that suffix.")
    if not is_single and (to == "single-file" or (to is None and _FILE_SUFFIX.fullmatch(destination.suffix))):
        found = f"'{destination.suffix}'" if destination.suffix else "no suffix"
        hint = f"Name it {destination.with_suffix(SINGLE_FILE_SUFFIXES[0])}, or use --to diffusers to write a folder."
        raise ModelFileError(f"{destination}: a single file must end in {expected}, found {found}", hint=hint)
    return "single-file" if is_single else "diffusers"


def _num_bytes(read: ModelWeights, dtype: torch.dtype | None) -> int:
    tensors = (tensor for part in read.parts.values() for tensor in part.values())
    return sum(tensor.numel() * (dtype or tensor.dtype).itemsize for tensor in tensors)


def _check_room(destination: Path, num_bytes: int) -> None:
    free = free_disk_bytes(destination)
    if free < num_bytes:
        raise ModelFileError(
            f"{destination}: the model needs {num_bytes / 1e9:.2f} GB on this disk, but only {free / 1e9:.2f} GB are free",
            hint="Use --dtype float16, or a destination on another disk.",
        )


def _metadata(read: ModelWeights) -> dict[str, str]:
    """The source's metadata without hashes of the old file, plus the source's name."""
    kept = {key: value for key, value in read.metadata.items() if not key.startswith(_OF_THE_OLD_BYTES)}
    steps = {"global_step": step} if (step := read.report.bookkeeping.get("global_step")) is not None else {}
    if merged := _merged_from(kept):
        kept["modelspec.merged_from"] = merged
    if _SETTINGS in kept:
        kept[_SETTINGS] = _without_paths(kept[_SETTINGS])
    return {**kept, **steps, "dreambooth.converted_from": read.report.source.name}


def _without_paths(settings: str) -> str:
    """Settings of a run as a model holds them, without the paths that earlier versions wrote."""
    try:
        return json.dumps(without_paths(parse_json(settings)))
    except ValueError:
        return settings


def _merged_from(metadata: Mapping[str, str]) -> str | None:
    """The names of the models that stable-diffusion-webui merged; None when the source says nothing of a merge."""
    if "modelspec.merged_from" in metadata:
        return metadata["modelspec.merged_from"]
    try:
        recipe = parse_json(metadata.get("sd_merge_recipe", "{}"))
    except ValueError:
        return None
    names = [recipe.get(f"{which}_model_name") for which in _MERGED] if isinstance(recipe, dict) else []
    return ", ".join(without_paths(str(name)) for name in names if name) or None
