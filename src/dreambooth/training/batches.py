"""Assembles the examples of a step into tensors on the device.

Shapes: B examples of both roles together, C latent channels, H and W latent height and width, L tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dreambooth.data.examples import Example
from dreambooth.data.picture_sizes import PictureSizes
from dreambooth.data.size import Size
from dreambooth.data.views import View
from dreambooth.diffusion.conditioning import Text, stack_texts
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.objective import example_coefficients
from dreambooth.diffusion.randomness import normal, uniform_integer

__all__ = ["Batch", "Cut", "Drawn", "Encoded", "MaskKey", "ViewKey", "draw", "micro_batches", "stack_sizes"]

ViewKey = tuple[str, View]
"""A photo's digest and a view of it."""


MaskKey = tuple[str, str, View]
"""A photo's digest, its mask's and a view of both."""


@dataclass(frozen=True)
class Encoded:
    """Outputs of the frozen encoders for every view and caption, computed once before training.

    `text` holds token ids (L,) when the text encoder learns and its conditioning when it is frozen. Moments are
    unscaled: a latent is `scaling_factor * (mean + deviation * eps)`.
    """

    moments: Mapping[ViewKey, LatentMoments]
    text: Mapping[str, Text]
    scaling_factor: float
    takes_sizes: bool = False
    """Whether the denoiser is told the sizes of pictures."""
    noise_offset: float = 0.0
    """Standard deviation of a number that is added to the noise of each channel of an example."""
    weights: Mapping[MaskKey, Tensor] = field(default_factory=dict)
    """Loss weight of every latent (H, W), with mean 1, for views whose mask makes a difference."""


@dataclass(frozen=True)
class Batch:
    """One forward pass: photos first, then class images."""

    x_0: Tensor
    """Latents (B, C, H, W)."""
    eps: Tensor
    """Noise (B, C, H, W)."""
    t_B: Tensor
    """Timesteps (B,) int64."""
    text: Text
    """Token ids (B, L) or conditioning of B examples."""
    is_prior_B: Tensor
    """True for class images."""
    coefficient_B: Tensor
    """Weight of each example's loss in the update's loss."""
    names: tuple[str, ...]
    """File name of each example, used in messages."""
    prior_rows: tuple[int, ...] = ()
    """Rows of the class images; the same as `is_prior_B`, known to the host."""
    prior_target: Tensor | None = None
    """Targets of the class examples (B, C, H, W), with zeros for photos; None: the noise is the target."""
    sizes_B6: Tensor | None = None
    """Sizes of the pictures, for families that take them."""
    weight_BHW: Tensor | None = None
    """Loss weight of every latent; None: all have the same."""
    keys: tuple[tuple[str | int, ...], ...] = ()
    """What the randomness of each example depends on besides the seed: step, role and slot."""


@dataclass(frozen=True)
class Drawn:
    """The random numbers of one example: its latent (C, H, W), its noise (C, H, W) and its timestep; its sizes and weights."""

    x_0: Tensor
    eps: Tensor
    t: int
    sizes_6: Tensor | None = None
    """None for families that take no sizes."""
    weight_HW: Tensor | None = None
    """Loss weight of every latent; None: all have the same."""


def draw(example: Example, encoded: Encoded, *, seed: int, step: int, num_timesteps: int) -> Drawn:
    """The random numbers of an example, which depend only on (seed, step, role, slot)."""
    moments = encoded.moments[example.photo.digest, example.view]
    key = (step, example.role, example.slot)
    latent = moments.sample(normal(moments.mean.shape, seed, "posterior", *key)) * encoded.scaling_factor
    eps = normal(moments.mean.shape, seed, "noise", *key)
    if encoded.noise_offset:
        eps = eps + encoded.noise_offset * normal((len(eps), 1, 1), seed, "noise offset", *key)
    sizes = PictureSizes.of_view(example.photo, example.view).numbers() if encoded.takes_sizes else None
    return Drawn(latent, eps, uniform_integer(num_timesteps, seed, "timestep", *key), sizes, _weight(example, encoded))


def _weight(example: Example, encoded: Encoded) -> Tensor | None:
    """The loss weights of a photo with a mask; a photo that serves as a class example counts as a whole."""
    if example.role == "prior" or not encoded.weights or example.photo.mask is None:
        return None
    return encoded.weights.get((example.photo.digest, example.photo.mask.digest, example.view))


def stack_sizes(sizes: Sequence[Tensor | None]) -> Tensor | None:
    """The sizes of a batch (B, 6), or None if its family takes none."""
    known = [one for one in sizes if one is not None]
    assert len(known) in (0, len(sizes)), "some examples lack the sizes that others have"
    return torch.stack(known) if known else None


@dataclass(frozen=True)
class Cut:
    """How the examples of a step are split into forward passes, each of one size; it changes results only by rounding."""

    batch_size: int
    """Photos in one forward pass, plus the same number of class images."""
    micro_batch_size: int | None = None
    """Maximum number of examples in one forward pass, if smaller than the batch."""
    share: Callable[[Sequence[Example]], Sequence[Example]] = tuple
    """Selects the part of a step's examples that this process handles."""

    def __call__(self, examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
        """The examples of each forward pass."""
        instances = [example for example in examples if example.role == "instance"]
        priors = [example for example in examples if example.role == "prior"]
        ordered: list[Example] = []
        for start in range(0, len(instances), self.batch_size):
            stop = start + self.batch_size
            ordered += [*instances[start:stop], *priors[start:stop]]
        mine = self.share(ordered)
        whole = self.batch_size * (2 if priors else 1)
        size = whole if self.micro_batch_size is None else min(self.micro_batch_size, whole)
        return (one for start in range(0, len(mine), size) for one in _by_size(mine[start : start + size]))


def _by_size(examples: Sequence[Example]) -> Sequence[Sequence[Example]]:
    """The examples in groups of one size, in the order in which sizes first appear."""
    groups: dict[Size, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.view.size, []).append(example)
    return list(groups.values())


def micro_batches(
    examples: Sequence[Example],
    encoded: Encoded,
    *,
    step: int,
    seed: int,
    cut: Cut,
    prior_weight: float,
    num_timesteps: int,
    device: torch.device,
    prior_targets: Sequence[Tensor] | None = None,
) -> Iterator[Batch]:
    """The batches of one step. `prior_targets`, (C, H, W) for each slot, are the targets of its class images; None: the noise.

    Random numbers depend only on (seed, step, role, slot): a different `cut` gives the same examples the same noise.
    """
    num_priors = sum(example.role == "prior" for example in examples)
    for chosen in cut(examples):
        drawn = [draw(example, encoded, seed=seed, step=step, num_timesteps=num_timesteps) for example in chosen]
        is_prior_B = torch.tensor([example.role == "prior" for example in chosen])
        coefficient_B = example_coefficients(
            is_prior_B, num_instances=len(examples) - num_priors, num_priors=num_priors, prior_weight=prior_weight
        )
        yield Batch(
            x_0=_send(torch.stack([numbers.x_0 for numbers in drawn]), device),
            eps=_send(torch.stack([numbers.eps for numbers in drawn]), device),
            t_B=_send(torch.tensor([numbers.t for numbers in drawn]), device),
            text=_send_text(stack_texts([encoded.text[example.caption] for example in chosen]), device),
            is_prior_B=_send(is_prior_B, device),
            prior_target=None if prior_targets is None else _send(_targets_of(chosen, prior_targets, drawn[0].x_0), device),
            coefficient_B=_send(coefficient_B, device),
            sizes_B6=None
            if (sizes_B6 := stack_sizes([numbers.sizes_6 for numbers in drawn])) is None
            else _send(sizes_B6, device),
            weight_BHW=None if (weight_BHW := _stack_weights(drawn)) is None else _send(weight_BHW, device),
            prior_rows=tuple(row for row, example in enumerate(chosen) if example.role == "prior"),
            names=tuple(example.photo.path.name for example in chosen),
            keys=tuple((step, example.role, example.slot) for example in chosen),
        )


def _stack_weights(drawn: Sequence[Drawn]) -> Tensor | None:
    """The loss weights of a batch (B, H, W), ones for examples without any; None if no example has some."""
    if all(numbers.weight_HW is None for numbers in drawn):
        return None
    one_HW = torch.ones(drawn[0].x_0.shape[-2:])
    return torch.stack([one_HW if numbers.weight_HW is None else numbers.weight_HW for numbers in drawn])


def _targets_of(examples: Sequence[Example], prior_targets: Sequence[Tensor], like: Tensor) -> Tensor:
    zero_CHW = torch.zeros(like.shape)
    return torch.stack([prior_targets[example.slot].float() if example.role == "prior" else zero_CHW for example in examples])


def _send_text(text: Text, device: torch.device) -> Text:
    return _send(text, device) if isinstance(text, Tensor) else text.map(lambda tensor: _send(tensor, device))


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without blocking; for a CUDA device this requires pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
