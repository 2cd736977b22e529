"""The output of a variational autoencoder for an image: a normal distribution for every number of its latent.

Shapes: B images, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["LatentMoments"]


@dataclass(frozen=True)
class LatentMoments:
    """Mean and standard deviation of the posterior q(z | x) (Kingma, Welling, arXiv 1312.6114), unscaled.

    Both are (B, C, H, W), or (C, H, W) for one image. They are kept instead of a latent, so that every training step draws a
    new one. A model's scaling factor is applied after drawing.
    """

    mean: Tensor
    deviation: Tensor

    def __post_init__(self) -> None:
        assert self.mean.shape == self.deviation.shape, (self.mean.shape, self.deviation.shape)

    def sample(self, eps: Tensor) -> Tensor:
        """A latent z = mean + deviation * eps, for standard normal `eps` of the same shape."""
        return self.mean + self.deviation * eps
