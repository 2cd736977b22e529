"""The training data of a run: class images, examples, latents, texts, predictions. Prepared before training, after all checks.

A class image generated here, whole and not mirrored, is trained on with the sampler's own latent; its posterior is that one
latent. Everything else is encoded: photos, mirrored and held-out views, class images from given folders, and those without a
stored latent. Latents of class images come only from the files beside the images, never from the cache, so leftovers of other
runs change nothing.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.data.buckets import sizes_in_turn
from dreambooth.data.drawing import repeats_of
from dreambooth.data.examples import ExampleSource
from dreambooth.data.latent_cache import LatentCache
from dreambooth.data.mask_cache import MaskCache
from dreambooth.data.mask_rendering import mask_weights
from dreambooth.data.picture_sizes import PictureSizes
from dreambooth.data.pictures import shares_of
from dreambooth.data.prior_prompts import photos_as_class_examples, subject_prompts
from dreambooth.data.prior_sets import MadeLatent
from dreambooth.data.records import CaptionedPhoto, Photo, Role
from dreambooth.data.size import Size
from dreambooth.data.views import View, held_out_view
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.display import Display
from dreambooth.families.components import Components
from dreambooth.files import remove_stale
from dreambooth.pictures.class_images import make_prior_set, prompts_and_numbers, shared_out
from dreambooth.runtime.device import release_memory
from dreambooth.trainer.assembly import Placed, dtypes_for_training, place_for_training
from dreambooth.trainer.class_examples import balanced, given_by_class, made_classes, replayed
from dreambooth.trainer.encode import ViewEncoder, encode_captions
from dreambooth.trainer.ready import Learned, Ready
from dreambooth.training.base_predictions import BasePredictions, Questions
from dreambooth.training.batches import Encoded, MaskKey, ViewKey
from dreambooth.training.checkpoints import find_checkpoints
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.validation import ValidationItem, with_predicted_targets

__all__ = ["Material", "gather_material"]

_LATENT_OF = "latent of class image "
_NUM_VALIDATION_PICTURES = 4  # photos, plus the same number of class images


@dataclass(frozen=True)
class Material:
    """Everything that the loop needs besides the settings."""

    placed: Placed
    """The base model; frozen parts are in float32, and on the CPU during training."""
    source: ExampleSource
    encoded: Encoded
    validation: tuple[ValidationItem, ...]
    predictions: BasePredictions | None
    """What class examples are compared with; None if it is their noise, or predicted in each step."""
    made_of: dict[str, str]
    """Name to digest of everything besides the settings that decides the result."""


def gather_material(ready: Ready, display: Display) -> Material:
    """Generate missing class images, encode everything that training will see, and record the digests of the inputs."""
    learned, loop, device = ready.learned, ready.loop, ready.device
    dtypes = dtypes_for_training(ready.base.family, ready.setup)
    built = replace(ready.base.build(dtype=torch.float32, dtypes=dtypes), tokenizer=ready.tokenizer)
    placed = place_for_training(built, ready.setup, device)
    components = placed.components
    priors, latents = _class_examples(ready, components, display)
    source = ExampleSource(
        instances=learned.photos,
        priors=priors,
        views=learned.views,
        size=learned.buckets,
        examples_per_step=loop.examples_per_step,
        seed=loop.seed,
        repeats=repeats_of(learned.prior),
        caption_dropout=learned.subject.caption_dropout,
        shares=shares_of([one.photo for one in learned.photos], learned.subject),
    )
    held_out = _held_out(ready, source)
    for folder in (_cache_folder(ready), _predictions_folder(ready)):
        remove_stale(folder)
    encoder = ViewEncoder(components, LatentCache(_cache_folder(ready)), ready.base.digest(), learned.views.background, device)
    used = source.views_used(loop.steps)
    views = (
        *used,
        *((one.photo, held_out_view(one.photo, source.size_of(one.photo))) for one in held_out),
    )
    known = _known_moments(latents, priors, components.family.scaling_factor)
    unknown = [(photo, view) for photo, view in views if (photo.digest, view) not in known]
    with ready.processes.together():  # each process encodes its share into the cache and reads the rest from it
        mine = encoder.encode(ready.processes.share(unknown), display)
    rest = [(photo, view) for photo, view in unknown if (photo.digest, view) not in mine]
    moments = {**known, **mine, **encoder.encode(rest, display)}
    learns_text = any(name in placed.learning for name in components.family.text_encoders)
    text = encode_captions(components, source.captions(), as_ids=learns_text, device=device)
    release_memory(device)
    encoded = Encoded(
        moments,
        text,
        components.family.scaling_factor,
        components.family.takes_sizes,
        ready.loop.noise_offset,
        _weights(ready, used, components.family.downsampling),
    )
    validation = tuple(_validation_item(one, source, encoded) for one in held_out)
    predictions = None
    if learned.prior.prior_target == "prediction" and priors:
        denoiser = Denoiser(components, ready.policy)
        validation = with_predicted_targets(validation, denoiser, device=device)
        if not ready.setup.trainee.keeps_base:
            predictions = _predictions(ready, source, encoded, denoiser, display)
    return Material(placed, source, encoded, validation, predictions, _made_of(ready, priors, latents))


def _weights(ready: Ready, views: Sequence[tuple[Photo, View]], downsampling: int) -> dict[MaskKey, Tensor]:
    """The loss weights of the views whose mask makes a difference."""
    masks = MaskCache(_cache_folder(ready), downsampling).masks(views)
    outside = ready.learned.subject.mask_weight
    weights = {key: mask_weights(mask_hw, outside) for key, mask_hw in masks.items()}
    return {key: weight_hw for key, weight_hw in weights.items() if weight_hw is not None}


def _predictions(
    ready: Ready, source: ExampleSource, encoded: Encoded, denoiser: Denoiser, display: Display
) -> BasePredictions:
    """The base model's predictions for every class example that is still to come."""
    saved = find_checkpoints(ready.run)
    questions = Questions(
        source.examples_at,
        encoded,
        seed=ready.loop.seed,
        num_timesteps=denoiser.components.family.schedule.num_timesteps,
        asked_of=f"{ready.base.digest()} {ready.policy.name}",
    )
    first_step = saved[-1].step + 1 if saved else 1
    predictions = BasePredictions.of_steps(
        _predictions_folder(ready), questions, first_step=first_step, last_step=ready.loop.steps
    )
    predictions.compute(questions, denoiser, ready.processes, display)
    return predictions


def _class_examples(
    ready: Ready, components: Components, display: Display
) -> tuple[tuple[CaptionedPhoto, ...], dict[str, MadeLatent]]:
    """All class examples, and the latents that are used without encoding, by image digest; both empty without a prior."""
    learned, prior = ready.learned, ready.learned.prior
    if prior.prior_weight == 0:
        return (), {}
    given, made = given_by_class(learned.given_priors, learned.subject), made_classes(learned.subject, prior)
    requests = [(word, prompts_and_numbers(prior, word) if word in made else {}) for word in given]
    requests += [
        (one.name, shared_out(prior.replay_images, subject_prompts(one.prompt, one.name)))
        for one in replayed(learned.earlier, prior)
    ]
    images, latents = _made_images(ready, components, requests, display)
    of_classes = [(*own, *folder) for own, folder in zip(images, given.values(), strict=False)]
    photos = photos_as_class_examples(learned.photos, prior, learned.subject) if prior.prior_examples != "images" else ()
    return balanced([*of_classes, photos, *images[len(given) :]], prior), latents


def _made_images(
    ready: Ready, components: Components, requests: Sequence[tuple[str, Mapping[str, int]]], display: Display
) -> tuple[list[list[CaptionedPhoto]], dict[str, MadeLatent]]:
    """The base model's images for each request, a name with prompts and their numbers of images, and the latents of all."""
    prior = ready.learned.prior
    is_exact = ready.device.type == "cpu" and next(components.denoiser.parameters()).dtype == torch.float32
    dtype = torch.float32 if is_exact else ready.policy.compute_dtype
    if any(numbers for _, numbers in requests):
        components.vae.to(ready.device)
    with_latents = _had_latents(ready) if prior.prior_latents == "sampler" else frozenset[str]()
    made: list[list[CaptionedPhoto]] = []
    latents: dict[str, MadeLatent] = {}
    for name, numbers in requests:
        images: list[CaptionedPhoto] = []
        for prompt, size, num in _by_size(numbers, ready.learned):
            assert prior.prior_folder is not None, "filled in by preflight"
            prior_set = make_prior_set(
                components,
                model_digest=ready.base.digest(),
                class_word=name,
                prompt=prompt,
                num=num,
                prior=prior,
                size=size,
                seed=ready.loop.seed,
                folder=prior.prior_folder,
                display=display,
                processes=ready.processes,
                device=ready.device,
                dtype=dtype,
                with_latents=with_latents,
            )
            found = prior_set.images(num)
            images += found
            if prior.prior_latents == "sampler":
                stored = {one.photo.digest: prior_set.latent(one.photo) for one in found}
                latents |= {digest: latent for digest, latent in stored.items() if latent is not None}
            if len(numbers) == 1 and num == sum(numbers.values()):
                display.say(f"Class images: {num} in {prior_set.folder}")
        if len(images) and (len(numbers) > 1 or len({one.photo.path.parent for one in images}) > 1):
            of_prompts = f" of {len(numbers)} prompts" if len(numbers) > 1 else ""
            display.say(f"Images of {name!r}: {len(images)}{of_prompts} in {prior.prior_folder}")
        made.append(images)
    components.vae.to("cpu")
    return made, latents


def _had_latents(ready: Ready) -> frozenset[str]:
    """Digests of the class images whose own latents the run was trained on, by its newest checkpoint."""
    saved = find_checkpoints(ready.run)
    made_of = saved[-1].made_of if saved else {}
    images = (f"class image {key.removeprefix(_LATENT_OF)}" for key in made_of if key.startswith(_LATENT_OF))
    return frozenset(made_of[image].partition(" ")[0] for image in images if image in made_of)


def _by_size(numbers: Mapping[str, int], learned: Learned) -> Iterator[tuple[str, Size, int]]:
    """Prompt, size and number of the images of each set: all together have the proportions of the photos' sizes."""
    counts = learned.buckets.count(one.photo for one in learned.photos)
    sizes = iter(sizes_in_turn(counts, sum(numbers.values())))
    for prompt, num in numbers.items():
        for size, count in Counter(itertools.islice(sizes, num)).items():
            yield prompt, size, count


def _known_moments(
    latents: Mapping[str, MadeLatent], priors: Sequence[CaptionedPhoto], scaling_factor: float
) -> dict[ViewKey, LatentMoments]:
    """The posterior of every view that needs no encoder: the whole image, since generated images have a training size."""
    known = {}
    for photo in (one.photo for one in priors if one.photo.digest in latents):
        size, mean = Size(photo.height, photo.width), latents[photo.digest].x_0_CHW / scaling_factor
        whole = View(size, top=0, left=0, height=size.height, width=size.width, flip=False)
        known[photo.digest, whole] = LatentMoments(mean, torch.zeros_like(mean))
    return known


def _cache_folder(ready: Ready) -> Path:
    """Latents are looked up by content, so sibling runs share the cache."""
    return ready.run.path.absolute().parent / "latent-cache"


def _predictions_folder(ready: Ready) -> Path:
    return ready.run.path.absolute().parent / "prior-predictions"


def _held_out(ready: Ready, source: ExampleSource) -> tuple[CaptionedPhoto, ...]:
    if ready.intervals.validation == 0:
        return ()
    return (*source.instances[:_NUM_VALIDATION_PICTURES], *source.priors[:_NUM_VALIDATION_PICTURES])


def _validation_item(one: CaptionedPhoto, source: ExampleSource, encoded: Encoded) -> ValidationItem:
    view = held_out_view(one.photo, source.size_of(one.photo))
    x_0: Tensor = encoded.moments[one.photo.digest, view].mean * encoded.scaling_factor
    sizes = PictureSizes.of_view(one.photo, view).numbers() if encoded.takes_sizes else None
    role: Role = "instance" if one in source.instances else "prior"
    return ValidationItem(role, x_0, encoded.text[one.caption], sizes_6=sizes)


def _made_of(ready: Ready, priors: tuple[CaptionedPhoto, ...], latents: Mapping[str, MadeLatent]) -> dict[str, str]:
    pictures = {"photo": ready.learned.photos, "class image": priors}
    return {
        "base model": ready.base.digest(),
        **{
            f"{kind} {number} ({one.photo.path.name})": f"{one.photo.digest} {_said_of(one, kind)}"
            for kind, ones in pictures.items()
            for number, one in enumerate(ones)
        },
        **{
            f"{_LATENT_OF}{number} ({one.photo.path.name})": latents[one.photo.digest].digest
            for number, one in enumerate(priors)
            if one.photo.digest in latents
        },
    }


def _said_of(one: CaptionedPhoto, kind: str) -> str:
    """What the record of a picture says besides its digest: all captions, the mask of a photo, what it is cropped around."""
    mask = one.photo.mask if kind == "photo" else None
    focus = "" if one.photo.focus is None else f" cropped around {one.photo.focus.box}"
    return "\n".join(one.captions) + ("" if mask is None else f" masked by {mask.digest}") + focus
