"""Reading LoRA files of every form, before it is known which model they are for.

A file holds a few small tensors for each layer. Their names end in a field, such as `.lora_up.weight`; what is before it names
the layer (see `lora_keys`). Nothing is dropped: a tensor of an unknown kind is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.reading import parse_json
from dreambooth.trainees.settings import LoraForm
from dreambooth.weights.containers import open_tensor_file
from dreambooth.weights.folder_configuration import read_json

__all__ = ["PEFT_CONFIG", "LoraFile", "is_lora", "is_lora_file", "read_lora_file"]

PEFT_CONFIG = "lora_adapter_metadata"
"""Metadata key under which diffusers keeps the configuration of PEFT, as JSON."""

_FIELDS: Mapping[str, tuple[LoraForm, str]] = {
    ".lora_down.weight": ("kohya", "down"),
    ".lora_up.weight": ("kohya", "up"),
    ".lora_mid.weight": ("kohya", "middle"),
    ".dora_scale": ("kohya", "magnitude"),
    **{f".hada_{name}": ("kohya", f"hada_{name}") for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f".lokr_{name}": ("kohya", f"lokr_{name}") for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    **{f".{name}": ("kohya", name) for name in ("alpha", "diff", "diff_b", "w_norm", "b_norm")},
    ".lora_A.weight": ("peft", "down"),
    ".lora_B.weight": ("peft", "up"),
    ".lora_A.default.weight": ("peft", "down"),
    ".lora_B.default.weight": ("peft", "up"),
    ".lora.down.weight": ("peft", "down"),
    ".lora.up.weight": ("peft", "up"),
    "_lora.down.weight": ("peft", "down"),  # diffusers before 0.17
    "_lora.up.weight": ("peft", "up"),
    ".lora_linear_layer.down.weight": ("peft", "down"),
    ".lora_linear_layer.up.weight": ("peft", "up"),
    ".lora_magnitude_vector": ("peft", "magnitude"),
    ".lora_magnitude_vector.weight": ("peft", "magnitude"),
    ".lora_magnitude_vector.default.weight": ("peft", "magnitude"),
}
_OTHER_KINDS = (
    (r"\.oft_(blocks|diag|R)\b|\.oft_r\b", "OFT (rotations of a layer's outputs)"),
    (r"\.boft_[RS]\b", "BOFT (rotations of a layer's outputs)"),
    (r"\.hra_u\b", "HRA (reflections of a layer's inputs)"),
    (r"\.(vera_lambda_[bd]|base_model\.vera_[AB])|\bvera_[AB]\b", "VeRA (shared random matrices)"),
    (r"\.on_input$|\.ia3_l\b", "(IA)3 (factors of a layer's outputs)"),
    (r"\.[ab][12]\.weight$|\.bm\.weight$", "GLoRA (products with the layer's own weights)"),
    (r"\.(lora_[AB]|lora\.(up|down)|lora_(up|down))\.bias$", "LoRA with biases"),
    (r"\.lora_embedding_[AB]\b", "LoRA of an embedding table"),
    (r"^transformer\.|^lora_transformer_|^(lora_unet_)?(double|single|joint)_blocks", "a LoRA for a diffusion transformer"),
)
_EMBEDDING = re.compile(r"bundle_emb\.([^.]+)\.")
_OLD_PROCESSOR = ".processor."
_MARKS = re.compile(r"(\.|_)lora([._]|$)|\.hada_w|\.lokr_w|\.dora_scale$|^lora_(unet|te\d?)_|^lycoris_")
_NAMED = 5
_SAME_NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "model.safetensors")
_WHERE = "Give a LoRA file (.safetensors), or the run folder that wrote one."


@dataclass(frozen=True)
class LoraFile:
    """What a LoRA file holds: for each layer, by its name in the file, a few tensors by the name of their field."""

    path: Path
    form: LoraForm
    layers: Mapping[str, Mapping[str, Tensor]]
    metadata: Mapping[str, str]
    embeddings: tuple[str, ...] = ()
    """Names of learned words that the file holds beside the layers."""

    @property
    def title(self) -> str:
        """The file's name, or its folder's where all files have the same name."""
        return self.path.parent.name if self.path.name in _SAME_NAMES else self.path.name

    @cached_property
    def configuration(self) -> Mapping[str, Any]:
        """PEFT's configuration by part and setting, such as "unet.lora_alpha"; empty if the file has none."""
        try:
            found = parse_json(self.metadata.get(PEFT_CONFIG, "{}"))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def is_lora(names: Iterable[str]) -> bool:
    """Whether a file with tensors of these names is a LoRA or a relative of it."""
    return any(_MARKS.search(name) for name in names)


def is_lora_file(path: Path) -> bool:
    """Whether a path is a LoRA in a .safetensors file, or a folder with one of PEFT or diffusers; reads only the header."""
    if path.is_dir():
        return any((path / name).is_file() for name in _SAME_NAMES[:2]) and not (path / "config.yaml").is_file()
    return path.suffix == ".safetensors" and path.is_file() and is_lora(open_tensor_file(path).tensors)


def read_lora_file(path: Path) -> LoraFile:
    """Read a file, or a folder with PEFT's or diffusers' file in it; the tensors stay in the mapped file until they are used.

    Raises ModelFileError when it is something else, or of a kind that is not supported, which it names.
    """
    file = _file_in(path) if path.is_dir() else path
    opened = open_tensor_file(file)
    names = list(opened.tensors)
    for pattern, kind in _OTHER_KINDS:
        if found := [name for name in names if re.search(pattern, name)]:
            raise ModelFileError(f"{file}: this is {kind}, which is not supported; it holds {found[0]}", hint=_WHERE)
    if not is_lora(names):
        raise ModelFileError(f"{file}: not a LoRA file; it holds {', '.join(names[:_NAMED])}", hint=_WHERE)
    layers: dict[str, dict[str, Tensor]] = {}
    forms: list[LoraForm] = []
    embeddings, unknown = dict[str, None](), list[str]()
    for name, tensor in opened.tensors.items():
        if (embedding := _EMBEDDING.match(name)) is not None:
            embeddings[embedding[1]] = None
        elif (split := _split(name)) is not None:
            layer, form, field = split
            layers.setdefault(layer, {})[field] = tensor
            if field != "alpha":
                forms.append(form)
        else:
            unknown.append(name)
    if unknown:
        some = ", ".join(unknown[:_NAMED]) + (", ..." if len(unknown) > _NAMED else "")
        raise ModelFileError(f"{file}: holds tensors that belong to no known kind of LoRA: {some}", hint=_WHERE)
    metadata = {**opened.metadata, **_configuration_beside(file)}
    return LoraFile(file, max(set(forms), key=forms.count), layers, metadata, tuple(embeddings))


def _file_in(folder: Path) -> Path:
    found = [folder / name for name in _SAME_NAMES if (folder / name).is_file()]
    if not found:
        raise ModelFileError(f"{folder}: holds none of {', '.join(_SAME_NAMES)}", hint=_WHERE)
    return found[0]


def _split(name: str) -> tuple[str, LoraForm, str] | None:
    """The layer, the form and the field of a tensor's name; None if it ends in no field."""
    for suffix, (form, field) in _FIELDS.items():
        if name.endswith(suffix):
            layer = name.removesuffix(suffix)
            if _OLD_PROCESSOR in layer:
                layer = layer.replace(_OLD_PROCESSOR, ".")
                layer = f"{layer}.0" if layer.endswith("to_out") else layer
            return layer, form, field
    return None


def _configuration_beside(file: Path) -> dict[str, str]:
    """PEFT's own configuration file, in diffusers' form; it belongs to whatever part the file is for."""
    beside = file.parent / "adapter_config.json"
    if file.name != "adapter_model.safetensors" or not beside.is_file():
        return {}
    return {PEFT_CONFIG: json.dumps({f"unet.{name}": value for name, value in read_json(beside).items()})}
