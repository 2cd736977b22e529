"""What a run learns from: class images, examples, latents, texts. Made before training, after everything was checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.data.captions import CaptionedPhoto
from dreambooth.data.examples import ExampleSource
from dreambooth.data.latent_cache import LatentCache
from dreambooth.data.views import held_out_view
from dreambooth.families.components import Components
from dreambooth.recipes.display import Display
from dreambooth.recipes.encode import ViewEncoder, encode_captions
from dreambooth.recipes.preflight import Ready
from dreambooth.recipes.prior import make_prior_set
from dreambooth.runtime.device import release_memory
from dreambooth.training.batches import Encoded
from dreambooth.training.validation import ValidationItem

__all__ = ["Material", "gather_material"]

_NUM_VALIDATION_PICTURES = 4  # photos, and as many class images


@dataclass(frozen=True)
class Material:
    """Everything that the loop needs beside the settings."""

    components: Components
    """The base model in float32; UNet and text encoder on the device, the VAE on the CPU."""
    source: ExampleSource
    encoded: Encoded
    validation: tuple[ValidationItem, ...]
    made_of: dict[str, str]
    """Name to digest of everything that decides the result beside the settings."""


def gather_material(ready: Ready, display: Display) -> Material:
    """Make the class images that are missing, encode what will be seen, and say what the run is made of."""
    settings, device = ready.settings, ready.device
    components = ready.base.build(dtype=torch.float32)
    components.unet.to(device)
    components.text_encoder.to(device)
    priors = (*_made_priors(ready, components, display), *ready.given_priors)
    source = ExampleSource(
        instances=ready.photos,
        priors=priors,
        views=settings.views,
        resolution=ready.resolution,
        examples_per_step=settings.loop.examples_per_step,
        seed=settings.loop.seed,
    )
    held_out = _held_out(ready, source)
    encoder = ViewEncoder(components, LatentCache(_cache_folder(ready)), ready.base.digest(), settings.views.background, device)
    views = (
        *source.views_used(settings.loop.steps),
        *((one.photo, held_out_view(one.photo, ready.resolution)) for one in held_out),
    )
    moments = encoder.encode(views, display)
    text = encode_captions(
        components,
        source.captions(),
        train_text_encoder=settings.trainee.train_text_encoder,
        device=device,
    )
    if not settings.trainee.train_text_encoder:
        components.text_encoder.to("cpu")
    release_memory(device)
    encoded = Encoded(moments, text, components.family.scaling_factor)
    validation = tuple(_validation_item(one, ready, source, encoded) for one in held_out)
    return Material(components, source, encoded, validation, _made_of(ready, priors))


def _made_priors(ready: Ready, components: Components, display: Display) -> tuple[CaptionedPhoto, ...]:
    """The class images that the base model makes; none when the prior has no weight or a folder was named."""
    prior, loop = ready.settings.prior, ready.settings.loop
    if prior.prior_weight == 0 or prior.prior_images is not None:
        return ()
    assert prior.prior_folder is not None, "filled in by preflight"
    dtype = torch.float32 if ready.device.type == "cpu" else ready.policy.compute_dtype
    components.vae.to(ready.device)
    prior_set = make_prior_set(
        components,
        model_digest=ready.base.digest(),
        class_word=ready.settings.subject.class_word,
        prior=prior,
        resolution=ready.resolution,
        seed=loop.seed,
        folder=prior.prior_folder,
        display=display,
        device=ready.device,
        dtype=dtype,
    )
    components.vae.to("cpu")
    display.say(f"Class images: {prior.num_prior_images} in {prior_set.folder}")
    return prior_set.images(prior.num_prior_images)


def _cache_folder(ready: Ready) -> Path:
    """Latents are found by content, so all runs beside each other share them."""
    return ready.run.path.absolute().parent / "latent-cache"


def _held_out(ready: Ready, source: ExampleSource) -> tuple[CaptionedPhoto, ...]:
    if ready.settings.output.validation_steps == 0:
        return ()
    return (*source.instances[:_NUM_VALIDATION_PICTURES], *source.priors[:_NUM_VALIDATION_PICTURES])


def _validation_item(one: CaptionedPhoto, ready: Ready, source: ExampleSource, encoded: Encoded) -> ValidationItem:
    moments = encoded.moments[one.photo.digest, held_out_view(one.photo, ready.resolution)]
    x_0: Tensor = moments.mean * encoded.scaling_factor
    return ValidationItem("instance" if one in source.instances else "prior", x_0, encoded.text[one.caption])


def _made_of(ready: Ready, priors: tuple[CaptionedPhoto, ...]) -> dict[str, str]:
    pictures = {"photo": ready.photos, "class image": priors}
    return {
        "base model": ready.base.digest(),
        **{
            f"{kind} {number} ({one.photo.path.name})": f"{one.photo.digest} {one.caption}"
            for kind, ones in pictures.items()
            for number, one in enumerate(ones)
        },
    }
