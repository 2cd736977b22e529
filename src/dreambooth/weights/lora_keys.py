"""The names of a model's layers in LoRA files.

kohya's programs write one flat name for each layer, with underscores in place of dots: `lora_unet_` or `lora_te_` and the name
of the layer in diffusers; for models with two text encoders the original's name, and `lora_te1_` and `lora_te2_`. diffusers and
PEFT write dotted names that begin with the part. All of these are read; the first of a layer's names is the one to write.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from dreambooth.families.family import Family
from dreambooth.trainees.layer_changes import change_shapes
from dreambooth.trainees.parts import learning_parts, lora_layers_of
from dreambooth.trainees.settings import LoraForm, TraineeSettings

__all__ = ["LayerName", "layer_names", "names_to_write", "num_lora_parameters"]

_TEXT_LEVEL = "text_model."
_WITHOUT_LEVEL = ("text_projection",)  # stands beside the transformer, not in it
_PEFT_LEVELS = ("", "base_model.model.")  # the second in files of PEFT itself


@dataclass(frozen=True)
class LayerName:
    """A layer of a model: its part, and its canonical name without ".weight"."""

    part: str
    layer: str

    def __str__(self) -> str:
        return f"{self.part}.{self.layer}"


@cache
def layer_names(family: Family) -> Mapping[str, LayerName]:
    """Maps every name that a layer of the denoiser or a text encoder may have in a LoRA file to the layer."""
    found: dict[str, LayerName] = {}
    forms: tuple[LoraForm, ...] = ("kohya", "peft")
    for form in forms:
        for layer, names in _spellings(family, form):
            for name in names:
                assert found.get(name, layer) == layer, f"{name} is a name of {found[name]} and of {layer}"
                found[name] = layer
    return found


@cache
def names_to_write(family: Family, form: LoraForm) -> Mapping[LayerName, str]:
    """The name of each layer in a file of this form."""
    return {layer: names[0] for layer, names in _spellings(family, form)}


def num_lora_parameters(family: Family, settings: TraineeSettings) -> int:
    """Numbers in all that is trained of a LoRA with these settings."""
    shapes = [
        family.parts[part].blueprint[f"{layer}.weight"]
        for part in learning_parts(settings, family)
        for layer in lora_layers_of(part, settings, family)
    ]
    return sum(math.prod(tensor) for shape in shapes for tensor in change_shapes(settings, shape).values())


def _spellings(family: Family, form: LoraForm) -> Iterator[tuple[LayerName, list[str]]]:
    denoiser = family.denoiser
    originals = _original_layers(family) if len(family.text_encoders) > 1 else {}
    for layer in _layers(family.parts[denoiser].blueprint):
        flat = [*([originals[layer]] if layer in originals else []), layer]
        if form == "kohya":
            names = [*(f"lora_unet_{_flat(name)}" for name in flat), f"lycoris_{_flat(layer)}"]
        else:
            names = [f"{denoiser}.{layer}", *(f"{level}{layer}" for level in _PEFT_LEVELS)]
        yield LayerName(denoiser, layer), names
    for number, part in enumerate(family.text_encoders, start=1):
        prefixes = ["lora_te_", "lora_te1_"] if len(family.text_encoders) == 1 else [f"lora_te{number}_"]
        for layer in _layers(family.parts[part].blueprint):
            inner = [layer] if layer.startswith(_WITHOUT_LEVEL) else [f"{_TEXT_LEVEL}{layer}", layer]
            if form == "kohya":
                names = [f"{prefix}{_flat(name)}" for name in inner for prefix in prefixes]
            else:
                names = [f"{part}.{name}" for name in inner]
            yield LayerName(part, layer), names


def _layers(names: Iterable[str]) -> list[str]:
    return [name.removesuffix(".weight") for name in names if name.endswith(".weight")]


def _original_layers(family: Family) -> dict[str, str]:
    """Maps canonical layers of the denoiser to the original's names, without the level that all of them share."""
    pairs = {pair.canonical: pair.original for pair in family.parts[family.denoiser].keys}
    common = "model.diffusion_model."
    return {
        canonical.removesuffix(".weight"): original.removesuffix(".weight").removeprefix(common)
        for canonical, original in pairs.items()
        if canonical.endswith(".weight")
    }


def _flat(name: str) -> str:
    return name.replace(".", "_")
