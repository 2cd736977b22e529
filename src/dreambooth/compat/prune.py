"""`scripts/prune_ckpt.py`: a model file without what only training needs, written beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dreambooth.cli.terminal import hush_libraries, run_command
from dreambooth.compat.arguments import Flag, read_arguments, unknown_options
from dreambooth.config import parse_settings
from dreambooth.display import Display
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.schema.verbs import ConvertSettings

if TYPE_CHECKING:
    from dreambooth.recipes.convert import Conversion

__all__ = ["FLAGS", "main", "prune"]

_COMMAND = "python scripts/prune_ckpt.py"
_SENTENCE = "Write NAME-pruned beside a model file: the weights in float16, without optimiser states and averages."

FLAGS = (
    Flag(("--ckpt",), "The .ckpt or .safetensors file to prune; it is left as it is."),
    Flag(("--fp32",), "Write float32 instead of float16.", bare="true", takes_value=False),
    Flag(
        ("--keep_only_ema",),
        "Take the running average of the UNet's weights instead of the last ones.",
        bare="true",
        takes_value=False,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script with the arguments (those of the process when None). Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> None:
        hush_libraries()
        prune(given, ConsoleDisplay())

    return run_command(work)


def prune(arguments: Sequence[str], display: Display) -> Conversion:
    """Write the model file that a command line names as `<stem>-pruned`, in its own form, and say both sizes.

    Raises SettingsError when the command line is wrong; ModelFileError when the file is no model, holds no averages where
    they are asked for, or the pruned one is there already.
    """
    given = read_arguments(_COMMAND, _SENTENCE, FLAGS, arguments)
    problems = unknown_options(given.rest, FLAGS)
    if "ckpt" not in given.values:
        problems.append("--ckpt is missing: the model file to prune")
    if problems:
        raise SettingsError(problems, hint=f"See `{_COMMAND} --help`.")
    source = Path(given.values["ckpt"])
    if not source.is_file():
        found = "a folder, not a file" if source.is_dir() else "no such file"
        raise ModelFileError(f"{source}: {found}", hint="A folder is rewritten with `dreambooth convert FOLDER NAME.ckpt`.")
    destination = source.with_name(f"{source.stem}-pruned{'.safetensors' if source.suffix == '.safetensors' else '.ckpt'}")
    if destination.exists():
        raise ModelFileError(f"{destination}: is there already", hint="Remove it, or give it another name, and prune again.")
    return _convert(
        source, destination, has_fp32="fp32" in given.values, is_average="keep_only_ema" in given.values, display=display
    )


def _convert(source: Path, destination: Path, *, has_fp32: bool, is_average: bool, display: Display) -> Conversion:
    from dreambooth.recipes.convert import convert  # loads torch, which a wrong flag does not need
    from dreambooth.weights.read import model_name, read_model

    model = model_name(source)
    if is_average and read_model(model).report.unet_weights != "ema":
        raise ModelFileError(
            f"{source}: holds no averaged weights (model_ema.*), so there is nothing that --keep_only_ema could keep",
            hint="Leave out --keep_only_ema.",
        )
    values = {
        "source": model,
        "destination": destination,
        "dtype": "float32" if has_fp32 else "float16",
        "weights": "ema" if is_average else "raw",
    }
    done = convert(parse_settings(ConvertSettings, values, where="command line"), display)
    if done.report.unet_weights == "raw":
        display.say("Averages are left out; --keep_only_ema takes them instead of the last weights.")
    before = source.stat().st_size
    display.say(f"{source.name} has {before / 1e9:.2f} GB, {destination.name} {done.num_bytes / 1e9:.2f} GB.")
    return done
