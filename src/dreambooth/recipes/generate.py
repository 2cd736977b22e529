"""`dreambooth generate`: images for prompts, from a base model or a trained one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from dreambooth.display import Display
from dreambooth.errors import SettingsError
from dreambooth.evaluation.blended import model_with_files
from dreambooth.files import remove_stale
from dreambooth.pages.images import grid_rows, save_picture, write_contact_sheet
from dreambooth.pictures.maker import made_pictures
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.sampling.names import file_stem, folder_problems, next_number, reserved
from dreambooth.sampling.prompts import read_prompts
from dreambooth.sampling.records import Picture
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.verbs import GenerateSettings
from dreambooth.weights.embedding_apply import described_words, silent_words
from dreambooth.weights.lora_apply import applied_loras
from dreambooth.weights.own_word import missing_words

__all__ = ["GenerateResult", "check_request", "generate", "pictures_of"]


@dataclass(frozen=True)
class GenerateResult:
    """The files that were written."""

    files: tuple[Path, ...]
    """One PNG per image: all of the first prompt, then all of the second, ..."""
    grids: tuple[Path, ...]


def generate(settings: GenerateSettings, display: Display) -> GenerateResult:
    """Generate `num_images` images for every prompt.

    Raises SettingsError, before the model is built, when there is no prompt, a file cannot be read, the folder cannot be
    written or the size is impossible; ModelFileError when the model cannot be read or returns values that are not finite.
    """
    asked = settings.sample
    prompts, device = check_request(asked)
    with Interrupts(lambda: f"Stopped. The images generated so far are in {asked.output}."):
        base = model_with_files(settings.base, settings.blend, settings.loras, settings.embeddings)
        if not base.report.is_prediction_usual:
            display.say(base.report.prediction)
        for warning in (*base.report.all_warnings, *silent_words(base, prompts), *missing_words(base)):
            display.warn(warning)
        for line in (*applied_loras(base), *described_words(base)):
            display.say(line)
        pictures = pictures_of(prompts, asked.num_images)
        remove_stale(asked.output)
        first, files = next_number(asked.output), list[Path]()
        with closing(made_pictures(asked, base, pictures, display, name=settings.base.model, device=device)) as made:
            for one in made:
                with reserved(asked.output, first + len(files), file_stem(one.picture.prompt)) as path:
                    save_picture(path, one.pixels_CHW, one.text)
                files.append(path)
        grids = _write_grids(asked, prompts, files, first)
    names = files[0].name if len(files) == 1 else f"{files[0].name} to {files[-1].name}"
    display.say(f"Wrote to {asked.output}: {names}")
    return GenerateResult(tuple(files), grids)


def pictures_of(prompts: Sequence[str], num_images: int) -> list[Picture]:
    """All images of the first prompt, then all of the second, and so on."""
    return [Picture(prompt, index) for prompt in prompts for index in range(num_images)]


def check_request(asked: SampleSettings, *, writes: bool = True) -> tuple[tuple[str, ...], torch.device]:
    """The prompts and the device. Raises one SettingsError with every problem.

    If it `writes` files, the output folder is checked and created.
    """
    prompts, device, problems = asked.prompt, torch.device("cpu"), list[str]()
    try:
        prompts = prompts if asked.prompts_file is None else (*prompts, *read_prompts(asked.prompts_file))
    except SettingsError as error:
        problems.extend(error.problems)
    else:
        problems.extend([] if prompts else ["no prompt was given"])
    try:
        device = choose_device(asked.device)
    except SettingsError as error:
        problems.extend(error.problems)
    problems.extend(folder_problems(asked.output, name="output") if writes else [])
    if problems:
        hint = None if prompts else 'Give one, such as --prompt "photo of a sks dog", or a file of them with --prompts-file.'
        raise SettingsError(problems, hint=hint)
    return prompts, device


def _write_grids(asked: SampleSettings, prompts: Sequence[str], files: Sequence[Path], first: int) -> tuple[Path, ...]:
    """One grid per prompt, numbered like its first image; none if it would hold a single image."""
    grids: list[Path] = []
    if asked.grid and asked.num_images > 1:
        for position, prompt in enumerate(prompts):
            start = position * asked.num_images
            with reserved(asked.output, first + start, f"grid-{file_stem(prompt)}") as path:
                grids.extend(write_contact_sheet(path, grid_rows(files[start : start + asked.num_images])))
    return tuple(grids)
