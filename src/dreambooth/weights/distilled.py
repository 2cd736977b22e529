"""Models distilled for a few steps, which training as usual would undo. Their tensors are those of any other model."""

from __future__ import annotations

import re
from pathlib import Path

from dreambooth.errors import ModelFileError
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.sdxl_shapes import SDXL_BASE
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["check_not_distilled"]

_MARK = re.compile(r"(?<![a-z])(turbo|lightning|hyper|hypersd|lcm|dmd2?)(?![a-z])", re.IGNORECASE)
_SAYS = ("modelspec.title", "modelspec.architecture", "ss_output_name", "ss_sd_model_name")


def check_not_distilled(name: str, model: ModelWeights) -> None:
    """Raise ModelFileError if the `name` given for a Stable Diffusion XL, or its metadata, says that it is distilled."""
    if model.family.name != StableDiffusionXL.name:
        return
    said = {"its name": Path(name).name if Path(name).exists() else name, **{key: model.metadata.get(key, "") for key in _SAYS}}
    for where, text in said.items():
        if (found := _MARK.search(text)) is not None:
            raise ModelFileError(
                f"{model.report.source}: this is a model distilled for a few steps ({where} says '{found[1]}'); training would "
                f"undo the distillation. Train the model that it was distilled from, such as {SDXL_BASE}",
                hint="If it is not distilled, rename it.",
            )
