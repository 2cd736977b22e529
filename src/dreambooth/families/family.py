"""The interface of a model family, on which all other code relies.

Shapes: B examples, L tokens, C channels, H and W sizes in pixels or latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.schedule import NoiseSchedule
from dreambooth.families.key_pairs import KeyPair
from dreambooth.families.shapes import Shape, StateDict
from dreambooth.memory.settings import MemoryPreset
from dreambooth.trainees.settings import LoraTargets

__all__ = ["Family", "LoraTargets", "PartDescription"]


@dataclass(frozen=True)
class PartDescription:
    """One part of a model: the names and sizes of its tensors, and where other programs store them."""

    title: str
    """Its name in messages, such as "text encoder"."""
    widths: tuple[int, ...]
    """Channels of each level."""
    blueprint: Mapping[str, Shape]
    """Maps the canonical name of every tensor to its shape, in module order."""
    keys: tuple[KeyPair, ...]
    """Its names in a single file."""
    config: Mapping[str, Any]
    """Its configuration in a diffusers folder."""
    stem: str
    """Name, without suffix, of its weight file in a diffusers folder."""
    prefix: str = ""
    """Prefix of its canonical names in that file."""
    without_prefix: tuple[str, ...] = ()
    """Canonical names that stand in that file as they are."""
    unused: Mapping[str, Shape] = field(default_factory=dict)
    """Tensors of a single file that the module lacks, by canonical name; they are kept as they are and may be missing."""

    def folder_name(self, name: str) -> str:
        """The name of a tensor in its weight file in a diffusers folder."""
        return name if name in self.without_prefix else f"{self.prefix}{name}"


class Family(Protocol):
    """A kind of model. All other code uses this protocol and never checks which family it has.

    A part is a named module, such as "unet". Code that holds a model holds a mapping from these names to modules.
    """

    def __hash__(self) -> int:
        """Families are used as cache keys."""

    @property
    def name(self) -> str:
        """Short name, as in file metadata."""

    @property
    def title(self) -> str:
        """Full name, for users."""

    @property
    def architecture(self) -> str:
        """Its name in the ModelSpec metadata of a file."""

    @property
    def denoiser(self) -> str:
        """Name of the denoiser part."""

    @property
    def autoencoder(self) -> str:
        """Name of the autoencoder part, between pixels and latents."""

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the text encoder parts."""

    @property
    def parts(self) -> Mapping[str, PartDescription]:
        """A description of every part by name, in the order of reports and digests."""

    @property
    def resolution(self) -> int:
        """Width and height in pixels of its training images."""

    @property
    def usual_resolution(self) -> int:
        """Default resolution for models of the family whose files do not state one."""

    @property
    def prediction(self) -> Prediction:
        """What the denoiser predicts."""

    @property
    def has_zero_terminal_snr(self) -> bool:
        """Whether the schedule ends without signal; only with velocity."""

    @property
    def usual_prediction(self) -> Prediction | None:
        """The prediction of models of the family that state none; None if only their weights show it."""

    @property
    def takes_sizes(self) -> bool:
        """Whether `predict` needs the sizes of pictures in its conditioning (see `data/picture_sizes.py`)."""

    @property
    def begins_last(self) -> bool:
        """Whether the original program samples from the last timestep on, and not from the one after an even division."""

    @property
    def zeroes_empty_prompt(self) -> bool:
        """Whether the original program's guidance takes zeros, not an encoded empty text, where there is no negative prompt."""

    @property
    def memory_presets(self) -> tuple[MemoryPreset, ...]:
        """The memory presets for GPUs of different sizes, from the fastest to the smallest."""

    @property
    def scaling_factor(self) -> float:
        """Factor from the autoencoder's latents to the denoiser's."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule, recomputed."""

    @property
    def pixel_channels(self) -> int:
        """Channels of an image."""

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""

    @property
    def downsampling(self) -> int:
        """Pixels per latent position along one side."""

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The schedule as described in a diffusers folder."""

    @property
    def pipeline_config(self) -> dict[str, Any]:
        """The index of a diffusers folder."""

    @property
    def original_config(self) -> dict[str, Any]:
        """Dotted keys and values of the original program's YAML for this model; it may omit them but not contradict them."""

    def file_buffers(self) -> dict[str, Tensor]:
        """Tensors of a single file that are not weights, under the original's names."""

    def at_resolution(self, resolution: int) -> Family:
        """The same family for images of another size."""

    def with_prediction(self, prediction: Prediction, *, has_zero_terminal_snr: bool) -> Family:
        """The same family with another prediction and end of the schedule."""

    def new_module(self, part: str) -> nn.Module:
        """A new module of this part with the library's default initialization."""

    def build(
        self, parts: Mapping[str, StateDict], *, dtype: torch.dtype, dtypes: Mapping[str, torch.dtype] | None = None
    ) -> dict[str, nn.Module]:
        """The modules with copies of these tensors in `dtype`, on the CPU, in evaluation mode, without gradients.

        `dtypes` names the parts that are built in another one.
        """

    def state_dicts(self, parts: Mapping[str, nn.Module]) -> dict[str, StateDict]:
        """The modules' tensors under the canonical names that `build` takes; they share memory."""

    def idle_parameters(self, part: str) -> tuple[str, ...]:
        """Canonical names of the parameters of a part that no prediction depends on; training leaves them as they are."""

    def blocks_to_stream(self, denoiser: nn.Module) -> tuple[nn.Module, ...]:
        """Blocks of the denoiser that can be streamed to the device one at a time, in the order of the forward pass."""

    def inner_blocks(self, denoiser: nn.Module) -> tuple[nn.Module, ...]:
        """Blocks of the denoiser that keep their activations while those at the largest latent sizes are recomputed."""

    def lora_targets(self, part: str, targets: LoraTargets) -> tuple[str, ...]:
        """Canonical names of the layers (without ".weight") that receive low-rank matrices, in module order."""

    def load_tokenizer(self) -> Any:
        """The tokenizer for `tokenize`, loaded from files in this package."""

    def tokenize(self, tokenizer: Any, captions: Sequence[str]) -> Tensor:
        """Token ids of captions, (B, L) int64; longer captions are truncated."""

    def words_of(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without those for its start and end."""

    def empty_ids(self, count: int, device: torch.device) -> Tensor:
        """Token ids of `count` captions, uninitialized."""

    def empty_conditioning(self, count: int, device: torch.device) -> Conditioning:
        """The conditioning of `count` examples, uninitialized."""

    def encode_text(self, parts: Mapping[str, nn.Module], input_ids_BL: Tensor) -> Conditioning:
        """Captions encoded by the text encoders among `parts`."""

    def encode_pixels(self, autoencoder: nn.Module, pixels_BCHW: Tensor) -> LatentMoments:
        """Mean and standard deviation of the latents of pixels in [-1, 1], unscaled."""

    def decode_latents(self, autoencoder: nn.Module, latents_BCHW: Tensor) -> Tensor:
        """Pixels in about [-1, 1], not clamped, from scaled latents."""

    def predict(self, denoiser: nn.Module, x_t_BCHW: Tensor, t_B: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's output for x_t at timesteps t_B, of the kind named by `prediction`, (B, C, H, W)."""
