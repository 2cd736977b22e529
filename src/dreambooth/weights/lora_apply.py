"""A model with LoRA files applied: their changes become part of its weights, so that it needs no other code to run.

A file is for a model when every layer that it names is one of the model's and every change fits its layer; otherwise nothing is
applied and the error says what differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dreambooth.diffusion.low_rank import Change, Whole
from dreambooth.display import counted, quoted
from dreambooth.errors import ModelFileError
from dreambooth.families.family import Family
from dreambooth.families.mapped_pages import MappedPages
from dreambooth.reading import parse_json
from dreambooth.weights.embedding_file import WORD
from dreambooth.weights.lora_describe import trigger_words
from dreambooth.weights.lora_fields import difference_of
from dreambooth.weights.lora_file import LoraFile
from dreambooth.weights.lora_keys import LayerName, layer_names
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["APPLIED", "ScaledLora", "TensorChanges", "applied_loras", "changes_of", "with_loras"]

APPLIED = "dreambooth.loras"
"""Metadata key that lists the LoRA files applied to a model, as JSON."""

_NAMED = 4

TensorChanges = Mapping[str, Mapping[str, Change]]
"""Changes by part and canonical name of the tensor."""


@dataclass(frozen=True)
class ScaledLora:
    """A LoRA file and the strength at which it is used; 1 is as trained."""

    file: LoraFile
    strength: float = 1.0


@torch.no_grad()
def with_loras(model: ModelWeights, loras: Sequence[ScaledLora]) -> ModelWeights:
    """The model with the files applied one after the other; changed tensors are in float32, the others as they were.

    Raises ModelFileError when a file is for another model, with the layers that differ.
    """
    parts = {name: dict(tensors) for name, tensors in model.parts.items()}
    release = MappedPages().release
    for lora in loras:
        misfits = []
        for part, changes in changes_of(lora.file, model.family).items():
            for name, change in changes.items() if lora.strength != 0 else ():
                try:
                    parts[part][name] = change.changed(parts[part][name], lora.strength)
                except KeyError:
                    misfits.append(f"{part}.{name} is changed, and the model has no such tensor")
                except (ValueError, RuntimeError) as error:
                    misfits.append(f"the change of {part}.{name} has other sizes: {str(error).splitlines()[0]}")
                else:
                    release(model.parts[part][name])
        if misfits:
            raise _not_for_model(lora.file, model.family, misfits)
    applied = [
        {
            "name": lora.file.title,
            "strength": lora.strength,
            "triggers": trigger_words(lora.file.metadata),
            **({"word": lora.file.metadata[WORD]} if WORD in lora.file.metadata else {}),
        }
        for lora in loras
    ]
    return replace(model, parts=parts, metadata={**model.metadata, APPLIED: json.dumps(applied)}) if loras else model


def applied_loras(model: ModelWeights) -> list[str]:
    """A sentence for each file that `with_loras` applied, with the words that its prompts should contain."""
    lines = []
    try:
        for one in parse_json(model.metadata.get(APPLIED, "[]")):
            words = f"; words for prompts: {', '.join(one['triggers'])}" if one["triggers"] else ""
            lines.append(f"LoRA {one['name']} at strength {one['strength']:g}{words}")
    except (ValueError, TypeError, KeyError):  # a file of unknown origin, where no such list belongs
        return []
    return lines


def applied_words(model: ModelWeights) -> list[str]:
    """The words that the files which `with_loras` applied were trained together with."""
    try:
        return [str(one["word"]) for one in parse_json(model.metadata.get(APPLIED, "[]")) if "word" in one]
    except (ValueError, TypeError):
        return []


def changes_of(file: LoraFile, family: Family) -> TensorChanges:
    """The changes that a file makes to the tensors of a model of this family.

    Raises ModelFileError that lists layers which the model does not have, or a tensor that the file lacks.
    """
    known = layer_names(family)
    strangers = [layer for layer in file.layers if layer not in known]
    if strangers:
        raise _not_for_model(file, family, [f"the model has no layer {layer}" for layer in strangers])
    found: dict[str, dict[str, Change]] = {}
    for name, fields in file.layers.items():
        layer = known[name]
        try:
            changes = _layer_changes(layer, fields, file)
        except KeyError as error:
            raise ModelFileError(f"{file.path}: {name} has no {error.args[0]}", hint="Download the file again.") from error
        for tensor, change in changes.items():
            found.setdefault(layer.part, {})[tensor] = change
    return found


def _layer_changes(layer: LayerName, fields: Mapping[str, Tensor], file: LoraFile) -> dict[str, Change]:
    """The changes of one layer's tensors by their names. Raises KeyError with the name of a missing field."""
    changes: dict[str, Change] = {}
    for field, tensor in (("diff", "weight"), ("w_norm", "weight"), ("diff_b", "bias"), ("b_norm", "bias")):
        if field in fields:
            changes[f"{layer.layer}.{tensor}"] = Change(Whole(fields[field]))
    difference = difference_of(fields, lambda rank: _alpha(layer, fields, file, rank=rank))
    if difference is not None:
        is_peft = file.form == "peft"
        changes[f"{layer.layer}.weight"] = Change(difference, fields.get("magnitude"), strength_is_inside=is_peft)
    if not changes:
        raise KeyError("lora_down.weight")
    return changes


def _alpha(layer: LayerName, fields: Mapping[str, Tensor], file: LoraFile, *, rank: int) -> float:
    """The alpha beside the layer's tensors, or in PEFT's configuration; without either, the rank."""
    if "alpha" in fields:
        return float(fields["alpha"])
    setting = {name.removeprefix(f"{layer.part}."): value for name, value in file.configuration.items()}
    if not any(name.startswith(f"{layer.part}.") for name in file.configuration) or "lora_alpha" not in setting:
        return float(rank)
    patterns: Mapping[str, Any] = setting.get("alpha_pattern") or {}
    own = next((value for name, value in patterns.items() if f".{layer.layer}".endswith(f".{name}")), setting["lora_alpha"])
    return float(own) * (rank**0.5 if setting.get("use_rslora") else 1.0)


def _not_for_model(file: LoraFile, family: Family, problems: Sequence[str]) -> ModelFileError:
    listed = [f"{file.path}: {problem}" for problem in problems[:_NAMED]]
    if len(problems) > _NAMED:
        listed.append(f"... and {counted(len(problems) - _NAMED, 'more layer')}")
    hint = f"The LoRA is for another model than this {family.title}. What it is for: dreambooth inspect {quoted(file.path)}"
    return ModelFileError(listed, hint=hint)
