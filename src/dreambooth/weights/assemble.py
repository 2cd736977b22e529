"""From the three parts of a model, as mapped from files, to a checked model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dreambooth.errors import ModelFileError
from dreambooth.families.blueprints import text_blueprint, unet_blueprint, vae_blueprint
from dreambooth.families.recognition import recognise
from dreambooth.families.shapes import shapes_of
from dreambooth.weights.key_map import MappedPart, check_parts
from dreambooth.weights.model_weights import ModelForm, ModelWeights, PartReport, ReadingReport, UNetWeights
from dreambooth.weights.pickles import printable

__all__ = ["FoundModel", "assemble"]


@dataclass(frozen=True)
class FoundModel:
    """A model whose tensors have their canonical names and are not checked yet."""

    source: Path
    form: ModelForm
    formats: tuple[str, ...]
    unet: MappedPart
    vae: MappedPart
    text_encoder: MappedPart
    unet_weights: UNetWeights
    also_there: str | None = None
    neutralised: tuple[str, ...] = ()
    leftover: tuple[str, ...] = ()
    bookkeeping: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def assemble(found: FoundModel, *, hint: str) -> ModelWeights:
    """Recognise the family, hold every tensor against its blueprint and report the rest.

    Raises ModelFileError that names the family when it is another one, or lists all missing and wrongly shaped tensors;
    `hint` is then the way out.
    """
    parts = (found.unet, found.vae, found.text_encoder)
    try:
        family = recognise(*(shapes_of(part.tensors) for part in parts))
    except ModelFileError as error:
        raise ModelFileError([f"{found.source}: {problem}" for problem in error.problems], hint=error.hint) from error
    blueprints = (unet_blueprint(family.unet), vae_blueprint(family.vae), text_blueprint(family.text))
    checked = list(zip(parts, blueprints, strict=True))
    check_parts(checked, hint=hint)
    unet, vae, text_encoder = ({name: part.tensors[name] for name in blueprint} for part, blueprint in checked)
    beyond = [part.names[name] for part, blueprint in checked for name in part.tensors if name not in blueprint]
    not_mapped = [name for part in parts for name in part.leftover]
    report = ReadingReport(
        source=found.source,
        form=found.form,
        formats=found.formats,
        title=family.title,
        parts=tuple(
            PartReport.of(part.title, part.path, tensors)
            for part, tensors in zip(parts, (unet, vae, text_encoder), strict=True)
        ),
        unet_weights=found.unet_weights,
        also_there=found.also_there,
        neutralised=found.neutralised,
        leftover=tuple(sorted(map(printable, {*found.leftover, *beyond, *not_mapped}))),
        bookkeeping=found.bookkeeping,
        notes=found.notes,
    )
    return ModelWeights(family, unet, vae, text_encoder, report, found.metadata)
