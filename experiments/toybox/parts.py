"""Data shared by the stages of pretraining: modules, captions and encodings, computed once and kept in the folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from dreambooth.diffusion.latents import LatentMoments
from dreambooth.display import Display, quoted
from dreambooth.errors import SettingsError
from dreambooth.families.components import Components
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape
from dreambooth.families.untrained import untrained_clip, untrained_vae
from dreambooth.runs.remembered import check_remembered
from dreambooth.runtime.tensor_files import write_tensors
from dreambooth.toybox.judge import SIDE
from experiments.toybox.autoencoder import normalise_latents, start_tight
from experiments.toybox.captions import CaptionIds, caption_ids
from experiments.toybox.clip import PROJECTION, VISION
from experiments.toybox.denoising import Encoded, encode_pictures
from experiments.toybox.pictures import PictureSet, to_pixels
from experiments.toybox.settings import PretrainSettings

__all__ = ["Parts", "check_same_pictures", "embedded_family", "fill_module"]

_DECIDING = ("seed", "num_pictures", "num_subject_pictures", "num_lookalike_pictures")  # they determine every image


def embedded_family() -> StableDiffusion1:
    """A small Stable Diffusion 1: images of 64 pixels, four pixels per latent, 10.9 million parameters in the UNet."""
    return StableDiffusion1(
        unet=UNetShape(
            in_channels=4,
            out_channels=4,
            widths=(64, 128, 192),
            num_layers=1,
            depths=(0, 1, 1),
            middle_depth=1,
            context_width=128,
            has_linear_projections=False,
        ),
        vae=VaeShape(pixel_channels=3, latent_channels=4, widths=(32, 64, 64), num_layers=1),
        text=TextShape(vocabulary=49408, num_positions=77, width=128, inner_width=512, num_layers=4),
        resolution=SIDE,
    )


def check_same_pictures(settings: PretrainSettings, *, may_begin: bool) -> None:
    """Everything in the folder depends on its images. Raises SettingsError when the settings would give other images.

    With `may_begin`, a new folder records the settings.
    """
    if not (may_begin or (settings.output / "pictures.json").exists()):
        return
    asked = {name: getattr(settings, name) for name in _DECIDING}
    hint = "Use the same settings to resume, or another --output to start over."
    check_remembered(settings.output / "pictures.json", asked, hint=hint)


@dataclass(frozen=True)
class Parts:
    """The folder of a pretraining run, and its contents."""

    settings: PretrainSettings
    display: Display
    device: torch.device

    @cached_property
    def family(self) -> StableDiffusion1:
        """The family of the model that is trained."""
        return embedded_family()

    @cached_property
    def world(self) -> PictureSet:
        """The images that all networks are trained on."""
        return PictureSet(self.file("pictures"), self.settings.num_pictures, SIDE, self.settings.seed)

    @cached_property
    def subjects(self) -> PictureSet:
        """Images of subjects, for the judge."""
        num, seed = self.settings.num_subject_pictures, self.settings.seed
        return PictureSet(self.file("subject-pictures"), num, SIDE, seed, shows="subjects")

    @cached_property
    def lookalikes(self) -> PictureSet:
        """Groups of objects that are hard to distinguish, for the eye."""
        num, seed = self.settings.num_lookalike_pictures, self.settings.seed
        return PictureSet(self.file("lookalike-pictures"), num, SIDE, seed, shows="lookalikes")

    @cached_property
    def end_token(self) -> int:
        """The id that ends and pads a caption."""
        return int(self.family.text_config["eos_token_id"])

    def file(self, name: str) -> Path:
        """A file or folder of the pretraining run."""
        return self.settings.output / name

    def rendered(self, pictures: PictureSet) -> Tensor:
        """All images of a set, (N, side, side, 3) uint8. Raises SettingsError when some are missing."""
        if missing := pictures.num_missing():
            command = f"python -m experiments.toybox train --output {quoted(self.settings.output)} --stages pictures"
            raise SettingsError(
                f"{pictures.folder}: {missing} of {pictures.num} images are missing",
                hint=f"Render them first: {command}",
            )
        return pictures.load()

    def vae(self) -> Any:
        """The untrained autoencoder."""
        vae = untrained_vae(self.family, seed=self.settings.seed).to(self.device)
        start_tight(vae)
        return vae

    def clip(self) -> Any:
        """The untrained CLIP."""
        clip = untrained_clip(self.family, vision=VISION, projection=PROJECTION, seed=self.settings.seed)
        return clip.to(self.device)

    def captions(self) -> CaptionIds:
        """Token ids of every caption of the world."""
        tokenizer = self.family.load_tokenizer()
        return caption_ids(self.world, lambda texts: self.family.tokenize(tokenizer, texts), self.file("captions.npz"))

    def finished(self, name: str, *, stage: str, steps: int) -> dict[str, Tensor]:
        """The tensors of a stage's state file. Raises SettingsError when the stage is not finished."""
        path, folder = self.file(name), quoted(self.settings.output)
        command = f"python -m experiments.toybox train --output {folder} --stages {stage}"
        hint = f"Finish the stage first, with the same settings: {command}\nWithout --stages, all stages run."
        if not path.exists():
            raise SettingsError(f"{path}: does not exist, but the finished stage {stage} is needed", hint=hint)
        with safe_open(path, "pt") as file:
            step = int(file.metadata()["step"])
        if step != steps:
            raise SettingsError(f"{path}: the stage {stage} is at step {step} of {steps}", hint=hint)
        return load_file(path)

    def components(self, unet: Any) -> Components:
        """The finished autoencoder and text encoder, with this UNet."""
        vae, clip, settings = self.vae(), self.clip(), self.settings
        vae_state = self.finished("vae.safetensors", stage="autoencoder", steps=settings.autoencoder_steps)
        clip_state = self.finished("clip.safetensors", stage="clip", steps=settings.clip_steps)
        fill_module(vae, vae_state, "average.")
        fill_module(clip, clip_state, "weight.clip.")
        with torch.no_grad():
            moments = self.family.encode_pixels(vae, to_pixels(self.world.load(512)).to(self.device))
        spread = float((moments.mean.var() + moments.deviation.square().mean()).sqrt())
        normalise_latents(vae, spread, self.family.scaling_factor)
        finished = {"vae": vae.eval().requires_grad_(False), "text_encoder": clip.text_model.eval().requires_grad_(False)}
        return Components(self.family, {"unet": unet, **finished}, self.family.load_tokenizer())

    def encoded(self, components: Components) -> Encoded:
        """All latents and text states, computed once and kept in files."""
        captions, settings = self.captions(), self.settings
        latents = self._kept("latents.safetensors", settings.autoencoder_steps, lambda: self._latents(components))
        texts = self._kept("texts.safetensors", settings.clip_steps, lambda: self._texts(components, captions))
        return Encoded(LatentMoments(**latents), texts["states"], captions.of_picture_NK, texts["empty"])

    def _kept(self, name: str, steps: int, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors from a file that records the encoder's number of steps; computed when the file does not match or exist."""
        path = self.file(name)
        if path.exists():
            with safe_open(path, "pt") as file:
                is_current = file.metadata() == {"encoder_steps": str(steps)}
            if is_current:
                return load_file(path)
        write_tensors(path, make(), metadata={"encoder_steps": str(steps)})
        return load_file(path)

    def _latents(self, components: Components) -> dict[str, Tensor]:
        def encode(pixels_BCHW: Tensor) -> LatentMoments:
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                moments = self.family.encode_pixels(components.vae, pixels_BCHW.to(self.device))
            return LatentMoments(moments.mean.float(), moments.deviation.float())

        with self.display.progress("encoding images", self.world.num, "images") as advance:
            moments = encode_pictures(encode, self.world.load(), advance)
        return {"mean": moments.mean, "deviation": moments.deviation}

    def _texts(self, components: Components, captions: CaptionIds) -> dict[str, Tensor]:
        def encode(ids_BL: Tensor) -> Tensor:
            return self.family.encode_text(components.parts, ids_BL.to(self.device)).states_BLD

        self.display.say(f"encoding {len(captions.unique_UL)} captions")
        states_ULD = captions.states(encode, length=self.family.text.num_positions, end=self.end_token)
        with torch.no_grad():
            empty_1LD = encode(self.family.tokenize(components.tokenizer, [""])).bfloat16()
        return {"states": states_ULD, "empty": empty_1LD[0]}


@torch.no_grad()
def fill_module(module: nn.Module, state: Mapping[str, Tensor], prefix: str) -> None:
    """Copy the tensors under `prefix` of a stage's state into the module's parameters."""
    for name, parameter in module.named_parameters():
        parameter.copy_(state[f"{prefix}{name}"])
