"""Perceptual distances between images: LPIPS, and the same formula on the bundled toybox judge network.

LPIPS (Zhang et al., arXiv 1801.03924, equation 1): at every level of a network the channels of both pictures are scaled to
length 1 at each place, squared differences are weighted by channel, averaged over places and added up over levels.

Shapes: N pictures, C channels, H and W sizes of a picture or of a level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.toybox.judge import Judge

__all__ = ["PerceptualDistance", "judge_distance", "level_distances", "lpips_alexnet"]

_EPSILON = 1e-10
# torchvision's AlexNet: the place of each convolution in its `features`, its output and input channels, its kernel
_ALEXNET = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))
_STRIDE_AND_PADDING = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
_POOLED_BEFORE = (1, 2)
# LPIPS's own normalisation of pixels in [-1, 1]
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_HINT = "LPIPS needs two files: torchvision's alexnet-owt-7be5be79.pth, and weights/v0.1/alex.pth from the package lpips."


@dataclass(frozen=True)
class PerceptualDistance:
    """A network whose levels are compared."""

    name: str
    """Display name, shown beside every score from this distance."""
    levels: Callable[[Tensor], Sequence[Tensor]]
    """Pixels in [0, 1], (N, 3, H, W), to the states of each level, (N, C, H, W)."""
    weights: Sequence[Tensor]
    """The weight of each channel of each level, (C,)."""
    device: torch.device

    @torch.no_grad()
    def between(self, pixels_NCHW: Tensor) -> Tensor:
        """Distances of every picture to every other, (N, N) float64 on the CPU: symmetric, 0 on the diagonal."""
        levels = [_with_unit_channels(level) for level in self.levels(pixels_NCHW.to(self.device))]
        return level_distances(levels, [weight.to(self.device) for weight in self.weights])


def level_distances(levels: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """`d_ij = sum_l mean_hw sum_c w_lc (y_ilchw - y_jlchw)^2` over levels l of pictures i and j, (N, N) float64 on the CPU.

    The levels (N, C, H, W) come with channels of length 1 at each place.
    """
    num = len(levels[0])
    distances_NN = torch.zeros((num, num), dtype=torch.float64)
    for level_NCHW, weight_C in zip(levels, weights, strict=True):
        for row in range(num - 1):  # by rows: all pairs at once would be N times the memory
            squared = (level_NCHW[row] - level_NCHW[row + 1 :]).square()
            distance = torch.einsum("nchw,c->nhw", squared, weight_C).cpu().double().mean(dim=(1, 2))
            distances_NN[row, row + 1 :] += distance
            distances_NN[row + 1 :, row] += distance
    return distances_NN


def lpips_alexnet(network: Mapping[str, Tensor], weights: Mapping[str, Tensor], *, device: torch.device) -> PerceptualDistance:
    """LPIPS on AlexNet, version 0.1, from tensors that the caller read: torchvision's AlexNet, and LPIPS's weights of channels.

    Pictures are taken as large as they are. Raises ModelFileError when tensors are missing or of other shapes.
    """
    convolutions: list[tuple[Tensor, Tensor]] = []
    channel_weights: list[Tensor] = []
    problems: list[str] = []
    for level, (place, width, width_in, kernel) in enumerate(_ALEXNET):
        weight = _take(network, f"features.{place}.weight", (width, width_in, kernel, kernel), problems)
        bias = _take(network, f"features.{place}.bias", (width,), problems)
        convolutions.append((weight.to(device), bias.to(device)))
        channel_weights.append(_take(weights, f"lin{level}.model.1.weight", (1, width, 1, 1), problems).flatten())
    if problems:
        raise ModelFileError(problems, hint=_HINT)
    shift = torch.tensor(_SHIFT, device=device).view(3, 1, 1)
    scale = torch.tensor(_SCALE, device=device).view(3, 1, 1)

    def levels(pixels_NCHW: Tensor) -> list[Tensor]:
        hidden = (pixels_NCHW * 2 - 1 - shift) / scale
        states = []
        for level, ((weight, bias), (stride, padding)) in enumerate(zip(convolutions, _STRIDE_AND_PADDING, strict=True)):
            if level in _POOLED_BEFORE:
                hidden = F.max_pool2d(hidden, kernel_size=3, stride=2)
            hidden = F.relu(F.conv2d(hidden, weight, bias, stride=stride, padding=padding))
            states.append(hidden)
        return states

    return PerceptualDistance("LPIPS (AlexNet, v0.1)", levels, channel_weights, device)


def judge_distance(judge: Judge, *, device: torch.device) -> PerceptualDistance:
    """LPIPS's formula on the levels of the embedded judge, all channels weighted alike. It is not LPIPS: no person's
    eye was asked, and its numbers compare with none of LPIPS's. For pictures of the small world.
    """
    judge = judge.to(device)

    def levels(pixels_NCHW: Tensor) -> list[Tensor]:
        hidden: Tensor = judge.entry(pixels_NCHW * 2 - 1)
        states = []
        for level in judge.levels:
            hidden = level(hidden)
            states.append(hidden)
        return states

    weights = [torch.ones(len(level.get_parameter("conv_2.bias"))) for level in judge.levels]
    return PerceptualDistance("the toybox judge's levels (not LPIPS)", levels, weights, device)


def _with_unit_channels(level_NCHW: Tensor) -> Tensor:
    length_N1HW: Tensor = torch.linalg.vector_norm(level_NCHW, dim=1, keepdim=True)
    return level_NCHW / (length_N1HW + _EPSILON)


def _take(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], problems: list[str]) -> Tensor:
    """The tensor in float32. One that is not there or of another shape is put down as a problem, and is nothing."""
    tensor = tensors.get(name)
    if tensor is None:
        problems.append(f"missing tensor {name}; expected shape {shape}")
        return torch.empty(0)
    if tuple(tensor.shape) != shape:
        problems.append(f"{name} has the shape {tuple(tensor.shape)}; expected {shape}")
        return torch.empty(0)
    return tensor.detach().float()
