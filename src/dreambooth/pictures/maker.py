"""Generates images with a model that was read: builds it, moves it to the device, and samples one image after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dreambooth.display import Display
from dreambooth.errors import SettingsError
from dreambooth.families.components import Components
from dreambooth.runtime.device import describe_device
from dreambooth.sampling.batches import make_pictures
from dreambooth.sampling.metadata import picture_text
from dreambooth.sampling.placing import picture_dtype, place
from dreambooth.sampling.prompts import cut_warnings, syntax_warnings
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import check_size
from dreambooth.sampling.settings import SampleSettings
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["BuiltModel", "FinishedPicture", "build_model", "made_pictures", "pictures_with"]

_WEIGHTS = {"ema": " (EMA weights)", "raw": " (raw weights)", "only": ""}


@dataclass(frozen=True)
class FinishedPicture:
    """An image with everything for its file: pixels in [0, 1], (3, H, W), and the text of the PNG."""

    picture: Picture
    pixels_CHW: Tensor
    text: Mapping[str, str]


@dataclass(frozen=True)
class BuiltModel:
    """A model on its device, ready to generate images."""

    base: ModelWeights
    components: Components
    device: torch.device
    dtype: torch.dtype


def build_model(sample: SampleSettings, base: ModelWeights, display: Display, *, name: str, device: torch.device) -> BuiltModel:
    """Build a model that was read and move it to `device`. `name` is its name in messages."""
    dtype = picture_dtype(sample.precision, device)
    kind = _WEIGHTS[base.report.unet_weights]
    display.say(f"{base.report.title} from {name}{kind} on {describe_device(device)} in {_name_of(dtype)}")
    return BuiltModel(base, place(base.build(dtype=dtype), device), device, dtype)


def made_pictures(
    sample: SampleSettings,
    base: ModelWeights,
    pictures: Sequence[Picture],
    display: Display,
    *,
    name: str,
    device: torch.device,
) -> Generator[FinishedPicture, None, None]:
    """Build a model that was read, move it to `device` and generate images with it, one after the other, showing progress.

    `name` is the model's name in messages. The settings' prompts and files are left to the caller, who must close the
    iterator: an open one keeps the progress on screen.
    Raises SettingsError, before the model is built, when the size is impossible.
    """
    return pictures_with(lambda: build_model(sample, base, display, name=name, device=device), sample, base, pictures, display)


def pictures_with(
    built: Callable[[], BuiltModel], sample: SampleSettings, base: ModelWeights, pictures: Sequence[Picture], display: Display
) -> Generator[FinishedPicture, None, None]:
    """`made_pictures` with the model that `built` returns; it is called only after the size was checked."""
    options = _options(sample, base)
    check_size(base.family.downsampling, height=options.height, width=options.width)
    if options.encode_empty_prompt and not base.family.zeroes_empty_prompt:
        raise SettingsError(f"encode_empty_prompt: no effect, because {base.family.title} always encodes it; remove")
    texts = (*(one.prompt for one in pictures), options.negative_prompt)
    for warning in (*syntax_warnings(texts), *cut_warnings(base.tokenizer, texts)):
        display.warn(warning)
    model = built()
    with display.progress("images", len(pictures), "images", parts=sample.sampling_steps) as advance:
        made = make_pictures(
            model.components,
            pictures,
            options,
            batch_size=sample.batch_size,
            device=model.device,
            dtype=model.dtype,
            advance=advance,
        )
        for one in made:
            text = picture_text(one.picture, options, model_digest=base.digest(), device=model.device, dtype=model.dtype)
            yield FinishedPicture(one.picture, one.pixels_CHW, text)


def _options(asked: SampleSettings, base: ModelWeights) -> SamplingOptions:
    return SamplingOptions(
        sampler=asked.sampler,
        steps=asked.sampling_steps,
        guidance_scale=asked.guidance_scale,
        height=base.family.resolution if asked.height is None else asked.height,
        width=base.family.resolution if asked.width is None else asked.width,
        seed=asked.seed,
        eta=asked.eta,
        negative_prompt=asked.negative_prompt,
        encode_empty_prompt=asked.encode_empty_prompt,
    )


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
