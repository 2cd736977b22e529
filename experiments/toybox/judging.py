"""Training and accuracy of the judge. Shapes: B images, C channels, H and W height and width, K classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dreambooth.toybox.judge import UNASKED, Judge

__all__ = ["accuracies", "judging_loss", "softened"]

_BATCH = 128
_BLUR = 0.5  # share of images that are blurred, since images from a model are softer than renderings


def softened(pixels_BCHW: Tensor, random: torch.Generator) -> Tensor:
    """Blur half of the images slightly and add some noise to all, as in images from a model. Returns new tensors."""
    soft_BCHW = F.avg_pool2d(F.pad(pixels_BCHW, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share_B = torch.rand(len(pixels_BCHW), generator=random) * (torch.rand(len(pixels_BCHW), generator=random) < _BLUR)
    noise = 0.04 * torch.rand((len(pixels_BCHW), 1, 1, 1), generator=random) * torch.randn(pixels_BCHW.shape, generator=random)
    device = pixels_BCHW.device
    return torch.lerp(pixels_BCHW, soft_BCHW, share_B.view(-1, 1, 1, 1).to(device)) + noise.to(device)


def judging_loss(judge: Judge, pixels_BCHW: Tensor, labels: Mapping[str, Tensor], random: torch.Generator) -> Tensor:
    """Sum over attributes of the cross-entropy on images that show the attribute; half of the images are blurred slightly."""
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
    """Accuracy by attribute on the images that show it; an attribute that no image shows is omitted."""
    answers = [judge(batch) for batch in torch.split(pixels_BCHW, _BATCH)]
    result = {}
    for name, right_B in labels.items():
        given_B = torch.cat([answer[name] for answer in answers]).argmax(dim=1)
        is_asked_B = right_B != UNASKED
        if is_asked_B.any():
            result[name] = float((given_B == right_B)[is_asked_B].float().mean())
    return result
