"""Encodes all inputs of the frozen encoders once, before training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from dreambooth.data.latent_cache import LatentCache
from dreambooth.data.photos import read_pixels
from dreambooth.data.records import Photo
from dreambooth.data.views import View, render_view
from dreambooth.diffusion.conditioning import Text
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.display import Display, counted
from dreambooth.families.components import Components
from dreambooth.sampling.placing import visiting
from dreambooth.training.batches import ViewKey

__all__ = ["ViewEncoder", "encode_captions"]


@dataclass(frozen=True)
class ViewEncoder:
    """The VAE encoder with a cache on disk."""

    components: Components
    cache: LatentCache
    model_digest: str
    background: str
    device: torch.device

    def encode(self, views: Sequence[tuple[Photo, View]], display: Display) -> dict[ViewKey, LatentMoments]:
        """The posterior of every view, in float32 on the CPU.

        Images are encoded one by one: rounding depends on the batch size, and the result must not depend on which views are
        already cached.
        """
        moments: dict[ViewKey, LatentMoments] = {}
        missing: list[tuple[Photo, View]] = []
        for photo, view in views:
            cached = self.cache.get(self._key(photo, view))
            if cached is None:
                missing.append((photo, view))
            else:
                moments[photo.digest, view] = cached
        if num_damaged := sum(self.cache.has(self._key(photo, view)) for photo, view in missing):
            display.say(f"{counted(num_damaged, 'damaged latent')} in {self.cache.folder}: made again")
        if missing:
            vae = self.components.vae.to(self.device)
            with display.progress("encoding images", len(missing), "views") as advance:
                for photo, view in missing:
                    moments[photo.digest, view] = self._encode(photo, view)
                    advance(1)
            vae.to("cpu")
        return moments

    def _key(self, photo: Photo, view: View) -> str:
        return self.cache.key(photo, view, background=self.background, model_digest=self.model_digest)

    @torch.no_grad()
    def _encode(self, photo: Photo, view: View) -> LatentMoments:
        pixels_CHW = render_view(read_pixels(photo.path, background=self.background, digest=photo.digest), view)
        family = self.components.family
        batch = family.encode_pixels(self.components.vae, pixels_CHW.unsqueeze(0).to(self.device))
        moments = LatentMoments(batch.mean[0].float().cpu(), batch.deviation[0].float().cpu())
        self.cache.put(self._key(photo, view), moments)
        return moments


@torch.no_grad()
def encode_captions(components: Components, captions: Iterable[str], *, as_ids: bool, device: torch.device) -> dict[str, Text]:
    """The conditioning of every caption, float32, or with `as_ids` its token ids (L,), for trained text encoders.

    Frozen text encoders are on the device only meanwhile.
    """
    family = components.family
    ids = {caption: family.tokenize(components.tokenizer, [caption]) for caption in dict.fromkeys(captions)}
    if as_ids:
        return {caption: input_ids_BL[0] for caption, input_ids_BL in ids.items()}
    with visiting(components.text_encoders, device):
        return {
            caption: family.encode_text(components.parts, input_ids_BL.to(device)).index(0).to("cpu", torch.float32)
            for caption, input_ids_BL in ids.items()
        }
