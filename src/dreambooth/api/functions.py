"""The commands as functions. Settings are keyword arguments with the names of the flags; nothing is printed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreambooth.api.keywords import Listener, display_for, given_only, settings_from, without_noise
from dreambooth.api.run import Picture, Run, make_pictures
from dreambooth.cli.verbs import VERBS

if TYPE_CHECKING:
    from dreambooth.recipes.convert import Conversion
    from dreambooth.recipes.evaluate import EvaluateResult
    from dreambooth.recipes.inspect import InspectResult
    from dreambooth.recipes.plan import PlanResult
    from dreambooth.recipes.prior import PriorResult

__all__ = ["convert", "evaluate", "generate", "inspect", "plan", "prior", "train"]


def train(
    *,
    model: str | Path | None = None,
    photos: str | Path | None = None,
    class_word: str | None = None,
    preset: str | Path | None = None,
    on_event: Listener | None = None,
    **settings: object,
) -> Run:
    """Teach `model` the subject in the folder `photos`; returns the finished run.

    `model` is a file, a diffusers folder, a run folder, a hub id or "toybox"; `class_word` names the subject's class, such as
    "dog". `preset` is a built-in preset or a YAML file, such as a run's config.yaml; other arguments override it. `settings`
    are those of `dreambooth train`: steps, learning_rate, output (runs/dreambooth), ... `on_event` is called with each event
    during training.

    Raises a DreamboothError with all problems before any training, and Interrupted on Ctrl-C; the run is then saved and can
    be resumed: `dreambooth.open(output).resume()`.
    """
    given = {**given_only(model=model, photos=photos, class_word=class_word), **settings}
    result = _call("train", settings_from("train", given, preset=preset), on_event)
    return Run(result.run)


def generate(
    prompts: str | Sequence[str],
    *,
    model: str | Path,
    output: str | Path | None = None,
    on_event: Listener | None = None,
    **settings: object,
) -> list[Picture]:
    """Generate images with any model: `num_images` (4) of the first prompt, then of the second, and so on.

    The model is rebuilt in each call; a Run keeps it. Files are written only if `output` is given. `settings` are those of
    `dreambooth generate`. Raises SettingsError for wrong settings, ModelFileError if the model cannot be read, and
    Interrupted on Ctrl-C.
    """
    given = {"model": model, **given_only(output=output), **settings}
    requested = settings_from("generate", given, fixed={"prompt": prompts}, hidden=("prompts_file", "grid"))
    return make_pictures(requested, on_event=on_event, writes=output is not None)


def evaluate(*, model: str | Path, on_event: Listener | None = None, **settings: object) -> EvaluateResult:
    """Evaluate a model, and write scores and a report. `settings` are those of `dreambooth evaluate`.

    Raises a DreamboothError with every problem before any image is generated.
    """
    result: EvaluateResult = _call("evaluate", settings_from("evaluate", {"model": model, **settings}), on_event)
    return result


def prior(
    *,
    model: str | Path | None = None,
    class_word: str | None = None,
    preset: str | Path | None = None,
    on_event: Listener | None = None,
    **settings: object,
) -> PriorResult:
    """Generate a set of class images without training. `settings` are those of `dreambooth prior`: num_prior_images, ...

    `preset` is a training preset or a run's config.yaml, which may also name the model and the class. Raises SettingsError,
    PhotoError if the folder contains other files, ModelFileError if the model cannot be read.
    """
    given = {**given_only(model=model, class_word=class_word), **settings}
    result: PriorResult = _call("prior", settings_from("prior", given, preset=preset), on_event)
    return result


def plan(
    *,
    model: str | Path | None = None,
    preset: str | Path | None = None,
    on_event: Listener | None = None,
    **settings: object,
) -> PlanResult:
    """Predict the memory that training needs, by memory preset; without a `model`, for a full-size Stable Diffusion 1.

    `preset` is a training preset or a run's config.yaml. `settings` are those of `dreambooth plan`: gpu_memory, batch_size, ...
    Raises SettingsError if no preset is compatible with the settings, ModelFileError if the model cannot be read.
    """
    result: PlanResult = _call("plan", settings_from("plan", {**given_only(model=model), **settings}, preset=preset), on_event)
    return result


def convert(source: str | Path, destination: str | Path, *, on_event: Listener | None = None, **settings: object) -> Conversion:
    """Rewrite a model as one file or as a diffusers folder; nothing is overwritten. `settings`: to, dtype, weights, config.

    Raises ModelFileError if the source is not a model, or the destination exists, has an ambiguous form or is on a full disk.
    """
    given = {"source": source, "destination": destination, **settings}
    result: Conversion = _call("convert", settings_from("convert", given), on_event)
    return result


def inspect(model: str | Path | None = None, *, on_event: Listener | None = None, **settings: object) -> InspectResult:
    """Describe the contents of a model file, and how the tokenizer splits words (`token`).

    Raises ModelFileError if it is not a model.
    """
    result: InspectResult = _call("inspect", settings_from("inspect", {**given_only(model=model), **settings}), on_event)
    return result


def _call(verb: str, settings: Any, on_event: Listener | None) -> Any:
    """Load and run a recipe; torch is not imported before."""
    with without_noise():
        module, _, function = VERBS[verb].recipe.partition(":")
        recipe = getattr(import_module(module), function)
        from dreambooth.runtime.interrupts import process_survives

        with process_survives():
            return recipe(settings, display_for(on_event))
