"""Settings of the subject, of its views and of the class images. Loads no torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from dreambooth.config import Settings, Text, nearest
from dreambooth.reading import SeveralProblemsError, check_one_line, check_template
from dreambooth.record_files import read_records
from dreambooth.sampling.settings import Sampler

__all__ = [
    "ONLY_TRAINED_ON",
    "Captions",
    "Crop",
    "NamedSubject",
    "PriorSettings",
    "PriorTarget",
    "SubjectSettings",
    "ViewSettings",
    "Word",
    "check_background",
]

Captions = Literal["prompt", "filename"]
PriorTarget = Literal["noise", "prediction"]
Crop = Literal["center", "random", "squash", "bucket", "subject"]


_PAIRING = ("original_pairing", "photo_repeats", "prior_repeats")
_MAKING = (
    *("num_prior_images", "prior_sampler", "prior_sampling_steps"),
    *("prior_guidance_scale", "prior_batch_size", "prior_folder"),
)


Word = Annotated[Text, AfterValidator(check_one_line)]
"""A word that is put into prompts, or several: in one line, without control characters."""


def check_background(background: str) -> str:
    """Return `background` if it is an opaque color. Raises ValueError, with the nearest name, if it is not."""
    from PIL import ImageColor  # only when a color is given: the help does not need it

    try:
        colour = ImageColor.getrgb(background)
    except ValueError as error:
        near = nearest(background.lower(), ImageColor.colormap)
        raise ValueError(
            f"{background!r} is not a color; give a name such as white or a value such as #ffffff"
            + (f"; did you mean '{near}'?" if near is not None else "")
        ) from error
    if len(colour) != 3:
        raise ValueError(f"{background!r} is a transparent color; give an opaque one such as white or #ffffff")
    return background


class NamedSubject(Settings):
    """One of several subjects, in the file of `subjects`."""

    photos: Path
    """Folder of photos of this subject, an archive, or a dataset on the hub."""

    token: Annotated[Word, Field(min_length=1)]
    """Rare word that will name it."""

    class_word: Annotated[Word, Field(min_length=1)]
    """What kind of thing it is."""

    captions: Captions = "prompt"
    """Source of its captions, as --captions."""

    instance_prompt: Text | None = None
    """Caption of its photos that have no caption file; default: the --instance-prompt of the run."""

    prior_images: Path | None = None
    """Folder of images of its class; default: the base model generates them, once for all subjects of this class."""

    weight: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """How often it is shown, relative to the other subjects."""

    @field_validator("instance_prompt")
    @classmethod
    def _instance_prompt(cls, template: str | None) -> str | None:
        return None if template is None else check_template(template, _IN_CAPTIONS)

    @model_validator(mode="after")
    def _options_have_effect(self) -> NamedSubject:
        if self.captions == "filename" and self.instance_prompt is not None:
            raise ValueError("captions is filename, so instance_prompt would have no effect; use only one of them")
        return self


_IN_CAPTIONS = frozenset({"token", "class_word"})
_FROM_THE_FIRST = ("photos", "class_word", "token", "captions")


class SubjectSettings(Settings):
    """Subject to learn."""

    off_switches = {"masks=False": ("mask_folder", "mask_weight")}
    replaces = {"subjects": _FROM_THE_FIRST}
    displaces = {"photos": ("subjects",)}

    photos: Path
    """Folder of photos of the subject, searched recursively, an archive (.zip, .tar.gz), or a dataset on the Hugging Face hub
    (hf://datasets/OWNER/NAME); a .txt file with the same name is the photo's caption."""

    class_word: Word
    """What kind of thing the subject is: dog, man, container; empty if the token alone names it."""

    token: Annotated[Word, Field(min_length=1)] = "sks"
    """Rare word that will name the subject in prompts; `dreambooth tokens` suggests others."""

    instance_prompt: Text = "photo of a {token} {class_word}"
    """Caption of photos that have no caption file."""

    subjects: tuple[NamedSubject, ...] = ()
    """YAML file with a list of subjects, each with its own photos, token and class_word; replaces those three options."""

    captions: Captions = "prompt"
    """Captions of photos without a caption file: --instance-prompt (prompt), or the names of files and folders (filename), in
    which S stands for the token and C for the class word."""

    allow_silent_token: bool = False
    """Accept captions of which none contains the token, which then is not learned."""

    shuffle_tags: bool = False
    """Show the comma-separated tags of a caption in changing orders."""

    tag_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of leaving out a tag of a caption; a tag with the token always stays."""

    keep_tags: Annotated[int, Field(ge=0, le=100)] = 1
    """Number of leading tags that always keep their place, with --shuffle-tags or --tag-dropout."""

    caption_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of showing a photo with the empty caption."""

    masks: bool = True
    """Use masks of the subject: alpha channels, and for a photo NAME the file NAME-mask.png beside it."""

    mask_folder: Path | None = None
    """Folder with more masks, each with the name of its photo."""

    mask_weight: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Weight of the loss outside of a mask, relative to inside; 1 turns masks off."""

    @property
    def has_class(self) -> bool:
        """Whether there is a class word."""
        return bool(self.class_word.strip())

    def each(self) -> tuple[SubjectSettings, ...]:
        """A record for each of `subjects`, with its own photos and words; without them, this record alone."""
        return tuple(self._of(one) for one in self.subjects) or (self,)

    def _of(self, one: NamedSubject) -> SubjectSettings:
        words = {name: getattr(one, name) for name in _FROM_THE_FIRST}
        prompt = self.instance_prompt if one.instance_prompt is None else one.instance_prompt
        return self.model_copy(update={**words, "instance_prompt": prompt, "subjects": ()})

    @model_validator(mode="before")
    @classmethod
    def _several_stand_for_one(cls, values: Any) -> Any:
        """Reads the file of `subjects`; the first of them fills in the photos and words of this record."""
        if not isinstance(values, Mapping) or not values.get("subjects"):
            return values
        subjects = list(_subjects_of(values["subjects"]))
        first = next((one for one in subjects if isinstance(one, Mapping)), {})
        filled = {name: first.get(name, "prompt" if name == "captions" else ".") for name in _FROM_THE_FIRST}
        problems = []
        if useless := [name for name in _FROM_THE_FIRST if name in values and str(values[name]) != str(filled[name])]:
            problems.append(
                f"subjects gives the photos and the words of each subject, so {', '.join(useless)} would have no effect; "
                "use only one of them"
            )
        if values.get("mask_folder") is not None:
            problems.append("mask_folder is for one subject; with subjects, name the masks NAME-mask.png beside the photos")
        if problems:
            raise SeveralProblemsError(problems)
        return {**values, **filled, "subjects": subjects}

    @model_validator(mode="after")
    def _subjects_are_apart(self) -> SubjectSettings:
        problems = []
        for one, other in itertools.permutations(self.subjects, 2):
            folder, below = one.photos.absolute(), other.photos.absolute()
            if one.token == other.token:
                problems.append(f"subjects: two subjects have the token {one.token}; give each its own")
            if folder == below:
                problems.append(f"subjects: two subjects have the photos {folder}; give each its own")
            elif below.is_relative_to(folder):
                problems.append(
                    f"subjects: the photos of {other.token} ({below}) lie in the folder of {one.token}; separate them"
                )
        if problems:
            raise SeveralProblemsError(dict.fromkeys(problems))
        return self

    @field_validator("instance_prompt")
    @classmethod
    def _instance_prompt(cls, template: str) -> str:
        return check_template(template, _IN_CAPTIONS)

    @model_validator(mode="after")
    def _options_have_effect(self) -> SubjectSettings:
        if self.captions == "filename" and self.is_changed("instance_prompt"):
            raise ValueError("captions is filename, so instance_prompt would have no effect; use only one of them")
        if not self.shuffle_tags and self.tag_dropout == 0 and self.is_changed("keep_tags"):
            raise ValueError("keep_tags would have no effect without shuffle_tags or tag_dropout; add one of them or omit it")
        return self

    @model_validator(mode="after")
    def _masks_are_no_photos(self) -> SubjectSettings:
        if self.mask_folder is not None and self.mask_folder.absolute().is_relative_to(self.photos.absolute()):
            raise ValueError(
                f"mask_folder is {self.mask_folder}, inside the photo folder {self.photos}, so masks would be used as photos; "
                "move it out of that folder, or name the masks NAME-mask.png beside the photos"
            )
        return self


def _subjects_of(given: Any) -> Iterator[Any]:
    """The subjects in a list, or in the YAML files that are named in their place. Raises WrongFileError for other files."""
    for one in (given,) if isinstance(given, str | Path) else given:
        if isinstance(one, str | Path):
            yield from (read.model_dump() for read in read_records(Path(one), NamedSubject, key="subjects", each="subject"))
        else:
            yield one.model_dump() if isinstance(one, NamedSubject) else one


class ViewSettings(Settings):
    """How photos are cropped and resized to training images."""

    resolution: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    """Width and height of the training images in pixels; default: the model's native size (512 for Stable Diffusion 1)."""

    crop: Crop = "center"
    """Crop a square from the center, at random or around the subject (its mask, else a marked face, else what stands out); crop
    little, in the photo's proportions (bucket); or squash the whole photo into a square as the original did."""

    smallest_side: Annotated[int, Field(ge=16, le=100_000)] | None = None
    """Refuse photos whose shorter side has fewer pixels; default: smaller ones are enlarged, with a warning."""

    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of mirroring a photo; use 0 for faces, text and anything asymmetric."""

    prior_flip_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    """Probability of mirroring a class image; default: same as --flip-probability."""

    background: str = "white"
    """Background color behind transparent photos: a name or #rrggbb."""

    @field_validator("background")
    @classmethod
    def _background(cls, background: str) -> str:
        return check_background(background)

    @property
    def widest(self) -> int:
        """The longer side of a training image relative to its shorter side, at most."""
        return 2 if self.crop == "bucket" else 1


ONLY_TRAINED_ON = (
    *("prior_weight", "prior_images", "also_prior", "prior_latents", "prior_target", "prior_examples", "keep_predictions"),
    *("replay", "replay_images"),
    *_PAIRING,
)
"""Settings of class examples that have no effect where class images are only generated."""


class PriorSettings(Settings):
    """Class images for prior preservation."""

    off_switches = {
        "prior_weight": (
            *("prior_images", "also_prior", "prior_latents", "prior_target", "prior_examples", "prior_prompts"),
            *("keep_predictions", "replay_images", *_MAKING, *_PAIRING),
        ),
        "prior_examples=photos": ("prior_images", "prior_latents", *_MAKING, *_PAIRING),
        "prior_examples=both": _PAIRING,
    }
    replaces = {
        "prior_images": ("prior_latents", *_MAKING),
        "prior_prompts": ("class_prompt",),
        "class_prompt": ("prior_prompts",),
        "prior_examples": ("prior_target",),
    }
    silences = {
        "original_pairing=False": ("photo_repeats", "prior_repeats"),
        "prior_target=noise": ("keep_predictions",),
        "replay=False": ("replay_images",),
    }

    prior_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the prior-preservation loss; 0 trains without class images."""

    prior_images: Path | None = None
    """Folder of class images to use as is; default: the base model generates them."""

    num_prior_images: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Number of class images to generate."""

    class_prompt: Text = "photo of a {class_word}"
    """Prompt to generate class images with; also their caption in training."""

    prior_prompts: str | None = None
    """Several class prompts in place of one: a text file, one per line ("" is the empty one), or varied for a bundled list."""

    prior_target: PriorTarget | None = None
    """Target of class examples: the noise, as in the paper, or the base model's prediction; default: noise for class images,
    prediction where photos are among the examples."""

    prior_examples: Literal["images", "photos", "both"] = "images"
    """Class examples: class images, the photos under class captions (no class images are generated), or both."""

    keep_predictions: bool = True
    """With --prior-target prediction: keep the predictions on disk after training, for other runs on the same examples."""

    also_prior: tuple[Path, ...] = ()
    """Additional class images, e.g. of an earlier subject's class: generated sets, or folders with a .txt for each image."""

    replay: bool = True
    """If the base model was trained on other subjects: generate images of them and mix them in, so that training keeps them."""

    replay_images: Annotated[int, Field(ge=1, le=1_000_000)] = 48
    """Images of each earlier subject."""

    prior_sampler: Sampler = "ddim"
    """Sampler for class images."""

    prior_sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps per class image."""

    prior_guidance_scale: Annotated[float, Field(ge=0)] = 10.0
    """Guidance scale for class images."""

    prior_batch_size: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Class images generated at once; does not affect the result."""

    prior_latents: Literal["sampler", "encoder"] = "sampler"
    """Latents of uncropped class images: kept from the sampler, or re-encoded from the image as the original did."""

    prior_folder: Path | None = None
    """Folder for generated class images; default: 'class-images' next to the run folder."""

    original_pairing: bool = False
    """Draw photos and class images in pairs as the original did; part of a large set is never seen."""

    photo_repeats: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """With --original-pairing: maximum pairs per photo in an epoch."""

    prior_repeats: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """With --original-pairing: maximum pairs per class image in an epoch."""

    @property
    def num_made(self) -> int:
        """Number of class images to generate: 0 without weight, with a folder of them, or with the photos in their place."""
        is_off = self.prior_weight == 0 or self.prior_images is not None or self.prior_examples == "photos"
        return 0 if is_off else self.num_prior_images

    @property
    def keeps_earlier(self) -> bool:
        """Whether images of the base model's earlier subjects are mixed in."""
        return self.replay and self.prior_weight > 0 and not self.original_pairing

    @field_validator("class_prompt")
    @classmethod
    def _class_prompt(cls, template: str) -> str:
        return check_template(template, frozenset({"class_word"}))

    @model_validator(mode="after")
    def _options_have_effect(self) -> PriorSettings:
        if self.prior_images is not None and (making := self.is_changed(*self.replaces["prior_images"])):
            raise ValueError(
                f"prior_images uses a folder as is, so {', '.join(making)} would have no effect; use only one of them"
            )
        if self.prior_target == "noise" and self.prior_examples != "images":
            raise ValueError(
                f"prior_examples is {self.prior_examples}: with prior_target noise the photos would teach the class "
                "to look like the subject; use prior_target prediction"
            )
        if self.prior_target == "noise" and not self.keep_predictions:
            raise ValueError("keep_predictions would have no effect with prior_target noise; omit it")
        if not self.replay and self.is_changed("replay_images"):
            raise ValueError("replay_images would have no effect without replay; use only one of them")
        if self.prior_prompts is not None and self.is_changed("class_prompt"):
            raise ValueError("prior_prompts takes the place of class_prompt; use only one of them")
        if not self.original_pairing and (useless := self.is_changed("photo_repeats", "prior_repeats")):
            raise ValueError(f"{', '.join(useless)} would have no effect without original_pairing; add it or omit them")
        return self
