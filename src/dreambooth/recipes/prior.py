"""`dreambooth prior`: class images, made by the base model itself, that hold what it knows of the class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreambooth.data.prior_sets import PriorSet
from dreambooth.data.size import Size
from dreambooth.display import Display
from dreambooth.errors import SettingsError
from dreambooth.pictures.class_images import _fill, _options, _request
from dreambooth.runtime.device import choose_device, describe_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.runtime.processes import OneProcess
from dreambooth.sampling.placing import picture_dtype, place
from dreambooth.sampling.sampler import check_size
from dreambooth.schema.verbs import PriorRecipeSettings
from dreambooth.weights.read import read_model

__all__ = ["PriorResult", "prior"]


@dataclass(frozen=True)
class PriorResult:
    """A complete set of class images."""

    folder: Path
    images: tuple[Path, ...]
    num_made: int
    """How many of them were missing and have been made now."""


def prior(settings: PriorRecipeSettings, display: Display) -> PriorResult:
    """Make what is missing of a set of class images; the model is built only when something is.

    Raises SettingsError when a setting would have no effect or the size is impossible, PhotoError when the set's folder
    holds something else, and ModelFileError when the model cannot be read or gives numbers that are not finite.
    """
    asked, device = settings.prior, choose_device(settings.device)
    of_training = ("prior_weight", "prior_images", "also_prior", "prior_latents")
    if useless := asked.is_changed(*of_training, "original_pairing", "photo_repeats", "prior_repeats"):
        raise SettingsError(f"{', '.join(useless)}: of no effect when class images are only made; leave out")
    with Interrupts(lambda: "Stopped. The class images made so far are kept; the same command goes on from there."):
        base = read_model(settings.base.model, config=settings.base.config, weights=settings.base.weights)
        size = Size.square(base.family.resolution if settings.resolution is None else settings.resolution)
        check_size(base.family.downsampling, height=size.height, width=size.width)
        options = _options(asked, size, settings.seed)
        request = _request(settings.class_word, asked, options, base.digest())
        prior_set = PriorSet.open(asked.prior_folder or Path("class-images"), settings.class_word, request)
        missing = prior_set.missing(asked.num_prior_images)
        if missing:
            dtype = picture_dtype(None, device)
            display.say(f"{base.report.title} from {settings.base.model} on {describe_device(device)}")
            components = place(base.build(dtype=dtype), device)
            _fill(
                prior_set,
                missing,
                options,
                components,
                display,
                processes=OneProcess(),
                num=asked.num_prior_images,
                batch_size=asked.prior_batch_size,
                device=device,
                dtype=dtype,
            )
    images = tuple(prior_set.path(index) for index in range(asked.num_prior_images))
    display.say(f'Class images "{request.prompt}" in {prior_set.folder}: {len(images)}, of which {len(missing)} are new')
    return PriorResult(prior_set.folder, images, len(missing))
