"""LoRA files made of models and of other LoRA files: extracted, merged, resized, and under other names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dreambooth.diffusion.low_rank import Change, LowRank
from dreambooth.diffusion.low_rank_svd import Approximation, concatenated, nearest_of_rank, resized
from dreambooth.display import quoted
from dreambooth.errors import ModelFileError
from dreambooth.families.family import Family
from dreambooth.families.full_size import full_size_stable_diffusion_1, full_size_stable_diffusion_xl
from dreambooth.families.mapped_pages import MappedPages
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.trainees.settings import LoraTargets
from dreambooth.weights.lora_apply import ScaledLora, changes_of
from dreambooth.weights.lora_describe import made_for
from dreambooth.weights.lora_file import PEFT_CONFIG, LoraFile
from dreambooth.weights.lora_keys import layer_names
from dreambooth.weights.lora_write import LayerChanges
from dreambooth.weights.model_weights import ModelWeights

__all__ = [
    "Extracted",
    "PartApproximation",
    "extract_lora",
    "family_of",
    "kept_metadata",
    "merge_loras",
    "pairs_of",
    "resize_lora",
]

_OF_THE_OLD_FILE = ("ss_network_", "sshs_", "modelspec.hash", "format", PEFT_CONFIG)
_MOST_TEXT_LAYERS = 32
_ONE_PAIR = "only pairs of two matrices can be"

Advance = Callable[[int], None]


@dataclass(frozen=True)
class PartApproximation:
    """What the matrices of one part keep of the changes that they stand for."""

    title: str
    num_layers: int
    ranks: tuple[int, ...]
    """The smallest and the largest."""
    share: float
    """Of the energy of these layers' changes, from 0 to 1."""


@dataclass(frozen=True)
class Extracted:
    """A difference of two models as LoRA changes."""

    changes: LayerChanges
    parts: tuple[PartApproximation, ...]
    num_left_out: int
    """Changed tensors that are no target: norms, biases, tables."""
    share_left_out: float
    """Of the energy of all changes, in these."""


@torch.no_grad()
def extract_lora(
    base: ModelWeights,
    tuned: ModelWeights,
    *,
    rank: int | None,
    energy: float,
    targets: LoraTargets,
    advance: Advance = lambda _: None,
) -> Extracted:
    """The difference between a model and its base as pairs of `rank`; None: as large as keeps a share of each layer's energy.

    Raises ModelFileError if the two have other tensors, or do not differ in any target.
    """
    family, release = base.family, MappedPages().release
    found: dict[str, dict[str, Approximation]] = {}
    left_out: list[float] = []
    for part in (family.denoiser, *family.text_encoders):
        layers = {f"{layer}.weight": layer for layer in family.lora_targets(part, targets)}
        for name, (before, after) in _both(base, tuned, part):
            if not torch.equal(before, after):
                difference = after.float() - before.float()
                if name in layers:
                    approximation = nearest_of_rank(difference, rank, energy=energy)
                    found.setdefault(part, {})[layers[name]] = approximation
                else:
                    left_out.append(float(difference.square().sum()))
            release(before)
            release(after)
            advance(1)
    if not found:
        raise ModelFileError(
            f"{tuned.report.source}: does not differ from {base.report.source} in any layer that a LoRA changes",
            hint="Give the base model and then the model that was trained from it.",
        )
    inside = sum(one.energy for layers in found.values() for one in layers.values())
    return Extracted(
        changes={part: {layer: Change(one.pair) for layer, one in layers.items()} for part, layers in found.items()},
        parts=tuple(_described(family.parts[part].title, [*layers.values()]) for part, layers in found.items()),
        num_left_out=len(left_out),
        share_left_out=sum(left_out) / (inside + sum(left_out)),
    )


def _both(base: ModelWeights, tuned: ModelWeights, part: str) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    for name, before in base.parts[part].items():
        after = tuned.parts.get(part, {}).get(name)
        if after is None or after.shape != before.shape:
            raise ModelFileError(
                f"{tuned.report.source}: not of the same kind as {base.report.source}: {part}.{name} differs",
                hint="Give the base model and then the model that was trained from it.",
            )
        yield name, (before, after)


@torch.no_grad()
def merge_loras(loras: Sequence[ScaledLora], family: Family) -> LayerChanges:
    """The sum of several LoRAs at their strengths as one, exactly: the ranks of each layer add up.

    Raises ModelFileError for changes that are not pairs of two matrices, or for files of different models.
    """
    together: dict[str, dict[str, list[tuple[LowRank, float]]]] = {}
    for lora in loras:
        for part, pairs in pairs_of(lora.file, family, what="merged into one file").items():
            for layer, pair in pairs.items():
                together.setdefault(part, {}).setdefault(layer, []).append((pair, lora.strength))
    try:
        return {
            part: {layer: Change(concatenated(pairs)) for layer, pairs in layers.items()} for part, layers in together.items()
        }
    except ValueError as error:
        files = ", ".join(str(lora.file.path) for lora in loras)
        raise ModelFileError(f"{files}: for different models: {error}") from error


@torch.no_grad()
def resize_lora(
    file: LoraFile, family: Family, *, rank: int | None, energy: float
) -> tuple[LayerChanges, tuple[PartApproximation, ...]]:
    """A LoRA with other ranks, and what is kept of it. Raises ModelFileError for changes that are not pairs of two matrices."""
    found = {
        part: {layer: resized(pair, rank, energy=energy) for layer, pair in pairs.items()}
        for part, pairs in pairs_of(file, family, what="resized").items()
    }
    changes = {part: {layer: Change(one.pair) for layer, one in layers.items()} for part, layers in found.items()}
    return changes, tuple(_described(family.parts[part].title, [*layers.values()]) for part, layers in found.items())


def pairs_of(file: LoraFile, family: Family, *, what: str) -> Mapping[str, Mapping[str, LowRank]]:
    """The pairs of a file by part and layer. Raises ModelFileError if it holds other changes, which cannot be `what`."""
    pairs: dict[str, dict[str, LowRank]] = {}
    for part, changes in changes_of(file, family).items():
        for name, change in changes.items():
            pair = change.difference
            if change.magnitude is not None or not isinstance(pair, LowRank) or pair.middle is not None:
                raise ModelFileError(
                    f"{file.path}: {part}.{name}: {_ONE_PAIR} {what}, and this is another kind of change",
                    hint="dreambooth lora merge --model MODEL makes it part of a whole model instead.",
                )
            pairs.setdefault(part, {})[name.removesuffix(".weight")] = pair
    return {part: pairs[part] for part in family.parts if part in pairs}


def family_of(files: Sequence[LoraFile]) -> Family:
    """A family that has every layer of the files, by their names; its sizes mean nothing.

    Where several have, as with the names of PEFT, what the files say decides. Raises ModelFileError if none has.
    """
    known: list[Family] = [_any_stable_diffusion_1(), full_size_stable_diffusion_xl()]
    layers = {layer: file for file in files for layer in file.layers}
    for family in sorted(known, key=lambda family: family.title not in {made_for(file) for file in files}):
        if all(layer in layer_names(family) for layer in layers):
            return family
    names = [layer_names(family) for family in known]
    stranger = next((layer for layer in layers if all(layer not in one for one in names)), next(iter(layers)))
    raise ModelFileError(
        f"{layers[stranger].path}: {stranger} is no layer of a {' or a '.join(family.title for family in known)}, or the files "
        "are for different models",
        hint=f"What a file says of itself: dreambooth inspect {quoted(layers[stranger].path)}",
    )


def _any_stable_diffusion_1() -> StableDiffusion1:
    """With attention at every level, as small models have, and with text layers for every encoder."""
    family = full_size_stable_diffusion_1()
    unet, text = replace(family.unet, depths=(1, 1, 1, 1)), replace(family.text, num_layers=_MOST_TEXT_LAYERS)
    return replace(family, unet=unet, text=text)


def kept_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a LoRA file that still hold for a file made of it."""
    return {key: text for key, text in metadata.items() if not key.startswith(_OF_THE_OLD_FILE)}


def _described(title: str, found: Sequence[Approximation]) -> PartApproximation:
    ranks = [one.pair.rank for one in found]
    energy = sum(one.energy for one in found)
    share = sum(one.kept for one in found) / energy if energy else 1.0
    return PartApproximation(title, len(found), (min(ranks), max(ranks)), share)
