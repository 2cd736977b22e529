"""`original-loop`: a step as the original program made it.

The original trained UNet and text encoder in float32. A step took a photo and a class image, each through the VAE, the
tokenizer, the text encoder and the UNet in a forward pass of its own; the sum of their two mean losses went backward at once,
and a plain AdamW moved everything. Nothing was kept from step to step.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.measure import count_flops, forget_peak, matmul_peak, peak_of, time_iterations
from benchmarks.models import Part, add_model_options, family_of, random_components
from benchmarks.records import add_output_option, emit
from benchmarks.workload import CAPTIONS
from dreambooth.diffusion.schedule import add_noise
from dreambooth.families.components import Components
from dreambooth.families.family import Family
from dreambooth.memory.recompute import recompute_activations
from dreambooth.runtime.device import choose_device

__all__ = [
    "OriginalLoop",
    "add_arguments",
    "add_variants",
    "check_losses",
    "measure",
    "start_original",
    "started",
    "switches_of",
]

_RATE = 1e-6


@dataclass
class OriginalLoop:
    """The original's loop on synthetic pixels; `step` makes one update."""

    components: Components
    pixels: dict[str, Tensor]
    """Images of each role, (B, 3, H, W) in [-1, 1]."""
    encodes_pictures: bool
    """Whether each step encodes both images with the VAE, as the original did, or uses latents that were encoded once."""
    generator: torch.Generator
    losses: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        modules = (self.components.denoiser, self.components.parts["text_encoder"])
        for module in modules:
            module.requires_grad_(True)
            module.train()
        self._adamw = torch.optim.AdamW([weight for module in modules for weight in module.parameters()], lr=_RATE)
        self._moments = {role: self._encode(role) for role in self.pixels}

    def step(self) -> Tensor:
        """One update; its loss, on the device."""
        loss = self._shared_step("instance") + self._shared_step("prior")
        loss.backward()  # type: ignore[no-untyped-call]
        self._adamw.step()
        self._adamw.zero_grad()
        self.losses.append(loss.detach())
        return loss.detach()

    def _shared_step(self, role: str) -> Tensor:
        family, device = self.components.family, self.pixels[role].device
        mean, deviation = self._encode(role) if self.encodes_pictures else self._moments[role]
        x_0 = family.scaling_factor * (mean + deviation * self._normal(mean))
        t_B = torch.randint(0, family.schedule.num_timesteps, (len(x_0),), generator=self.generator).to(device)
        captions = [CAPTIONS[role]] * len(x_0)
        conditioning = family.encode_text(
            self.components.parts, family.tokenize(self.components.tokenizer, captions).to(device)
        )
        eps = self._normal(x_0)
        predicted = family.predict(self.components.denoiser, add_noise(family.schedule, x_0, eps, t_B), t_B, conditioning)
        return nn.functional.mse_loss(predicted, eps, reduction="none").mean(dim=(1, 2, 3)).mean()

    @torch.no_grad()
    def _encode(self, role: str) -> tuple[Tensor, Tensor]:
        moments = self.components.family.encode_pixels(self.components.vae, self.pixels[role])
        return moments.mean, moments.deviation

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator).to(like.device)


def start_original(
    family: Family,
    *,
    device: torch.device,
    resolution: int | None,
    batch_size: int,
    encodes_pictures: bool,
    recomputes: bool,
    seed: int,
) -> OriginalLoop:
    """The loop before its first step, with the same random weights as our run of the same seed in float32."""
    part = Part(device, torch.float32)
    components = random_components(family, unet=part, text_encoder=part, vae=part, seed=seed)
    if recomputes:
        recompute_activations([components.denoiser], "all")
    side = resolution or family.resolution
    generator = torch.Generator().manual_seed(seed)
    shape = (batch_size, family.pixel_channels, side, side)
    pixels = {role: torch.rand(shape, generator=generator).mul(2).sub(1).to(device) for role in CAPTIONS}
    return OriginalLoop(components, pixels, encodes_pictures, generator)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `original-loop`."""
    add_model_options(parser)
    parser.add_argument("--batch-size", type=int, default=1, help="photos per step, plus the same number of class images")
    parser.add_argument("--steps", type=int, default=30, help="timed steps (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=5, help="warm-up steps (default: %(default)s)")
    add_variants(parser)
    add_output_option(parser)


def add_variants(parser: argparse.ArgumentParser) -> None:
    """Options that follow the original or omit parts of it."""
    parser.add_argument(
        "--encode-pictures",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the original loop encodes both images with the VAE in every step (default: yes, as it did)",
    )
    parser.add_argument(
        "--original-recompute",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="the original loop recomputes the UNet's activations, as its last version did; slower (default: no)",
    )


def started(arguments: argparse.Namespace, device: torch.device) -> OriginalLoop:
    """The loop that the arguments describe."""
    return start_original(
        family_of(arguments.size),
        device=device,
        resolution=arguments.resolution,
        batch_size=arguments.batch_size,
        encodes_pictures=arguments.encode_pictures,
        recomputes=arguments.original_recompute,
        seed=arguments.seed,
    )


def switches_of(arguments: argparse.Namespace, original: OriginalLoop) -> dict[str, object]:
    """The conditions, for a record."""
    return {
        "size": arguments.size,
        "batch": arguments.batch_size,
        "resolution": original.pixels["prior"].shape[-1],
        "original_encodes_pictures": arguments.encode_pictures,
        "original_recomputes": arguments.original_recompute,
    }


def measure(arguments: argparse.Namespace) -> None:
    """Measure the original's loop alone."""
    device = choose_device(arguments.device)
    original = started(arguments, device)
    forget_peak(device)
    timing = time_iterations(original.step, device, iterations=arguments.steps, warmup=arguments.warmup)
    peak, summary = peak_of(device), timing.summary()
    check_losses(original)
    values = {
        **summary,
        "images_per_s": round(2 * arguments.batch_size * summary["steps_per_s"], 4),
        "tflop_per_step": round(count_flops(original.step) / 1e12, 6),
        **matmul_peak(device),
        **peak.summary(),
        "dtype": "fp32",
        **switches_of(arguments, original),
    }
    emit("original-loop", values, arguments.output, device=device)


def check_losses(original: OriginalLoop) -> None:
    """Every loss so far was finite."""
    assert torch.isfinite(torch.stack(original.losses)).all(), "the original's loop lost its way"
