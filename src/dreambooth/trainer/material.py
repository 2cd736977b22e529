"""What a run learns from: class images, examples, latents, texts. Made before training, after everything was checked.

A class image that the base model made here, whole and not mirrored, is learned from as the sampler left it; its posterior
is that one latent. Everything else is encoded: photos, mirrored and held-out views, class images of given folders, and those
without a latent beside them. The latents beside the pictures are their only source, never the cache, so what other runs left
behind changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.data.drawing import repeats_of
from dreambooth.data.examples import ExampleSource
from dreambooth.data.latent_cache import LatentCache
from dreambooth.data.prior_sets import MadeLatent
from dreambooth.data.records import CaptionedPhoto
from dreambooth.data.size import Size
from dreambooth.data.views import View, held_out_view
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.display import Display
from dreambooth.families.components import Components
from dreambooth.pictures.class_images import make_prior_set
from dreambooth.runtime.device import release_memory
from dreambooth.trainer.assembly import Placed, place_for_training
from dreambooth.trainer.encode import ViewEncoder, encode_captions
from dreambooth.trainer.ready import Ready
from dreambooth.training.batches import Encoded, ViewKey
from dreambooth.training.validation import ValidationItem

__all__ = ["Material", "gather_material"]

_NUM_VALIDATION_PICTURES = 4  # photos, and as many class images


@dataclass(frozen=True)
class Material:
    """Everything that the loop needs beside the settings."""

    placed: Placed
    """The base model; what is frozen is in float32, and on the CPU while training."""
    source: ExampleSource
    encoded: Encoded
    validation: tuple[ValidationItem, ...]
    made_of: dict[str, str]
    """Name to digest of everything that decides the result beside the settings."""


def gather_material(ready: Ready, display: Display) -> Material:
    """Make the class images that are missing, encode what will be seen, and say what the run is made of."""
    learned, loop, device = ready.learned, ready.loop, ready.device
    placed = place_for_training(ready.base.build(dtype=torch.float32), ready.setup, device)
    components = placed.components
    made, latents = _made_priors(ready, components, display)
    priors = (*made, *learned.given_priors)
    source = ExampleSource(
        instances=learned.photos,
        priors=priors,
        views=learned.views,
        size=ready.size,
        examples_per_step=loop.examples_per_step,
        seed=loop.seed,
        repeats=repeats_of(learned.prior),
    )
    held_out = _held_out(ready, source)
    encoder = ViewEncoder(components, LatentCache(_cache_folder(ready)), ready.base.digest(), learned.views.background, device)
    views = (
        *source.views_used(loop.steps),
        *((one.photo, held_out_view(one.photo, ready.size)) for one in held_out),
    )
    known = _known_moments(latents, ready.size, components.family.scaling_factor)
    unknown = [(photo, view) for photo, view in views if (photo.digest, view) not in known]
    with ready.processes.together():  # each encodes its share into the cache, from which all read the rest
        mine = encoder.encode(ready.processes.share(unknown), display)
    rest = [(photo, view) for photo, view in unknown if (photo.digest, view) not in mine]
    moments = {**known, **mine, **encoder.encode(rest, display)}
    frozen = [name for name in components.family.text_encoders if name not in placed.learning]
    text = encode_captions(
        components,
        source.captions(),
        as_ids=not frozen,
        device=device,
    )
    for name in frozen:
        components.parts[name].to("cpu")
    release_memory(device)
    encoded = Encoded(moments, text, components.family.scaling_factor)
    validation = tuple(_validation_item(one, ready, source, encoded) for one in held_out)
    return Material(placed, source, encoded, validation, _made_of(ready, priors, latents))


def _made_priors(
    ready: Ready, components: Components, display: Display
) -> tuple[tuple[CaptionedPhoto, ...], dict[str, MadeLatent]]:
    """The class images that the base model makes, and those of their latents that are used as they are, by picture.

    None when the prior has no weight or a folder was named.
    """
    prior, loop = ready.learned.prior, ready.loop
    if not prior.num_made:
        return (), {}
    assert prior.prior_folder is not None, "filled in by preflight"
    is_exact = ready.device.type == "cpu" and ready.policy.weight_dtype == torch.float32
    dtype = torch.float32 if is_exact else ready.policy.compute_dtype
    components.vae.to(ready.device)
    prior_set = make_prior_set(
        components,
        model_digest=ready.base.digest(),
        class_word=ready.learned.subject.class_word,
        prior=prior,
        size=ready.size,
        seed=loop.seed,
        folder=prior.prior_folder,
        display=display,
        processes=ready.processes,
        device=ready.device,
        dtype=dtype,
    )
    components.vae.to("cpu")
    display.say(f"Class images: {prior.num_prior_images} in {prior_set.folder}")
    images = prior_set.images(prior.num_prior_images)
    if prior.prior_latents == "encoder":
        return images, {}
    found = {one.photo.digest: prior_set.latent(one.photo) for one in images}
    return images, {digest: latent for digest, latent in found.items() if latent is not None}


def _known_moments(latents: Mapping[str, MadeLatent], size: Size, scaling_factor: float) -> dict[ViewKey, LatentMoments]:
    """The posterior of every view that needs no encoder: made sets are of the training size, so this is the whole picture."""
    whole = View(size, top=0, left=0, height=size.height, width=size.width, flip=False)
    means = {digest: latent.x_0_CHW / scaling_factor for digest, latent in latents.items()}
    return {(digest, whole): LatentMoments(mean, torch.zeros_like(mean)) for digest, mean in means.items()}


def _cache_folder(ready: Ready) -> Path:
    """Latents are found by content, so all runs beside each other share them."""
    return ready.run.path.absolute().parent / "latent-cache"


def _held_out(ready: Ready, source: ExampleSource) -> tuple[CaptionedPhoto, ...]:
    if ready.intervals.validation == 0:
        return ()
    return (*source.instances[:_NUM_VALIDATION_PICTURES], *source.priors[:_NUM_VALIDATION_PICTURES])


def _validation_item(one: CaptionedPhoto, ready: Ready, source: ExampleSource, encoded: Encoded) -> ValidationItem:
    moments = encoded.moments[one.photo.digest, held_out_view(one.photo, ready.size)]
    x_0: Tensor = moments.mean * encoded.scaling_factor
    return ValidationItem("instance" if one in source.instances else "prior", x_0, encoded.text[one.caption])


def _made_of(ready: Ready, priors: tuple[CaptionedPhoto, ...], latents: Mapping[str, MadeLatent]) -> dict[str, str]:
    pictures = {"photo": ready.learned.photos, "class image": priors}
    return {
        "base model": ready.base.digest(),
        **{
            f"{kind} {number} ({one.photo.path.name})": f"{one.photo.digest} {one.caption}"
            for kind, ones in pictures.items()
            for number, one in enumerate(ones)
        },
        **{
            f"latent of class image {number} ({one.photo.path.name})": latents[one.photo.digest].digest
            for number, one in enumerate(priors)
            if one.photo.digest in latents
        },
    }
