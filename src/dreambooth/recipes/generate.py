"""`dreambooth generate`: pictures of prompts, made by a base model or by what training wrote."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.errors import SettingsError
from dreambooth.recipes.display import Display
from dreambooth.recipes.settings import GenerateSettings
from dreambooth.runtime.device import choose_device, describe_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.sampling.batches import make_pictures
from dreambooth.sampling.images import grid_rows, save_picture, write_contact_sheet
from dreambooth.sampling.metadata import picture_text
from dreambooth.sampling.names import file_stem, folder_problems, next_number, reserved
from dreambooth.sampling.placing import picture_dtype, place
from dreambooth.sampling.prompts import cut_words, read_prompts
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import check_size
from dreambooth.sampling.settings import SampleSettings
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model

__all__ = ["FinishedPicture", "GenerateResult", "generate", "made_pictures"]

_WEIGHTS = {"ema": ", averaged weights (ema),", "raw": ", last weights (raw),", "only": ""}


@dataclass(frozen=True)
class FinishedPicture:
    """A picture with everything that its file is to hold: pixels in [0, 1], (3, H, W), and the text of a PNG."""

    picture: Picture
    pixels_CHW: Tensor
    text: Mapping[str, str]


@dataclass(frozen=True)
class GenerateResult:
    """What was written."""

    files: tuple[Path, ...]
    """One PNG a picture: all of the first prompt, then all of the second, ..."""
    grids: tuple[Path, ...]


def generate(settings: GenerateSettings, display: Display) -> GenerateResult:
    """Make `num_images` pictures of every prompt.

    Raises SettingsError, before the model is built, when there is no prompt, a file cannot be read, the folder cannot be
    written or the size is impossible; ModelFileError when the model cannot be read or gives numbers that are not finite.
    """
    asked = settings.sample
    prompts, device = _check(asked)
    with Interrupts(lambda: f"Stopped. The pictures made so far are in {asked.output}."):
        base = read_model(settings.base.model, config=settings.base.config, weights=settings.base.weights)
        pictures = [Picture(prompt, index) for prompt in prompts for index in range(asked.num_images)]
        first, files = next_number(asked.output), list[Path]()
        with closing(made_pictures(settings, base, pictures, display, device=device)) as made:
            for one in made:
                with reserved(asked.output, first + len(files), file_stem(one.picture.prompt)) as path:
                    save_picture(path, one.pixels_CHW, one.text)
                files.append(path)
        grids = _write_grids(asked, prompts, files, first)
    names = files[0].name if len(files) == 1 else f"{files[0].name} to {files[-1].name}"
    display.say(f"Wrote into {asked.output}: {names}")
    return GenerateResult(tuple(files), grids)


def made_pictures(
    settings: GenerateSettings, base: ModelWeights, pictures: Sequence[Picture], display: Display, *, device: torch.device
) -> Generator[FinishedPicture, None, None]:
    """Build a model that was read, bring it to `device` and make pictures with it, one after the other, showing progress.

    What the settings say of prompts and files is left to the caller, who closes the iterator: an open one goes on showing.
    Raises SettingsError, before the model is built, when the size is impossible.
    """
    asked = settings.sample
    options = _options(asked, base)
    check_size(base.family.downsampling, height=options.height, width=options.width)
    _warn_of_cut_words(dict.fromkeys((*(picture.prompt for picture in pictures), options.negative_prompt)), base, display)
    dtype = picture_dtype(asked.precision, device)
    kind = _WEIGHTS[base.report.unet_weights]
    display.say(f"{base.report.title} from {settings.base.model}{kind} on {describe_device(device)} in {_name_of(dtype)}")
    components = place(base.build(dtype=dtype), device)
    with display.progress("pictures", len(pictures) * asked.steps, "steps") as advance:
        made = make_pictures(
            components, pictures, options, batch_size=asked.batch_size, device=device, dtype=dtype, advance=advance
        )
        for one in made:
            text = picture_text(one.picture, options, model_digest=base.digest(), device=device, dtype=dtype)
            yield FinishedPicture(one.picture, one.pixels_CHW, text)


def _check(asked: SampleSettings) -> tuple[tuple[str, ...], torch.device]:
    """The prompts and the device. Raises one SettingsError with everything that is wrong."""
    prompts, device, problems = asked.prompt, torch.device("cpu"), list[str]()
    try:
        prompts = prompts if asked.prompts_file is None else (*prompts, *read_prompts(asked.prompts_file))
    except SettingsError as error:
        problems.extend(error.problems)
    else:
        problems.extend([] if prompts else ["there is no prompt, so there is nothing to show"])
    try:
        device = choose_device(asked.device)
    except SettingsError as error:
        problems.extend(error.problems)
    problems.extend(folder_problems(asked.output, name="output"))
    if problems:
        hint = None if prompts else 'Give one, such as --prompt "photo of a sks dog", or a file of them with --prompts-file.'
        raise SettingsError(problems, hint=hint)
    return prompts, device


def _options(asked: SampleSettings, base: ModelWeights) -> SamplingOptions:
    return SamplingOptions(
        sampler=asked.sampler,
        steps=asked.steps,
        guidance_scale=asked.guidance_scale,
        height=base.family.resolution if asked.height is None else asked.height,
        width=base.family.resolution if asked.width is None else asked.width,
        seed=asked.seed,
        eta=asked.eta,
        negative_prompt=asked.negative_prompt,
    )


def _warn_of_cut_words(prompts: Iterable[str], base: ModelWeights, display: Display) -> None:
    tokenizer = base.family.load_tokenizer()
    for prompt in prompts:
        if cut := cut_words(tokenizer, prompt):
            shown = cut if len(cut) <= 200 else f"{cut[:200]}..."
            display.warn(f'"{prompt[:40]}..." is longer than the 77 tokens that the model reads; it will not see: "{shown}"')


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _write_grids(asked: SampleSettings, prompts: Sequence[str], files: Sequence[Path], first: int) -> tuple[Path, ...]:
    """One grid a prompt, numbered like its first picture; none when it would hold one picture."""
    grids: list[Path] = []
    if asked.grid and asked.num_images > 1:
        for position, prompt in enumerate(prompts):
            start = position * asked.num_images
            with reserved(asked.output, first + start, f"grid-{file_stem(prompt)}") as path:
                grids.extend(write_contact_sheet(path, grid_rows(files[start : start + asked.num_images])))
    return tuple(grids)
