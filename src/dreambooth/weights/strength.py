"""A trained model at less or more than its full strength: base + strength * (trained - base), tensor by tensor.

A fine-tuned model and its base lie close together, and the models on the line between them work (WiSE-FT, Wortsman et al.,
arXiv 2109.01903). 0 is the base model, 1 the trained one; a little above 1 exaggerates what was learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dreambooth.display import quoted
from dreambooth.errors import ModelFileError
from dreambooth.families.mapped_pages import MappedPages
from dreambooth.weights.model_weights import ModelWeights, recorded_inputs

__all__ = ["at_strength"]

_WITHOUT_STRENGTH = (
    "Omit --strength. A LoRA that was trained together with a word has one: --model MODEL --lora FILE:0.5, which finds the word"
)


def at_strength(trained: ModelWeights, base: ModelWeights, strength: float) -> ModelWeights:
    """The model on the line from `base` to `trained`, in the number formats of `trained`; calculated in float32.

    Tensors that training did not change are taken as they are. Raises ModelFileError when `base` is not the model that
    `trained` was trained from, as far as its file says so, or has other tensors.
    """
    if trained.words and strength != 1:
        raise ModelFileError(f"{trained.report.source}: a learned word has no strength", hint=_WITHOUT_STRENGTH)
    _check_is_base(trained, base)
    if strength == 1:
        return trained
    pages = MappedPages()
    parts: dict[str, Mapping[str, Tensor]] = {}
    for part, tensors in trained.parts.items():
        parts[part] = {name: _between(base.parts[part][name], tensor, strength) for name, tensor in tensors.items()}
        for tensor in (*base.parts[part].values(), *tensors.values()):
            pages.release(tensor)
    return replace(trained, parts=parts, metadata={**trained.metadata, "dreambooth.strength": f"{strength:g}"})


def _between(base: Tensor, trained: Tensor, strength: float) -> Tensor:
    if base.dtype == trained.dtype and torch.equal(base, trained):
        return trained
    low, high = base.float(), trained.float()
    return (low + strength * (high - low)).to(trained.dtype)


def _check_is_base(trained: ModelWeights, base: ModelWeights) -> None:
    recorded = recorded_inputs(trained.metadata).get("base model")
    source = trained.report.source
    if recorded is not None and recorded != base.digest():
        raise ModelFileError(
            f"{base.report.source}: not the model that {source} was trained from",
            hint=f"Give the base model of the training: --base MODEL. What {source} says of itself: "
            f"dreambooth inspect {quoted(source)}",
        )
    differing = [
        f"{part}.{name}"
        for part, tensors in trained.parts.items()
        for name, tensor in tensors.items()
        if (other := base.parts.get(part, {}).get(name)) is None or other.shape != tensor.shape
    ]
    if differing:
        raise ModelFileError(
            f"{base.report.source}: not of the same kind as {source}: {', '.join(differing[:3])} differ",
            hint="Give the base model of the training: --base MODEL",
        )
