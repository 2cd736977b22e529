"""Training the judge, and counting what it finds. Shapes: B pictures, C channels, H and W sizes, K choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dreambooth.toybox.judge import UNASKED, Judge

__all__ = ["accuracies", "judging_loss", "softened"]

_BATCH = 128
_BLUR = 0.5  # share of pictures that are softened: those of a model are softer than renderings


def softened(pixels_BCHW: Tensor, random: torch.Generator) -> Tensor:
    """Half of the pictures a little softer, all of them a little noisy: nearer to what a model makes. Others, not in place."""
    soft_BCHW = F.avg_pool2d(F.pad(pixels_BCHW, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share_B = torch.rand(len(pixels_BCHW), generator=random) * (torch.rand(len(pixels_BCHW), generator=random) < _BLUR)
    noise = 0.04 * torch.rand((len(pixels_BCHW), 1, 1, 1), generator=random) * torch.randn(pixels_BCHW.shape, generator=random)
    device = pixels_BCHW.device
    return torch.lerp(pixels_BCHW, soft_BCHW, share_B.view(-1, 1, 1, 1).to(device)) + noise.to(device)


def judging_loss(judge: Judge, pixels_BCHW: Tensor, labels: Mapping[str, Tensor], random: torch.Generator) -> Tensor:
    """Sum over attributes of the cross-entropy where the question is asked; half of the pictures are softened a little."""
    seen_BCHW = softened(pixels_BCHW, random)
    with torch.autocast(pixels_BCHW.device.type, dtype=torch.bfloat16):
        answers = judge(seen_BCHW)
    asked = [name for name in answers if (labels[name] != UNASKED).any()]
    losses = [F.nll_loss(answers[name], labels[name], ignore_index=UNASKED) for name in asked]
    return torch.stack(losses).sum()


@torch.no_grad()
def accuracies(
    judge: Callable[[Tensor], Mapping[str, Tensor]], pixels_BCHW: Tensor, labels: Mapping[str, Tensor]
) -> dict[str, float]:
    """Share of right answers by attribute, among the pictures that answer it; an attribute that none answers is left out."""
    answers = [judge(batch) for batch in torch.split(pixels_BCHW, _BATCH)]
    result = {}
    for name, right_B in labels.items():
        given_B = torch.cat([answer[name] for answer in answers]).argmax(dim=1)
        is_asked_B = right_B != UNASKED
        if is_asked_B.any():
            result[name] = float((given_B == right_B)[is_asked_B].float().mean())
    return result
