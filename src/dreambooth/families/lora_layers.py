"""Selects the layers that receive low-rank matrices (LoRA, Hu et al., arXiv 2106.09685).

There are three sets: the projections of attention, as in the training scripts of diffusers; all matrices of the blocks around
it, as in kohya's programs; and with the convolutions, as kohya's programs do on request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dreambooth.families.family import LoraTargets
from dreambooth.families.shapes import Shape

__all__ = ["lora_layers"]

_ATTENTION = re.compile(r".*\.(attn[12]\.to_(q|k|v|out\.0)|self_attn\.(q|k|v|out)_proj)\.weight")
_TRANSFORMER = re.compile(r"(.*\.attentions|encoder\.layers)\.\d+\..*\.weight|.*\.attentions\.\d+\.proj_(in|out)\.weight")

_RESIDUAL = re.compile(r".*\.resnets\.\d+\.\w+\.weight|.*\.(down|up)samplers\.\d+\.conv\.weight")


def lora_layers(blueprint: Mapping[str, Shape], targets: LoraTargets) -> tuple[str, ...]:
    """Names, without ".weight", of the targeted matrices and 1x1 convolutions of a UNet or a CLIP text encoder."""
    patterns = {"attention": (_ATTENTION,), "transformer": (_TRANSFORMER,), "all": (_TRANSFORMER, _RESIDUAL)}[targets]
    return tuple(
        name.removesuffix(".weight")
        for name, shape in blueprint.items()
        if len(shape) >= 2 and any(pattern.fullmatch(name) for pattern in patterns)
    )
