"""`dreambooth lora`: LoRA files made of models and of other LoRA files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dreambooth.adapters.tools import (
    PartApproximation,
    extract_lora,
    family_of,
    kept_metadata,
    merge_loras,
    resize_lora,
)
from dreambooth.display import Display, counted, quoted
from dreambooth.errors import ModelFileError
from dreambooth.families.family import Family
from dreambooth.files import expanded
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.tensor_files import STORAGE_DTYPES
from dreambooth.trainees.settings import LoraForm
from dreambooth.trainees.with_word import word_beside
from dreambooth.training.settings import StorageDtype
from dreambooth.weights.embedding_file import WORD
from dreambooth.weights.lora_apply import APPLIED, ScaledLora, changes_of, with_loras
from dreambooth.weights.lora_choice import read_loras
from dreambooth.weights.lora_file import LoraFile
from dreambooth.weights.lora_write import Adapter, LayerChanges
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.own_word import own_word
from dreambooth.weights.read import read_model
from dreambooth.weights.settings import (
    LoraConvertSettings,
    LoraExtractSettings,
    LoraMergeSettings,
    LoraResizeSettings,
)
from dreambooth.weights.subjects import SUBJECTS
from dreambooth.weights.write import SINGLE_FILE_SUFFIXES, write_single_file

__all__ = ["LoraWritten", "convert", "extract", "merge", "resize"]

_OF_ITS_TRAINING = ("global_step", "epoch", "dreambooth.config", "modelspec.trigger_phrase", SUBJECTS, WORD)


@dataclass(frozen=True)
class LoraWritten:
    """A file that was written, and for each part what its matrices keep of what they stand for."""

    path: Path
    parts: tuple[PartApproximation, ...] = ()


def extract(settings: LoraExtractSettings, display: Display) -> LoraWritten:
    """Write the difference between a model and its base as a LoRA file.

    Raises ModelFileError if a model cannot be read, if the two do not belong together, or if the output exists.
    """
    _check_output(settings.output, (".safetensors",))
    base, tuned = read_model(settings.base), read_model(settings.tuned)
    family = base.family
    total = sum(len(base.parts[part]) for part in (family.denoiser, *family.text_encoders))
    with display.progress("layers", total, "tensors") as advance:
        found = extract_lora(base, tuned, rank=settings.rank, energy=settings.energy, targets=settings.targets, advance=advance)
    metadata = {key: text for key, text in tuned.metadata.items() if key in _OF_ITS_TRAINING}
    metadata |= {"ss_sd_model_name": base.report.source.name, "dreambooth.made_of": json.dumps({"base model": base.digest()})}
    _write(settings, found.changes, family, metadata)
    _show(found.parts, display)
    if found.num_left_out:
        tensors = counted(found.num_left_out, "changed tensor")
        display.say(f"Left out: {tensors} that a LoRA of these layers does not reach, {found.share_left_out:.1%} of the change")
    _say_written(settings.output, display)
    _say_words([(expanded(Path(settings.tuned)), tuned.metadata)], display)
    return LoraWritten(settings.output, found.parts)


def merge(settings: LoraMergeSettings, display: Display) -> LoraWritten:
    """Write several LoRA files as one, exactly, or a model with them.

    Raises ModelFileError if a file cannot be read or is for another model, or if the output exists.
    """
    is_model = settings.model is not None
    _check_output(settings.output, SINGLE_FILE_SUFFIXES if is_model else (".safetensors",))
    loras = read_loras(settings.lora)
    if is_model:
        model = read_model(str(settings.model))
        metadata = {key: text for key, text in model.metadata.items() if not key.startswith(("modelspec.hash", "sshs_"))}
        merged = with_loras(model, loras)
        names = ", ".join([model.report.source.name, *(one.file.title for one in loras)])
        said = {**metadata, **_applied(merged), "modelspec.merged_from": names}
        without_words = replace(merged, words=())
        write_single_file(settings.output, without_words, dtype=STORAGE_DTYPES[settings.dtype], metadata=said)
        display.say(f"Wrote {settings.output}: {model.report.source} with {names.partition(', ')[2]}")
        _say_words([(expanded(Path(str(settings.model))), model.metadata), *_sources(loras)], display)
        return LoraWritten(settings.output)
    files = [one.file for one in loras]
    family = family_of(files)
    changes = merge_loras(loras, family)
    names = ", ".join(f"{one.file.title} at {one.strength:g}" for one in loras)
    common = {key: text for key, text in _common(files).items() if key != WORD}  # each file has a word of its own
    _write(settings, changes, family, {**common, "modelspec.merged_from": names})
    ranks = [pair.difference.rank or 0 for layers in changes.values() for pair in layers.values()]
    display.say(f"{names}: together {counted(len(ranks), 'layer')} of rank {max(ranks)}")
    _say_written(settings.output, display)
    _say_words(_sources(loras), display)
    return LoraWritten(settings.output)


def resize(settings: LoraResizeSettings, display: Display) -> LoraWritten:
    """Write a LoRA with other ranks. Raises ModelFileError if it cannot be read or resized, or if the output exists."""
    _check_output(settings.output, (".safetensors",))
    [lora] = read_loras([settings.source])
    family = family_of([lora.file])
    changes, parts = resize_lora(lora.file, family, rank=settings.rank, energy=settings.energy)
    _write(settings, changes, family, kept_metadata(lora.file.metadata))
    _show(parts, display)
    _say_written(settings.output, display)
    _say_words(_sources([lora]), display)
    return LoraWritten(settings.output, parts)


def convert(settings: LoraConvertSettings, display: Display) -> LoraWritten:
    """Write a LoRA under the names of other programs. Raises ModelFileError if it cannot be, or if the output exists."""
    _check_output(settings.output, (".safetensors",))
    [lora] = read_loras([settings.source])
    family = family_of([lora.file])
    changes = {
        part: {name.removesuffix(".weight"): change for name, change in found.items()}
        for part, found in changes_of(lora.file, family).items()
    }
    _write(settings, changes, family, kept_metadata(lora.file.metadata))
    _say_written(settings.output, display)
    _say_words(_sources([lora]), display)
    return LoraWritten(settings.output)


def _check_output(path: Path, suffixes: Sequence[str]) -> None:
    if path.suffix not in suffixes:
        raise ModelFileError(f"{path}: expected the suffix {' or '.join(suffixes)}", hint=f"Name it {path.stem}{suffixes[0]}.")
    if path.exists():
        raise ModelFileError(f"{path}: already exists", hint="Choose another name, or remove it first.")


def _write(
    settings: LoraExtractSettings | LoraMergeSettings | LoraResizeSettings | LoraConvertSettings,
    changes: LayerChanges,
    family: Family,
    metadata: Mapping[str, str],
) -> None:
    form: LoraForm = settings.form
    dtype: StorageDtype = settings.dtype
    Adapter(family, changes, form).write(settings.output, dtype=STORAGE_DTYPES[dtype], metadata=metadata)


def _common(files: Sequence[LoraFile]) -> dict[str, str]:
    """The metadata that all files agree on."""
    first, *others = (kept_metadata(file.metadata) for file in files)
    return {key: text for key, text in first.items() if all(other.get(key) == text for other in others)}


def _applied(model: ModelWeights) -> dict[str, str]:
    return {key: text for key, text in model.metadata.items() if key == APPLIED}


def _show(parts: Sequence[PartApproximation], display: Display) -> None:
    rows = [
        (part.title, str(part.num_layers), "-".join(map(str, dict.fromkeys(part.ranks))), f"{part.share:.1%}") for part in parts
    ]
    display.table("Kept of the change", ("part", "layers", "rank", "share"), rows)


def _sources(loras: Sequence[ScaledLora]) -> list[tuple[Path, Mapping[str, str]]]:
    return [(lora.file.path, lora.file.metadata) for lora in loras]


def _say_words(sources: Sequence[tuple[Path, Mapping[str, str]]], display: Display) -> None:
    """Where the words are that these files, with their metadata, were trained together with: a LoRA cannot hold them."""
    for path, metadata in sources:
        file = RunFolder(path).final_model if path.is_dir() else path
        if (word := own_word(file, metadata)) is not None:
            display.say(f"The learned word '{word.word}' stays in its own file: --embedding {quoted(word.file.path)}")
        elif WORD in metadata:
            display.warn(
                f"{file}: was trained with the learned word '{metadata[WORD]}', whose vectors are not in {word_beside(file)}; "
                "without them the word means little: give their file as --embedding FILE"
            )


def _say_written(path: Path, display: Display) -> None:
    display.say(
        f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB). To use it: dreambooth generate --model MODEL --lora {quoted(path)}"
    )
