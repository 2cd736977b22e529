"""Writing LoRA files in the two forms that other programs read.

kohya's form is read by stable-diffusion-webui, Forge, ComfyUI, InvokeAI and diffusers; it carries alpha beside each layer. LoHa
and LoKr have the names of LyCORIS in it, which all of these but diffusers read.
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

from dreambooth.diffusion.low_rank import Change, Hadamard, Kronecker, LowRank
from dreambooth.errors import ModelFileError
from dreambooth.families.family import Family
from dreambooth.runtime.tensor_files import CONTENT_HASH, KOHYA_HASH, write_tensors
from dreambooth.trainees.settings import LoraForm
from dreambooth.weights.lora_fields import factor_fields
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
    the form has no names for a change.
    """
    if path.suffix != ".safetensors":
        hint = f"Name it {path.with_suffix('.safetensors')}."
        raise ModelFileError(f"{path}: a LoRA is written as .safetensors, found '{path.suffix}'", hint=hint)
    tensors = _kohya_tensors(path, adapter) if adapter.form == "kohya" else _peft_tensors(_low_rank_layers(path, adapter))
    exact = [name for name in tensors if name.endswith((".alpha", ".dora_scale", ".lora_magnitude_vector"))]
    said = {**_specification(path, adapter), **metadata, CONTENT_HASH: "", KOHYA_HASH: ""}
    write_tensors(path, tensors, dtype=dtype, unchanged=exact, metadata=said)


def _named_changes(adapter: Adapter) -> Iterator[tuple[LayerName, str, Change]]:
    names = names_to_write(adapter.family, adapter.form)
    for part, changes in adapter.changes.items():
        for layer, change in changes.items():
            yield LayerName(part, layer), names[LayerName(part, layer)], change


def _low_rank_layers(path: Path, adapter: Adapter) -> dict[str, tuple[LowRank, Tensor | None]]:
    found: dict[str, tuple[LowRank, Tensor | None]] = {}
    for layer, name, change in _named_changes(adapter):
        difference = change.difference
        if not isinstance(difference, LowRank) or difference.middle is not None:
            raise ModelFileError(
                f"{path}: the change of {layer} is not a product of two matrices, for which PEFT's form has no names",
                hint="Write kohya's: --form kohya",
            )
        found[name] = (difference, change.magnitude)
    return found


def _kohya_tensors(path: Path, adapter: Adapter) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for layer, name, change in _named_changes(adapter):
        fields = factor_fields(change.difference)
        if fields is None:
            raise ModelFileError(f"{path}: the change of {layer} is a difference that is stored whole, which no LoRA holds")
        difference = change.difference
        assert isinstance(difference, LowRank | Hadamard | Kronecker)
        tensors |= {f"{name}.{field}": tensor for field, tensor in fields.items()}
        tensors[f"{name}.alpha"] = torch.tensor(difference.alpha, dtype=torch.float32)
        if change.magnitude is not None:
            num_axes = difference.down.ndim if isinstance(difference, LowRank) else 2
            tensors[f"{name}.dora_scale"] = change.magnitude.float().reshape(-1, *[1] * (num_axes - 1))
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
    products = [difference for difference in differences if isinstance(difference, LowRank | Hadamard | Kronecker)]
    version = _BASE_VERSIONS.get((family.architecture, family.prediction))
    kohya = {
        **_module(products[0]),
        "ss_network_dim": str(max(product.rank or 1 for product in products)),
        "ss_network_alpha": f"{max(product.alpha for product in products):g}",
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


def _module(difference: LowRank | Hadamard | Kronecker) -> dict[str, str]:
    if isinstance(difference, LowRank):
        return {"ss_network_module": "networks.lora"}
    algorithm = "loha" if isinstance(difference, Hadamard) else "lokr"
    return {"ss_network_module": "lycoris.kohya", "ss_network_args": json.dumps({"algo": algorithm})}


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
