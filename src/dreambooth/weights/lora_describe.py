"""What a LoRA file says and shows about itself, without the model that it is for."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dreambooth.diffusion.low_rank import Difference, Hadamard, Kronecker, LowRank, Whole
from dreambooth.reading import parse_json
from dreambooth.weights.lora_fields import difference_of
from dreambooth.weights.lora_file import LoraFile
from dreambooth.weights.subjects import SUBJECTS

__all__ = ["LoraDescription", "LoraPart", "describe_lora", "made_for", "trigger_words"]

_PARTS = (
    (r"lora_unet_|lycoris_|unet\.", "UNet"),
    (r"lora_te_|lora_te1_|text_encoder\.", "text encoder"),
    (r"lora_te2_|text_encoder_2\.", "second text encoder"),
)
_ARCHITECTURES = (
    (r"stable-diffusion-xl|^sdxl", "Stable Diffusion XL"),
    (r"stable-diffusion-v2|^sd_v2", "Stable Diffusion 2"),
    (r"stable-diffusion-v1|^sd_v1", "Stable Diffusion 1"),
)
_BY_CONTEXT_WIDTH = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
_CROSS_ATTENTION = re.compile(r"attn2[._]to_[kv]$")
_KINDS = (("hada_", "LoHa"), ("lokr_", "LoKr"), ("diff", "full difference"), ("down", "LoRA"))
_WHOLE = ("diff", "w_norm", "diff_b", "b_norm")
_MOST_TAGS = 5


@dataclass(frozen=True)
class LoraPart:
    """The layers of one part of a model."""

    title: str
    num_layers: int
    ranks: tuple[int, ...]
    """Without repetitions, the smallest first."""
    alphas: tuple[float, ...]
    num_parameters: int
    norm: float
    """Root of the sum of the squares of all differences, at strength 1; the norms that a DoRA sets are not in it."""


@dataclass(frozen=True)
class LoraDescription:
    """A LoRA file in words and numbers."""

    path: Path
    kinds: tuple[str, ...]
    """LoRA, DoRA, LoHa, LoKr, ..."""
    form: str
    made_for: str | None
    """Title of the family; None if neither metadata nor sizes tell it."""
    parts: tuple[LoraPart, ...]
    triggers: tuple[str, ...]
    """Words that prompts should contain."""
    embeddings: tuple[str, ...]
    dtypes: tuple[str, ...]
    metadata: Mapping[str, str]


def describe_lora(file: LoraFile) -> LoraDescription:
    """Describe a file; reads all of its tensors."""
    by_part: dict[str, dict[str, Mapping[str, Tensor]]] = {}
    for name, fields in file.layers.items():
        by_part.setdefault(_part(name), {})[name] = fields
    tensors = [tensor for fields in file.layers.values() for tensor in fields.values()]
    return LoraDescription(
        path=file.path,
        kinds=tuple(_kinds(file)),
        form="PEFT (diffusers)" if file.form == "peft" else "kohya",
        made_for=made_for(file),
        parts=tuple(_describe_part(title, by_part[title], file) for _, title in _PARTS if title in by_part),
        triggers=trigger_words(file.metadata),
        embeddings=file.embeddings,
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.ndim})),
        metadata=file.metadata,
    )


def trigger_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The words that a file says prompts should contain, the most important first; empty if it says nothing."""
    phrases = metadata.get("modelspec.trigger_phrase", "").split(",")  # of several subjects, one phrase each
    found = [phrase for given in phrases if (phrase := given.strip())]
    try:
        found += [f"{one['token']} {one['class_word']}".strip() for one in parse_json(metadata.get(SUBJECTS, "[]"))]
        tags = Counter[str]()
        for folder in parse_json(metadata.get("ss_tag_frequency", "{}")).values():
            tags.update(folder)
        found += [tag for tag, _ in tags.most_common(_MOST_TAGS)]
    except (ValueError, TypeError, KeyError, AttributeError):  # damaged, or of another program
        pass
    return tuple(dict.fromkeys(found))


def _kinds(file: LoraFile) -> Iterator[str]:
    names = {name for fields in file.layers.values() for name in fields}
    for start, kind in _KINDS:
        if any(name.startswith(start) for name in names):
            yield "DoRA" if kind == "LoRA" and "magnitude" in names else kind
    if "middle" in names:
        yield "Tucker kernels"
    if file.embeddings:
        yield "embeddings"


def _part(layer: str) -> str:
    for pattern, title in _PARTS:
        if re.match(pattern, layer):
            return title
    return "UNet"


def made_for(file: LoraFile) -> str | None:
    """Title of the family that a file is for, by its metadata or its sizes; None if neither tells it."""
    said = " ".join(file.metadata.get(key, "") for key in ("modelspec.architecture", "ss_base_model_version")).strip()
    for pattern, title in _ARCHITECTURES:
        if re.search(pattern, said):
            return title
    widths = [
        fields["down"].shape[1]
        for name, fields in file.layers.items()
        if _CROSS_ATTENTION.search(name) and "down" in fields and _part(name) == "UNet"
    ]
    if said:
        return said
    return _BY_CONTEXT_WIDTH.get(Counter(widths).most_common(1)[0][0]) if widths else None


def _describe_part(title: str, layers: Mapping[str, Mapping[str, Tensor]], file: LoraFile) -> LoraPart:
    differences = [one for fields in layers.values() for one in _differences(fields, file)]
    products = [one for one in differences if isinstance(one, LowRank | Hadamard | Kronecker) and one.rank is not None]
    return LoraPart(
        title=title,
        num_layers=len(layers),
        ranks=tuple(sorted({product.rank for product in products if product.rank is not None})),
        alphas=tuple(sorted({product.alpha for product in products})),
        num_parameters=sum(tensor.numel() for fields in layers.values() for name, tensor in fields.items() if name != "alpha"),
        norm=math.sqrt(sum(one.squared_norm() for one in differences)),
    )


def _differences(fields: Mapping[str, Tensor], file: LoraFile) -> Iterator[Difference]:
    """What a layer's fields add to its weight and its bias. A LoRA that lacks a field adds nothing that could be measured."""
    try:
        product = difference_of(fields, lambda rank: _alpha(fields, file, rank))
    except KeyError:
        product = None
    yield from () if product is None else (product,)
    yield from (Whole(fields[name]) for name in _WHOLE if name in fields)


def _alpha(fields: Mapping[str, Tensor], file: LoraFile, rank: int) -> float:
    if "alpha" in fields:
        return float(fields["alpha"])
    said = [value for name, value in file.configuration.items() if name.endswith(".lora_alpha")]
    return float(said[0]) if said else float(rank)
