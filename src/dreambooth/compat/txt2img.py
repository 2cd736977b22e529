"""`scripts/stable_txt2img.py`: the original's flags for pictures, translated into settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dreambooth.cli.terminal import hush_libraries, run_command
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
_SENTENCE = "Make pictures of a prompt, or of a file of prompts, with the flags and the files of the original program."


def _switch(name: str, sentence: str) -> Flag:
    return Flag((name,), sentence, bare="true", takes_value=False)


FLAGS = (
    Flag(("--prompt",), "What to show. Default: a painting of a virus monster playing guitar."),
    Flag(("--outdir",), "Folder for the pictures. Default: outputs/txt2img-samples."),
    _switch("--skip_grid", "Write no grid."),
    _switch("--skip_save", "Keep no pictures by number in the folder samples."),
    Flag(("--ddim_steps",), "Denoising steps, of PLMS too. Default: 50."),
    _switch("--plms", "Sample with PLMS instead of DDIM."),
    _switch("--laion400m", "Refused: it never worked in the original program."),
    _switch("--fixed_code", "Start every iteration from the same noise."),
    Flag(("--ddim_eta",), "Fresh noise in DDIM, from 0 to 1. Default: 0."),
    Flag(("--n_iter",), "How often the batch, or the file of prompts, is made. Default: 2."),
    Flag(("--H",), "Height in pixels. Default: the model's own size, 512 for Stable Diffusion 1."),
    Flag(("--W",), "Width in pixels. Default: the model's own size, 512 for Stable Diffusion 1."),
    Flag(("--C",), "Channels of latents; must be those of the model, 4 for Stable Diffusion 1."),
    Flag(("--f",), "Pixels that one latent stands for; must be those of the model, 8 for Stable Diffusion 1."),
    Flag(("--n_samples",), "Pictures made at once. Default: 3."),
    Flag(("--n_rows",), "Pictures in a row of the grid. Default: as many as --n_samples."),
    Flag(("--scale",), "How strongly the prompt pulls; 1 is no guidance. Default: 7.5."),
    Flag(("--from-file",), "A text file with one prompt a line, instead of --prompt."),
    Flag(("--config",), "The model's YAML; it must agree with the tensors, and chooses averaged weights by use_ema."),
    Flag(
        ("--ckpt",),
        "The model: a .ckpt or .safetensors file, a run folder, a diffusers folder, a hub id (owner/name), or toybox. "
        "Default: models/ldm/stable-diffusion-v1/model.ckpt.",
    ),
    Flag(("--seed",), "Picture k starts from noise made of this number and k alone. Default: 42."),
    Flag(("--precision",), "autocast (float16 on a GPU, float32 on the CPU) or full (float32). Default: autocast."),
    Flag(("--embedding_path",), "Has no effect, as it had none in the original program."),
)

_DEFAULTS = {
    "prompt": "a painting of a virus monster playing guitar",
    "outdir": "outputs/txt2img-samples",
    "n_samples": "3",
    "ckpt": "models/ldm/stable-diffusion-v1/model.ckpt",
}
"""The original's defaults where those of the settings are others."""

_PATHS = {
    "prompt": "sample.prompt",
    "from-file": "sample.prompts_file",
    "outdir": "sample.output",
    "ddim_steps": "sample.steps",
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
"""The setting that a flag gives its value to."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script with the arguments (those of the process when None). Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> None:
        hush_libraries()
        txt2img(given, ConsoleDisplay())

    return run_command(work)


def txt2img(arguments: Sequence[str], display: Display) -> WrittenPictures:
    """Make the pictures that a command line of the original asks for.

    Raises SettingsError with every mistake of the command line before the model is read; otherwise as `generate` does.
    """
    given = read_arguments(_COMMAND, _SENTENCE, FLAGS, arguments)
    asked, prompts = pictures_asked_for(given)
    if "embedding_path" in given.values:
        display.say("--embedding_path has no effect, as it had none in the original program.")
    from dreambooth.compat.original_pictures import make_original_pictures  # loads torch, which a wrong flag does not need

    return make_original_pictures(asked, prompts, display)


def pictures_asked_for(given: Given) -> tuple[OriginalPictures, tuple[str, ...]]:
    """The settings that the flags stand for, and the prompts of one iteration, one for each picture.

    Raises SettingsError with everything that is wrong, also with the files and the folder that were named.
    """
    flags = {**_DEFAULTS, **given.values}
    problems = [*unknown_options(given.rest, FLAGS), *_contradictions(given)]
    lines, asked = tuple[str, ...](), None
    if "from-file" in flags:
        with _adding_to(problems):
            lines = read_prompts(Path(flags["from-file"]), name="--from-file")
    weights = "raw"  # what the original's loader took of a file with both sets, whatever its averages
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
            "leave it out and give a Stable Diffusion 1 model with --ckpt"
        )
    if "from-file" in given.values and "prompt" in given.values:
        yield "--from-file gives the prompts, so --prompt would have no effect; leave out one or the other"


def _uses_averages(config: Path) -> bool:
    """Whether a model's YAML asks for averaged weights, as the original did when an entry was missing.

    Whether the YAML is one of a model is checked when the model is there.
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
