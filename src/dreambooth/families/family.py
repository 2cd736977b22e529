"""What everything else may ask of a kind of model.

Shapes: B examples, L tokens, C channels, H and W sizes in pixels or latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.schedule import NoiseSchedule
from dreambooth.families.key_pairs import KeyPair
from dreambooth.families.shapes import Shape, StateDict

__all__ = ["Family", "LoraTargets", "PartDescription"]

LoraTargets = Literal["attention", "transformer"]
"""Which layers receive low-rank matrices: the four projections of each attention, or every matrix of its block as well."""


@dataclass(frozen=True)
class PartDescription:
    """One part of a model: what its tensors are called, how large they are, and where other programs keep them."""

    title: str
    """Its name in messages, such as "text encoder"."""
    widths: tuple[int, ...]
    """Channels of each level."""
    blueprint: Mapping[str, Shape]
    """Canonical name to shape of every tensor, in the order of the modules."""
    keys: tuple[KeyPair, ...]
    """Its names in a single file."""
    config: Mapping[str, Any]
    """Its configuration in a diffusers folder."""
    stem: str
    """Name, without the suffix, of its file of weights in a diffusers folder."""
    prefix: str = ""
    """What stands before its canonical names in that file."""


class Family(Protocol):
    """A kind of model. All other code is written against this protocol and never asks which family it has.

    A part is a module with a name of its own, such as "unet". Whoever holds a model holds a mapping from these names.
    """

    def __hash__(self) -> int:
        """Families are keys of caches."""

    @property
    def name(self) -> str:
        """Its short name, as file metadata have it."""

    @property
    def title(self) -> str:
        """Its full name, for people."""

    @property
    def architecture(self) -> str:
        """Its name in the ModelSpec metadata of a file."""

    @property
    def denoiser(self) -> str:
        """Name of the part that predicts."""

    @property
    def autoencoder(self) -> str:
        """Name of the part between pixels and latents."""

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the parts that read captions."""

    @property
    def parts(self) -> Mapping[str, PartDescription]:
        """A description of every part by its name, in the order of reports and digests."""

    @property
    def resolution(self) -> int:
        """Side in pixels of the pictures it was trained on."""

    @property
    def usual_resolution(self) -> int:
        """The side for models of the family whose files state none."""

    @property
    def prediction(self) -> Prediction:
        """What the denoiser predicts."""

    @property
    def scaling_factor(self) -> float:
        """Factor between the autoencoder's latents and those that the denoiser works on."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule, recomputed."""

    @property
    def pixel_channels(self) -> int:
        """Channels of a picture."""

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""

    @property
    def downsampling(self) -> int:
        """Width in pixels of one latent position."""

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The schedule as diffusers' folders describe it."""

    @property
    def pipeline_config(self) -> dict[str, Any]:
        """The index of a diffusers folder."""

    @property
    def original_config(self) -> dict[str, Any]:
        """Entries that the original program's YAML for this model must have if it has them at all, dotted key to value."""

    def file_buffers(self) -> dict[str, Tensor]:
        """Tensors of a single file that are no weights, under the original's names."""

    def at_resolution(self, resolution: int) -> Family:
        """The same family for pictures of another size."""

    def new_module(self, part: str) -> nn.Module:
        """A module of this part with the library's own initial weights."""

    def build(self, parts: Mapping[str, StateDict], *, dtype: torch.dtype) -> dict[str, nn.Module]:
        """The modules with copies of these tensors in `dtype`, on the CPU, in evaluation mode, without gradients."""

    def state_dicts(self, parts: Mapping[str, nn.Module]) -> dict[str, StateDict]:
        """The tensors of modules under the canonical names that `build` takes; they share memory."""

    def blocks_to_stream(self, denoiser: nn.Module) -> tuple[nn.Module, ...]:
        """Blocks of the denoiser that may visit the device one at a time, in the order of the forward pass."""

    def inner_blocks(self, denoiser: nn.Module) -> tuple[nn.Module, ...]:
        """Blocks of the denoiser that keep their activations when only those of the largest latents are recomputed."""

    def lora_targets(self, part: str, targets: LoraTargets) -> tuple[str, ...]:
        """Canonical names of the layers (without ".weight") that receive low-rank matrices, in the part's order."""

    def load_tokenizer(self) -> Any:
        """What `tokenize` reads captions with, from the files of this package."""

    def tokenize(self, tokenizer: Any, captions: Sequence[str]) -> Tensor:
        """Token ids of captions, (B, L) int64; longer captions are cut."""

    def empty_ids(self, count: int, device: torch.device) -> Tensor:
        """Token ids of `count` captions without values."""

    def empty_conditioning(self, count: int, device: torch.device) -> Conditioning:
        """The conditioning of `count` examples without values."""

    def encode_text(self, parts: Mapping[str, nn.Module], input_ids_BL: Tensor) -> Conditioning:
        """Captions as the text encoders among `parts` leave them."""

    def encode_pixels(self, autoencoder: nn.Module, pixels_BCHW: Tensor) -> LatentMoments:
        """Mean and deviation of the latents of pixels in [-1, 1], unscaled."""

    def decode_latents(self, autoencoder: nn.Module, latents_BCHW: Tensor) -> Tensor:
        """Pixels in about [-1, 1], not clamped, of scaled latents."""

    def predict(self, denoiser: nn.Module, x_t_BCHW: Tensor, t_B: Tensor, conditioning: Conditioning) -> Tensor:
        """What `prediction` names, (B, C, H, W), estimated for x_t at timesteps t_B."""
