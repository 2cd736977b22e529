"""Images in the batches of the original's txt2img, made as `dreambooth generate` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dreambooth.compat.picture_files import PictureFiles
from dreambooth.compat.settings import OriginalPictures
from dreambooth.display import Display
from dreambooth.errors import SettingsError
from dreambooth.families.family import Family
from dreambooth.pictures.maker import made_pictures
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.sampling.records import Picture
from dreambooth.weights.read import read_base

__all__ = ["WrittenPictures", "make_original_pictures"]


@dataclass(frozen=True)
class WrittenPictures:
    """The files that were written: each image by its prompt and, unless skipped, by its number."""

    by_prompt: tuple[Path, ...]
    by_number: tuple[Path, ...]
    grids: tuple[Path, ...]


def make_original_pictures(asked: OriginalPictures, prompts: Sequence[str], display: Display) -> WrittenPictures:
    """Make one image per prompt, `n_iter` times, and a grid of all images.

    Raises SettingsError, before the model is built, when the size, `C` or `f` does not fit the model; ModelFileError when the
    model cannot be read or produces numbers that are not finite.
    """
    output, prompts_file = asked.sample.output, asked.sample.prompts_file
    files = PictureFiles(output, is_numbered=not asked.skip_save)
    with Interrupts(lambda: f"Stopped. The images made so far are in {output}."):
        base = read_base(asked.base)
        if not base.report.is_prediction_usual:
            display.say(base.report.prediction)
        for warning in base.report.all_warnings:
            display.warn(warning)
        _check_latents(asked, base.family)
        pictures = [
            Picture(prompt, iteration * len(prompts) + number, start=number if asked.fixed_code else None)
            for iteration in range(asked.n_iter)
            for number, prompt in enumerate(prompts)
        ]
        device = choose_device(None)
        with closing(made_pictures(asked.sample, base, pictures, display, name=asked.base.model, device=device)) as made:
            for picture in made:
                files.save(picture)
        title = prompts[0] if prompts_file is None else prompts_file.stem
        columns = asked.n_rows or asked.sample.batch_size
        grids = () if asked.skip_grid else files.write_grid(title, columns=columns)
    written = WrittenPictures(tuple(files.by_prompt), tuple(files.by_number), grids)
    _say_where(output, written, display)
    return written


def _check_latents(asked: OriginalPictures, family: Family) -> None:
    expected = (
        ("--C", asked.C, family.latent_channels, "latent channels"),
        ("--f", asked.f, family.downsampling, "pixels per latent"),
    )
    problems = [
        f"{flag} is {given}: this model has {actual} {what}"
        for flag, given, actual, what in expected
        if given not in (None, actual)
    ]
    if problems:
        raise SettingsError(problems, hint="Omit it; the value comes from the model.")


def _say_where(output: Path, written: WrittenPictures, display: Display) -> None:
    display.say(f"Images in {output}:")
    display.say(f"  by prompt: {_first_to_last(written.by_prompt)}")
    if written.by_number:
        display.say(f"  by number: {_first_to_last(written.by_number)} in {output / 'samples'}")
    if written.grids:
        display.say(f"  grid: {_first_to_last(written.grids)}")


def _first_to_last(files: Sequence[Path]) -> str:
    return files[0].name if len(files) == 1 else f"{files[0].name} to {files[-1].name}"
