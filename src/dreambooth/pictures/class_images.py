"""Class images made by the base model, which hold what it knows of the class.

A set's key is made of everything that a person decides: prompt, model, sampler, steps, guidance, size and seed. The device
and the number format are not in it: they change a picture by rounding, as another GPU would, and a set that was begun
on one machine can be finished on another. Each file says which it was made with.

Beside each picture its latent is kept, for training to learn from: see `PriorSet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from dreambooth.data.captions import fill
from dreambooth.data.prior_sets import PriorRequest, PriorSet
from dreambooth.data.settings import PriorSettings
from dreambooth.data.size import Size
from dreambooth.display import Display
from dreambooth.families.components import Components
from dreambooth.files import atomic_file
from dreambooth.pages.images import save_picture
from dreambooth.runtime.processes import Processes
from dreambooth.sampling.batches import make_pictures
from dreambooth.sampling.metadata import picture_text
from dreambooth.sampling.records import Picture, SamplingOptions

__all__ = ["make_prior_set"]


def make_prior_set(
    components: Components,
    *,
    model_digest: str,
    class_word: str,
    prior: PriorSettings,
    size: Size,
    seed: int,
    folder: Path,
    display: Display,
    processes: Processes,
    device: torch.device,
    dtype: torch.dtype,
) -> PriorSet:
    """The set of class images that `prior` asks for below `folder`, with everything made that was missing.

    Each process makes its share of the batches.

    The components must be on `device`; they calculate in `dtype` (see `sample`). Image k depends on the set's key and k
    alone, and is written as soon as its batch is done, so being killed loses one batch at most.
    """
    options = _options(prior, size, seed)
    request = _request(class_word, prior, options, model_digest)
    with processes.main_first():
        prior_set = PriorSet.open(folder, class_word, request)
    num, batch_size = prior.num_prior_images, prior.prior_batch_size
    with processes.together():  # all have looked before anyone writes
        missing = prior_set.missing(num)
    with processes.together():
        if missing:
            _fill(
                prior_set,
                missing,
                options,
                components,
                display,
                processes=processes,
                num=num,
                batch_size=batch_size,
                device=device,
                dtype=dtype,
            )
    return prior_set


def _options(prior: PriorSettings, size: Size, seed: int) -> SamplingOptions:
    return SamplingOptions(
        sampler=prior.prior_sampler,
        steps=prior.prior_sampling_steps,
        guidance_scale=prior.prior_guidance_scale,
        height=size.height,
        width=size.width,
        seed=seed,
    )


def _request(class_word: str, prior: PriorSettings, options: SamplingOptions, model_digest: str) -> PriorRequest:
    return PriorRequest(
        prompt=fill(prior.class_prompt, token="", class_word=class_word),
        model_digest=model_digest,
        sampler=options.sampler,
        sampling_steps=options.steps,
        guidance_scale=options.guidance_scale,
        height=options.height,
        width=options.width,
        seed=options.seed,
    )


def _fill(
    prior_set: PriorSet,
    missing: Sequence[int],
    options: SamplingOptions,
    components: Components,
    display: Display,
    *,
    processes: Processes,
    num: int,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Make the pictures numbered `missing`.

    Batches are cut at multiples of their size, and one in which a picture is missing is made whole: a batch of another size
    rounds differently, and a set that was stopped and continued is to be the same to the last bit. For the same reason a
    picture stands only once its latent does. A picture that stands already keeps its latent, or is left without.
    """
    request = prior_set.request
    blocks = {*processes.share(sorted({index // batch_size for index in missing}))}
    pictures = [Picture(request.prompt, index) for index in range(num) if index // batch_size in blocks]
    with display.progress("class images", len(pictures) * options.steps, "steps") as advance:
        made = make_pictures(components, pictures, options, batch_size=batch_size, device=device, dtype=dtype, advance=advance)
        for one in made:
            index = one.picture.index
            if index not in missing:
                continue
            text = picture_text(one.picture, options, model_digest=request.model_digest, device=device, dtype=dtype)
            with atomic_file(prior_set.path(index)) as partial:
                save_picture(partial, one.pixels_CHW, text)
                prior_set.put_latent(index, one.x_0_CHW, picture=partial)
