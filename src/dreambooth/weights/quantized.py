"""Quantized files: weights stored as integers, or as small floats beside a scale for each tensor.

Their numbers are weights only after they were multiplied by the scales. Read as they are, they make noise. Plain float8, which
has no scales, is a number format like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch

from dreambooth.display import counted

__all__ = ["quantization_problems"]

# The last component of names under which ComfyUI, bitsandbytes, torchao, GPTQ and SVDQuant keep what belongs to the numbers.
_COMPANION = re.compile(
    r"scaled_fp8|comfy_quant|\w*scales?(_\w+)?|weight_scale\w*|scale_(weight|input|output)|\w*absmax|\w*quant_map|quant_state|bitsandbytes__\w+"
    r"|SCB|weight_format|\w*zero_points?|qweight|qzeros|g_idx|smooth(_factor)?\w*"
)
_OTHER_SCALES = ("logit_scale", "scale_factor")  # of CLIP's whole model, and of the latents
_NAMED = 3


def quantization_problems(dtypes: Mapping[str, torch.dtype], others: Iterable[str]) -> list[str]:
    """Sentences that say how a model is quantized; none when it is not.

    `dtypes` are those of its weights, by their names in the file; `others` are the names of tensors that are no weights.
    """
    problems = []
    if integers := {name: dtype for name, dtype in dtypes.items() if not dtype.is_floating_point}:
        kinds = ", ".join(sorted({str(dtype).removeprefix("torch.") for dtype in integers.values()}))
        problems.append(
            f"{counted(len(integers), 'weight')} stored as {kinds}, not as floating-point numbers ({_some(integers)})"
        )
    companions = [name for name in others if _is_companion(name)]
    if companions:
        problems.append(f"{counted(len(companions), 'tensor')} with scales of quantized weights ({_some(companions)})")
    return problems


def _is_companion(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last not in _OTHER_SCALES and _COMPANION.fullmatch(last) is not None


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_NAMED]) + (", ..." if len(listed) > _NAMED else "")
