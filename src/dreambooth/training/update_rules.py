"""The update of one tensor in one step, as functions of float32 tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AdamWNumbers", "adafactor", "adamw_"]


@dataclass(frozen=True)
class AdamWNumbers:
    """AdamW's hyperparameters."""

    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float


def adamw_(
    weight_N: Tensor, gradient_N: Tensor, moments: tuple[Tensor, Tensor], rates_3: Tensor, numbers: AdamWNumbers
) -> None:
    """Update weight and moments m and v in place (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2); uses the gradient up.

    `rates_3` holds the learning rate, 1 - beta1^t and sqrt(1 - beta2^t), on the device, so that they may change from step to
    step without blocking.
    """
    rate, correction1, root_correction2 = rates_3
    m_N, v_N = moments
    m_N.lerp_(gradient_N, 1 - numbers.beta1)
    v_N.lerp_(gradient_N.square_(), 1 - numbers.beta2)
    root_N = v_N.sqrt().div_(root_correction2).add_(numbers.epsilon)
    step_N = torch.div(m_N, correction1, out=gradient_N).div_(root_N)
    decay_N = torch.mul(weight_N, numbers.weight_decay, out=root_N)
    weight_N.sub_(decay_N.add_(step_N).mul_(rate))


_SMALLEST_SQUARE = 1e-30  # epsilon 1 of the paper
_SMALLEST_SCALE = 1e-3  # epsilon 2
_LARGEST_STEP = 1.0  # d, the largest root mean square of an update


def adafactor(
    weight: Tensor, gradient: Tensor, squares: tuple[Tensor, ...], rate: float, *, step: int, weight_decay: float
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """New weight and second moments (Shazeer and Stern, arXiv 1804.04235, algorithms 4 and 5), without a first moment.

    For a one-dimensional weight, `squares` is one second moment per element, of the weight's shape. For others it is the
    mean square of each row, (rows, 1), and each column, (1, columns), of the weight as a matrix; their product approximates
    the second moment of every element (section 3). The step is relative to the root mean square of the weight (section 8), at
    most `rate`, and decreases with 1 / sqrt(step).
    """
    decay = 1 - math.pow(step, -0.8)  # section 7.2
    matrix = weight.reshape(weight.shape[0], -1)
    square = gradient.reshape(matrix.shape).square() + _SMALLEST_SQUARE
    if weight.ndim > 1:
        row, column = squares
        row = row.lerp(square.mean(dim=1, keepdim=True), 1 - decay)
        column = column.lerp(square.mean(dim=0, keepdim=True), 1 - decay)
        squares, mean_square = (row, column), row * column / row.mean()
    else:
        [mean] = squares
        mean = mean.lerp(square.reshape(mean.shape), 1 - decay)
        squares, mean_square = (mean,), mean.reshape(matrix.shape)
    update = gradient.reshape(matrix.shape) / mean_square.sqrt()
    update = update / (_root_mean_square(update) / _LARGEST_STEP).clamp(min=1)
    size = _root_mean_square(weight).clamp(min=_SMALLEST_SCALE)
    relative = min(rate, 1 / math.sqrt(step))
    new = matrix - rate * weight_decay * matrix - relative * size * update
    return new.reshape(weight.shape), squares


def _root_mean_square(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)
    return norm / math.sqrt(x.numel())
