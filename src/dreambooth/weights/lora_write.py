"""Writing LoRA files in the two forms that other programs read.

kohya's form is read by stable-diffusion-webui, Forge, ComfyUI, InvokeAI and diffusers; it carries alpha beside each layer.
PEFT's form is what diffusers writes; alpha is in the file's metadata, under the key that diffusers reads.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreambooth.diffusion.low_rank import Change, LowRank
from dreambooth.errors import ModelFileError
from dreambooth.families.family import Family
from dreambooth.runtime.tensor_files import CONTENT_HASH, KOHYA_HASH, write_tensors
from dreambooth.trainees.settings import LoraForm
from dreambooth.weights.lora_file import PEFT_CONFIG
from dreambooth.weights.lora_keys import LayerName, names_to_write
from dreambooth.weights.write import model_specification

__all__ = ["Adapter", "LayerChanges", "write_lora"]

LayerChanges = Mapping[str, Mapping[str, Change]]
"""Changes of low rank by part and canonical name of the layer (without ".weight")."""

_BASE_VERSIONS = {
    ("stable-diffusion-v1", "epsilon"): "sd_v1",
    ("stable-diffusion-v2-512", "epsilon"): "sd_v2",
    ("stable-diffusion-v2-768-v", "velocity"): "sd_v2_v",
    ("stable-diffusion-xl-v1-base", "epsilon"): "sdxl_base_v1-0",
}


@dataclass(frozen=True)
class Adapter:
    """Changes of a family's layers, to be written as a LoRA file."""

    family: Family
    changes: LayerChanges
    form: LoraForm

    def write(self, path: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
        """See `write_lora`."""
        write_lora(path, self, dtype=dtype, metadata=metadata)


def write_lora(path: Path, adapter: Adapter, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
    """Write the changes to a .safetensors file, atomically, with `metadata` beside what tells other programs the kind.

    Matrices are converted to `dtype`; alphas and norms stay in float32. Raises ModelFileError if the suffix is another, or if
    a change is not of low rank.
    """
    if path.suffix != ".safetensors":
        hint = f"Name it {path.with_suffix('.safetensors')}."
        raise ModelFileError(f"{path}: a LoRA is written as .safetensors, found '{path.suffix}'", hint=hint)
    layers = dict(_low_rank_layers(path, adapter))
    tensors = _kohya_tensors(layers) if adapter.form == "kohya" else _peft_tensors(layers)
    exact = [name for name in tensors if name.endswith((".alpha", ".dora_scale", ".lora_magnitude_vector"))]
    said = {**_specification(path, adapter), **metadata, CONTENT_HASH: "", KOHYA_HASH: ""}
    write_tensors(path, tensors, dtype=dtype, unchanged=exact, metadata=said)


def _low_rank_layers(path: Path, adapter: Adapter) -> Iterator[tuple[str, tuple[LowRank, Tensor | None]]]:
    names = names_to_write(adapter.family, adapter.form)
    for part, changes in adapter.changes.items():
        for layer, change in changes.items():
            difference = change.difference
            if not isinstance(difference, LowRank) or difference.middle is not None:
                raise ModelFileError(f"{path}: the change of {part}.{layer} is not a product of two matrices")
            yield names[LayerName(part, layer)], (difference, change.magnitude)


def _kohya_tensors(layers: Mapping[str, tuple[LowRank, Tensor | None]]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, (difference, magnitude) in layers.items():
        tensors[f"{name}.lora_down.weight"] = difference.down
        tensors[f"{name}.lora_up.weight"] = difference.up
        tensors[f"{name}.alpha"] = torch.tensor(difference.alpha, dtype=torch.float32)
        if magnitude is not None:
            tensors[f"{name}.dora_scale"] = magnitude.float().reshape(-1, *[1] * (difference.down.ndim - 1))
    return tensors


def _peft_tensors(layers: Mapping[str, tuple[LowRank, Tensor | None]]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, (difference, magnitude) in layers.items():
        tensors[f"{name}.lora_A.weight"] = difference.down
        tensors[f"{name}.lora_B.weight"] = difference.up
        if magnitude is not None:
            tensors[f"{name}.lora_magnitude_vector"] = magnitude.float().reshape(-1)
    return tensors


def _specification(path: Path, adapter: Adapter) -> dict[str, str]:
    """Metadata by which other programs recognize the file."""
    family = adapter.family
    differences = [change.difference for changes in adapter.changes.values() for change in changes.values()]
    pairs = [difference for difference in differences if isinstance(difference, LowRank)]
    version = _BASE_VERSIONS.get((family.architecture, family.prediction))
    kohya = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(max(pair.rank for pair in pairs)),
        "ss_network_alpha": f"{max(pair.alpha for pair in pairs):g}",
        "ss_output_name": path.stem,
        "ss_v2": str(family.architecture.startswith("stable-diffusion-v2")),
        **({} if version is None else {"ss_base_model_version": version}),
    }
    return {
        **model_specification(family, path.stem),
        "modelspec.architecture": f"{family.architecture}/lora",
        **kohya,
        **({} if adapter.form == "kohya" else {PEFT_CONFIG: json.dumps(_peft_configuration(adapter)), "format": "pt"}),
    }


def _peft_configuration(adapter: Adapter) -> dict[str, Any]:
    """The configuration of each part in PEFT's words: the commonest rank and alpha, and the layers that differ."""
    said: dict[str, Any] = {}
    for part, changes in adapter.changes.items():
        pairs = {layer: change.difference for layer, change in changes.items() if isinstance(change.difference, LowRank)}
        rank = Counter(pair.rank for pair in pairs.values()).most_common(1)[0][0]
        alpha = Counter(pair.alpha for pair in pairs.values()).most_common(1)[0][0]
        settings = {
            "r": rank,
            "lora_alpha": alpha,
            "target_modules": sorted(pairs),
            "rank_pattern": {layer: pair.rank for layer, pair in pairs.items() if pair.rank != rank},
            "alpha_pattern": {layer: pair.alpha for layer, pair in pairs.items() if pair.alpha != alpha},
            "use_dora": any(change.magnitude is not None for change in changes.values()),
        }
        said |= {f"{part}.{name}": value for name, value in settings.items()}
    return said
