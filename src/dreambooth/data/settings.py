"""What is learned, how it is looked at, and which class images hold the prior. Loads no torch."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dreambooth.config import Settings, nearest

__all__ = ["Captions", "Crop", "PriorSettings", "SubjectSettings", "ViewSettings", "check_background", "check_template"]

Captions = Literal["prompt", "filename"]
Crop = Literal["center", "random", "squash"]


_PAIRING = ("original_pairing", "photo_repeats", "prior_repeats")
_MAKING = (
    "num_prior_images",
    "prior_sampler",
    "prior_sampling_steps",
    "prior_guidance_scale",
    "prior_batch_size",
    "prior_folder",
)


def check_template(template: str, allowed: frozenset[str]) -> str:
    """`template` itself when every {placeholder} in it is allowed; ValueError naming the first that is not.

    A brace that is meant to stay is written twice, as in every Python format string.
    """
    try:
        fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"{template!r} is not a template: {error}; write a brace that is to stay twice") from error
    for _, name, format_spec, conversion in fields:
        if name not in allowed:
            known = " and ".join(f"{{{word}}}" for word in sorted(allowed))
            raise ValueError(f"{template!r} has the placeholder {{{name}}}; known are {known}")
        if format_spec or conversion:
            raise ValueError(f"{template!r} has more than the name in {{{name}}}; write {{{name}}} alone")
    return template


def check_background(background: str) -> str:
    """`background` itself when it is an opaque colour; ValueError with the nearest name when it is not."""
    from PIL import ImageColor  # only when a colour is given: the command line's help does without

    try:
        colour = ImageColor.getrgb(background)
    except ValueError as error:
        near = nearest(background.lower(), ImageColor.colormap)
        raise ValueError(
            f"{background!r} is not a colour; give a name such as white or a value such as #ffffff"
            + (f"; did you mean '{near}'?" if near is not None else "")
        ) from error
    if len(colour) != 3:
        raise ValueError(f"{background!r} is itself transparent; give an opaque one such as white or #ffffff")
    return background


class SubjectSettings(Settings):
    """The subject to learn."""

    photos: Path
    """Folder with the photos of the subject, searched recursively; a .txt beside a photo is its own caption."""

    class_word: str
    """What kind of thing the subject is: container, dog, man; empty when the token alone names it."""

    token: Annotated[str, Field(min_length=1)] = "sks"
    """The rare word that will name the subject; `dreambooth tokens` proposes others."""

    instance_prompt: str = "photo of a {token} {class_word}"
    """Caption of every photo that has no caption of its own."""

    captions: Captions = "prompt"
    """Captions are the prompts, or with filename the names of files and folders, in which S is the token and C the class."""

    @property
    def has_class(self) -> bool:
        """Whether the subject's kind has a name."""
        return bool(self.class_word.strip())

    @field_validator("instance_prompt")
    @classmethod
    def _instance_prompt(cls, template: str) -> str:
        return check_template(template, frozenset({"token", "class_word"}))

    @model_validator(mode="after")
    def _options_have_effect(self) -> SubjectSettings:
        if self.captions == "filename" and self.is_changed("instance_prompt"):
            raise ValueError("captions is filename, so instance_prompt would have no effect; leave out one or the other")
        return self


class ViewSettings(Settings):
    """How a photo becomes a square picture of the training size."""

    resolution: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    """Side of the training pictures in pixels; the model's own size when not given (512 for Stable Diffusion 1)."""

    crop: Crop = "center"
    """Keep the aspect and crop in the centre or at random, or squash the whole photo to a square as the original did."""

    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How often a picture is mirrored; use 0 for faces, text and anything that is not symmetric."""

    prior_flip_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    """How often a class image is mirrored; as often as photos when not given."""

    background: str = "white"
    """Colour on which transparent photos are laid: a name or #rrggbb."""

    @field_validator("background")
    @classmethod
    def _background(cls, background: str) -> str:
        return check_background(background)


class PriorSettings(Settings):
    """The class images that hold the prior in place."""

    off_switches = {"prior_weight": ("prior_images", "also_prior", "prior_latents", *_MAKING, *_PAIRING)}
    replaces = {"prior_images": ("prior_latents", *_MAKING)}

    prior_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the class images' loss beside the photos' loss; 0 trains without class images."""

    prior_images: Path | None = None
    """A folder of class images to use as it is; when not given the base model makes them."""

    num_prior_images: Annotated[int, Field(ge=1)] = 200
    """How many class images the base model makes."""

    class_prompt: str = "photo of a {class_word}"
    """Prompt that makes the class images, and their caption in training."""

    also_prior: tuple[Path, ...] = ()
    """More class images to mix in, of an earlier subject's class: made sets or folders with a .txt beside each image."""

    prior_sampler: Literal["ddim", "dpm++", "euler", "euler-a", "plms"] = "ddim"
    """Sampler that makes the class images."""

    prior_sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps for a class image."""

    prior_guidance_scale: Annotated[float, Field(ge=0)] = 10.0
    """Guidance scale for class images."""

    prior_batch_size: Annotated[int, Field(ge=1)] = 4
    """Class images made at once; the pictures do not depend on it."""

    prior_latents: Literal["sampler", "encoder"] = "sampler"
    """Latents of whole class images: as the sampler left them, or encoded from the picture again as the original did."""

    prior_folder: Path | None = None
    """Where made sets of class images are kept; 'class-images' beside the run folder when not given."""

    original_pairing: bool = False
    """Draw photos and class images in pairs as the original did, which leaves the tail of a large set unseen."""

    photo_repeats: Annotated[int, Field(ge=1)] = 100
    """With original_pairing: an epoch has at most so many pairs for each photo."""

    prior_repeats: Annotated[int, Field(ge=1)] = 10
    """With original_pairing: an epoch has at most so many pairs for each class image."""

    @property
    def num_made(self) -> int:
        """Class images that the base model makes: none where they have no weight or a folder of them is given."""
        return 0 if self.prior_weight == 0 or self.prior_images is not None else self.num_prior_images

    @field_validator("class_prompt")
    @classmethod
    def _class_prompt(cls, template: str) -> str:
        return check_template(template, frozenset({"class_word"}))

    @model_validator(mode="after")
    def _options_have_effect(self) -> PriorSettings:
        if self.prior_images is not None and (making := self.is_changed(*self.replaces["prior_images"])):
            raise ValueError(
                f"prior_images uses a folder as it is, so {', '.join(making)} would have no effect; leave out one or the other"
            )
        if not self.original_pairing and (useless := self.is_changed("photo_repeats", "prior_repeats")):
            raise ValueError(f"{', '.join(useless)} would have no effect without original_pairing; add it or leave them out")
        return self
