"""`dreambooth convert`: the same model in another form."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from dreambooth.display import Display
from dreambooth.errors import ModelFileError
from dreambooth.runtime.tensor_files import STORAGE_DTYPES
from dreambooth.schema.verbs import ConvertSettings
from dreambooth.weights.model_weights import ModelWeights, ReadingReport
from dreambooth.weights.read import read_model
from dreambooth.weights.write import SINGLE_FILE_SUFFIXES, write_diffusers_folder, write_single_file

__all__ = ["Conversion", "convert"]

_OTHER_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".safetensor", ".yaml", ".json", ".zip")
_OF_THE_OLD_BYTES = ("modelspec.hash", "sshs_")  # metadata that is a hash of the file it stood in
_UNET_WEIGHTS = {"ema": "the running average", "raw": "the last weights, not their average"}


@dataclass(frozen=True)
class Conversion:
    """What was written, and how its source was read."""

    destination: Path
    form: Literal["single-file", "diffusers"]
    num_bytes: int
    report: ReadingReport


def convert(settings: ConvertSettings, display: Display) -> Conversion:
    """Read a model in any form and write it in the form asked for; nothing is ever overwritten.

    Raises ModelFileError when the source is no model, or the destination is taken, of an unclear form or on a full disk.
    """
    destination = settings.destination.expanduser()
    form = _form(destination, settings.to)
    if destination.exists():
        raise ModelFileError(f"{destination}: is there already", hint="Give another name, or remove it first.")
    read = read_model(settings.source, config=settings.config, weights=settings.weights)
    dtype = None if settings.dtype is None else STORAGE_DTYPES[settings.dtype]
    _check_room(destination, _num_bytes(read, dtype))
    display.say(f"Read {read.report.source} ({read.report.form}, {read.report.title}).")
    if read.report.unet_weights in _UNET_WEIGHTS:
        display.say(f"The UNet is {_UNET_WEIGHTS[read.report.unet_weights]}; also there: {read.report.also_there}.")
    if read.report.leftover:
        some = ", ".join(read.report.leftover[:5]) + (", ..." if len(read.report.leftover) > 5 else "")
        display.warn(f"Left out, as they belong to no part of the model: {len(read.report.leftover)} tensors ({some}).")
    if destination.suffix == ".ckpt" and (side := read.family.resolution) != read.family.usual_resolution:
        display.warn(
            f"A .ckpt cannot say that its pictures are {side} pixels wide: make them with --width {side} --height {side}, "
            f"and train with --resolution {side}."
        )
    write = write_single_file if form == "single-file" else write_diffusers_folder
    write(destination, read, dtype=dtype, metadata=_metadata(read))
    files = [destination] if destination.is_file() else [entry for entry in destination.rglob("*") if entry.is_file()]
    num_bytes = sum(file.stat().st_size for file in files)
    display.say(f"Wrote {destination} ({form}, {settings.dtype or 'number formats kept'}, {num_bytes / 1e9:.2f} GB).")
    return Conversion(destination, form, num_bytes, read.report)


def _form(destination: Path, to: Literal["single-file", "diffusers"] | None) -> Literal["single-file", "diffusers"]:
    is_single = destination.suffix in SINGLE_FILE_SUFFIXES
    expected = " or ".join(SINGLE_FILE_SUFFIXES)
    if to == "diffusers" and is_single:
        problem = f"{destination}: --to diffusers writes a folder, and {destination.suffix} is the suffix of a file"
        raise ModelFileError(problem, hint="Leave out --to, or give a name without that suffix.")
    if not is_single and (to == "single-file" or (to is None and destination.suffix in _OTHER_SUFFIXES)):
        found = f"'{destination.suffix}'" if destination.suffix else "no suffix"
        hint = f"Name it {destination.with_suffix(SINGLE_FILE_SUFFIXES[0])}, or give --to diffusers to make a folder."
        raise ModelFileError(f"{destination}: a single file ends in {expected}, found {found}", hint=hint)
    return "single-file" if is_single else "diffusers"


def _num_bytes(read: ModelWeights, dtype: torch.dtype | None) -> int:
    tensors = (tensor for part in read.parts.values() for tensor in part.values())
    return sum(tensor.numel() * (dtype or tensor.dtype).itemsize for tensor in tensors)


def _check_room(destination: Path, num_bytes: int) -> None:
    existing = next(parent for parent in destination.absolute().parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise ModelFileError(
            f"{destination}: the model needs {num_bytes / 1e9:.2f} GB on this disk, and {free / 1e9:.2f} GB are free",
            hint="Use --dtype float16, or a destination on another disk.",
        )


def _metadata(read: ModelWeights) -> dict[str, str]:
    """What the source said about itself, without hashes of its old bytes, and where it came from."""
    kept = {key: value for key, value in read.metadata.items() if not key.startswith(_OF_THE_OLD_BYTES)}
    steps = {"global_step": step} if (step := read.report.bookkeeping.get("global_step")) is not None else {}
    return {**kept, **steps, "dreambooth.converted_from": read.report.source.name}
