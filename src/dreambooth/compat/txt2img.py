"""`scripts/stable_txt2img.py`: translates the original's flags for images into settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dreambooth.cli.terminal import arguments_in_utf8, run_command
from dreambooth.compat.arguments import Flag, Given, read_arguments, unknown_options
from dreambooth.compat.settings import OriginalPictures
from dreambooth.config import parse_settings, read_yaml
from dreambooth.display import Display
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import SettingsError
from dreambooth.sampling.names import folder_problems
from dreambooth.sampling.prompts import read_prompts
from dreambooth.schema.layers import nested

if TYPE_CHECKING:
    from dreambooth.compat.original_pictures import WrittenPictures

__all__ = ["FLAGS", "main", "pictures_asked_for", "txt2img"]

_COMMAND = "python scripts/stable_txt2img.py"
_SENTENCE = "Make images of a prompt, or of a file of prompts, with the flags and files of the original program."


def _switch(name: str, sentence: str) -> Flag:
    return Flag((name,), sentence, bare="true", takes_value=False)


FLAGS = (
    Flag(("--prompt",), "The prompt. Default: a painting of a virus monster playing guitar."),
    Flag(("--outdir",), "Folder for the images. Default: outputs/txt2img-samples."),
    _switch("--skip_grid", "Do not write a grid."),
    _switch("--skip_save", "Do not write numbered images into the folder samples."),
    Flag(("--ddim_steps",), "Denoising steps, also for PLMS. Default: 50."),
    _switch("--plms", "Sample with PLMS instead of DDIM."),
    _switch("--laion400m", "Not supported; it never worked in the original program."),
    _switch("--fixed_code", "Start every iteration from the same noise."),
    Flag(("--ddim_eta",), "Amount of fresh noise in DDIM (eta), from 0 to 1. Default: 0."),
    Flag(("--n_iter",), "How many times to make the batch, or the file of prompts. Default: 2."),
    Flag(("--H",), "Height in pixels. Default: the model's own size, 512 for Stable Diffusion 1."),
    Flag(("--W",), "Width in pixels. Default: the model's own size, 512 for Stable Diffusion 1."),
    Flag(("--C",), "Number of latent channels; must match the model: 4 for Stable Diffusion 1."),
    Flag(("--f",), "Downsampling factor; must match the model: 8 for Stable Diffusion 1."),
    Flag(("--n_samples",), "Batch size: images made at once. Default: 3."),
    Flag(("--n_rows",), "Images per row of the grid. Default: the value of --n_samples."),
    Flag(("--scale",), "Guidance scale; 1 means no guidance. Default: 7.5."),
    Flag(("--from-file",), "A text file with one prompt per line, instead of --prompt."),
    Flag(("--config",), "The model's YAML; it must match the tensors, and its use_ema selects averaged weights."),
    Flag(
        ("--ckpt",),
        "The model: a .ckpt or .safetensors file, a run folder, a diffusers folder, a hub id (owner/name), or toybox. "
        "Default: models/ldm/stable-diffusion-v1/model.ckpt.",
    ),
    Flag(("--seed",), "Random seed; the noise of image k depends only on the seed and k. Default: 42."),
    Flag(("--precision",), "autocast (float16 on a GPU, float32 on the CPU) or full (float32). Default: autocast."),
    Flag(("--embedding_path",), "Ignored; it had no effect in the original program either."),
)

_DEFAULTS = {
    "prompt": "a painting of a virus monster playing guitar",
    "outdir": "outputs/txt2img-samples",
    "n_samples": "3",
    "ckpt": "models/ldm/stable-diffusion-v1/model.ckpt",
}
"""The original's defaults where they differ from those of the settings."""

_PATHS = {
    "prompt": "sample.prompt",
    "from-file": "sample.prompts_file",
    "outdir": "sample.output",
    "ddim_steps": "sample.sampling_steps",
    "ddim_eta": "sample.eta",
    "H": "sample.height",
    "W": "sample.width",
    "n_samples": "sample.batch_size",
    "scale": "sample.guidance_scale",
    "seed": "sample.seed",
    "config": "base.config",
    "ckpt": "base.model",
    **{name: name for name in ("skip_grid", "skip_save", "fixed_code", "n_iter", "n_rows", "C", "f", "precision")},
}
"""Flag to the setting that it sets."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script with the given arguments (default: those of the process). Returns the exit code."""
    given = arguments_in_utf8() if arguments is None else list(arguments)

    return run_command(lambda: txt2img(given, ConsoleDisplay()))


def txt2img(arguments: Sequence[str], display: Display) -> WrittenPictures:
    """Make the images requested by a command line of the original.

    Raises SettingsError with all problems of the command line before the model is read; otherwise what `generate` raises.
    """
    given = read_arguments(_COMMAND, _SENTENCE, FLAGS, arguments)
    asked, prompts = pictures_asked_for(given)
    if "embedding_path" in given.values:
        display.say("--embedding_path is ignored; it had no effect in the original program either.")
    from dreambooth.compat.original_pictures import (
        make_original_pictures,
    )  # imports torch, which is slow; reports wrong flags first

    return make_original_pictures(asked, prompts, display)


def pictures_asked_for(given: Given) -> tuple[OriginalPictures, tuple[str, ...]]:
    """The settings of a command line, and the prompts of one iteration, one per image.

    Raises SettingsError with all problems, including those of the given files and folder.
    """
    flags = {**_DEFAULTS, **given.values}
    problems = [*unknown_options(given.rest, FLAGS), *_contradictions(given)]
    lines, asked = tuple[str, ...](), None
    if "from-file" in flags:
        with _adding_to(problems):
            lines = read_prompts(Path(flags["from-file"]), name="--from-file")
    weights = "raw"  # the original's loader ignored the averaged weights of a file with both sets
    if "config" in flags:
        with _adding_to(problems):
            weights = "ema" if _uses_averages(Path(flags["config"])) else "raw"
    problems += folder_problems(Path(flags["outdir"]), name="--outdir")
    values = nested({_PATHS[name]: text for name, text in flags.items() if name in _PATHS})
    values["base"]["weights"] = weights
    values["sample"] |= {"prompt": () if "from-file" in flags else (flags["prompt"],)}
    values["sample"] |= {"sampler": "plms"} if "plms" in flags else {}
    values["sample"] |= {"precision": "fp32"} if flags.get("precision") == "full" else {}
    with _adding_to(problems):
        asked = parse_settings(
            OriginalPictures, values, where="command line", names={path: f"--{name}" for name, path in _PATHS.items()}
        )
    if problems or asked is None:
        raise SettingsError(problems, hint=f"See `{_COMMAND} --help`.")
    return asked, lines or asked.sample.prompt * asked.sample.batch_size


def _contradictions(given: Given) -> Iterator[str]:
    if "laion400m" in given.values:
        yield (
            "--laion400m never worked in the original program, which could not load its own settings for that model; "
            "omit it and use a Stable Diffusion 1 model with --ckpt"
        )
    if "from-file" in given.values and "prompt" in given.values:
        yield "--from-file replaces --prompt, which would have no effect; use only one of them"


def _uses_averages(config: Path) -> bool:
    """Whether a model's YAML selects averaged weights; if the entry is missing, they are selected, as in the original.

    Whether the YAML describes a model is checked later, together with the model.
    """
    model = read_yaml(config).get("model")
    parameters = model.get("params") if isinstance(model, Mapping) else None
    return bool(parameters.get("use_ema", True)) if isinstance(parameters, Mapping) else False


@contextmanager
def _adding_to(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        problems += error.problems
