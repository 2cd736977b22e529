"""Models of three sizes with random weights, created on their device without a file or a second copy."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from dreambooth.families.components import Components
from dreambooth.families.family import Family
from dreambooth.families.full_size import full_size_stable_diffusion_1
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape
from dreambooth.families.untrained import without_memory
from dreambooth.weights.read import read_model

__all__ = ["SIZES", "Part", "add_model_options", "family_of", "random_components", "randomise"]

SIZES = ("sd1", "toybox", "miniature")


def family_of(size: str) -> Family:
    """The shapes of the real model, of the bundled model, or of a minimal one."""
    if size == "sd1":
        return full_size_stable_diffusion_1()
    if size == "toybox":
        return read_model("toybox").family
    assert size == "miniature", size
    return StableDiffusion1(
        unet=UNetShape(4, 4, (32, 64), 1, (1, 1), 1, 64, False),
        vae=VaeShape(3, 4, (32, 32, 64), 1),
        text=TextShape(49408, 77, 64, 256, 2),
        resolution=64,
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options for the model and the device."""
    parser.add_argument(
        "--size",
        choices=SIZES,
        default="sd1",
        help="sd1: the real shapes, 1.07 billion parameters; toybox: those of the bundled model; miniature: for tests "
        "(default: %(default)s)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the first GPU, otherwise the CPU)")
    parser.add_argument("--resolution", type=int, metavar="PIXELS", help="image size (default: that of the model: 512, 64, 64)")
    parser.add_argument("--seed", type=int, default=23, help="random seed of weights and data (default: %(default)s)")


@dataclass(frozen=True)
class Part:
    """The device and dtype of a part of a model."""

    device: torch.device
    dtype: torch.dtype


def random_components(family: Family, *, unet: Part, text_encoder: Part, vae: Part | None, seed: int) -> Components:
    """Modules with random weights. A VAE of None is left without memory: it must not be used."""
    components = without_memory(family)
    parts = ((components.denoiser, unet, 0), (components.parts["text_encoder"], text_encoder, 1), (components.vae, vae, 2))
    for module, part, number in parts:
        if part is not None:
            nn.Module.to(module, part.dtype)  # without memory yet; diffusers' own `to` would log a warning
            module.to_empty(device=part.device)
            randomise(module, seed=3 * seed + number)
    return components


@torch.no_grad()
def randomise(module: nn.Module, *, seed: int) -> None:
    """Fill a module in place: matrices and convolutions normal with variance 1 / fan-in, norms as the identity.

    The numbers depend on the kind of device, which draws them.
    """
    parameters = list(module.named_parameters())
    generator = torch.Generator(parameters[0][1].device).manual_seed(seed)
    for name, parameter in parameters:
        if parameter.ndim == 1:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            parameter.normal_(0, 1 / math.sqrt(math.prod(parameter.shape[1:])), generator=generator)
    _fill_buffers(module.named_buffers())


def _fill_buffers(buffers: Iterable[tuple[str, torch.Tensor]]) -> None:
    for name, buffer in buffers:
        assert name.endswith("position_ids"), f"{name} is not known here"
        buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
