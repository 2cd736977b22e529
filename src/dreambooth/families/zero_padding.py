"""Padding of token ids for OpenCLIP's text encoders."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["zero_padded"]

_END = 49407  # of a text; CLIP's tokenizer pads with it
_PADDING = 0  # the token of "!"


def zero_padded(input_ids_BL: Tensor) -> Tensor:
    """Token ids (B, L) in which what follows the first end token is 0.

    No mask hides padding from attention, so another padding changes the states of a caption.
    """
    is_end_BL = input_ids_BL == _END
    is_padding_BL = is_end_BL.cumsum(dim=1) - is_end_BL.to(torch.int64) > 0
    return torch.where(is_padding_BL, _PADDING, input_ids_BL)
