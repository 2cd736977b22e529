"""`scripts/prune_ckpt.py`: writes a copy of a model file without the data that only training needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dreambooth.cli.terminal import arguments_in_utf8, run_command
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
_SENTENCE = "Write NAME-pruned next to a model file: the weights in float16, without optimizer states and averaged weights."

FLAGS = (
    Flag(("--ckpt",), "The .ckpt or .safetensors file to prune; it is not changed."),
    Flag(("--fp32",), "Write float32 instead of float16.", bare="true", takes_value=False),
    Flag(
        ("--keep_only_ema",),
        "Keep the averaged (EMA) UNet weights instead of the last ones.",
        bare="true",
        takes_value=False,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script with the given arguments (default: those of the process). Returns the exit code."""
    given = arguments_in_utf8() if arguments is None else list(arguments)

    return run_command(lambda: prune(given, ConsoleDisplay()))


def prune(arguments: Sequence[str], display: Display) -> Conversion:
    """Write the model file of a command line as `<stem>-pruned`, in the same file format, and print both sizes.

    Raises SettingsError when the command line is wrong; ModelFileError when the file is no model, has no averaged weights
    although --keep_only_ema is set, or the pruned file already exists.
    """
    given = read_arguments(_COMMAND, _SENTENCE, FLAGS, arguments)
    problems = unknown_options(given.rest, FLAGS)
    if "ckpt" not in given.values:
        problems.append("--ckpt is missing: the model file to prune")
    if problems:
        raise SettingsError(problems, hint=f"See `{_COMMAND} --help`.")
    source = Path(given.values["ckpt"])
    if not source.is_file():
        problem = "is a folder, not a file" if source.is_dir() else "no such file"
        raise ModelFileError(f"{source}: {problem}", hint="Convert a folder with `dreambooth convert FOLDER NAME.ckpt`.")
    destination = source.with_name(f"{source.stem}-pruned{'.safetensors' if source.suffix == '.safetensors' else '.ckpt'}")
    if destination.exists():
        raise ModelFileError(f"{destination}: already exists", hint="Remove or rename it, then prune again.")
    return _convert(
        source, destination, has_fp32="fp32" in given.values, is_average="keep_only_ema" in given.values, display=display
    )


def _convert(source: Path, destination: Path, *, has_fp32: bool, is_average: bool, display: Display) -> Conversion:
    from dreambooth.recipes.convert import convert  # imports torch, which is slow; reports wrong flags first
    from dreambooth.weights.read import model_name, read_model

    model = model_name(source)
    if is_average and read_model(model, weights="ema").report.unet_weights != "ema":
        raise ModelFileError(
            f"{source}: has no averaged weights (model_ema.*), so --keep_only_ema would keep nothing",
            hint="Omit --keep_only_ema.",
        )
    values = {
        "source": model,
        "destination": destination,
        "dtype": "float32" if has_fp32 else "float16",
        "weights": "ema" if is_average else "raw",
    }
    conversion = convert(parse_settings(ConvertSettings, values, where="command line"), display)
    if conversion.report.unet_weights == "raw":
        display.say("Averaged weights were dropped; --keep_only_ema keeps them instead of the last weights.")
    before = source.stat().st_size
    display.say(f"{source.name}: {before / 1e9:.2f} GB; {destination.name}: {conversion.num_bytes / 1e9:.2f} GB.")
    return conversion
