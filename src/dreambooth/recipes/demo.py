"""`dreambooth demo`: the whole workflow once, with only the bundled model.

Renders photos of a subject, then runs the recipes of `train` and `generate` with the preset `toybox`: class images, training
with prior preservation, images of the subject in new places, and the class before and after training with the same seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from dreambooth.display import Display, format_duration, quoted
from dreambooth.errors import Interrupted
from dreambooth.pages.story import Row, write_report, write_sheet
from dreambooth.recipes.generate import generate
from dreambooth.recipes.toybox import subject_look, write_photos
from dreambooth.recipes.train import TrainResult, train
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.progress import preview_pictures, read_progress
from dreambooth.runtime.device import choose_device
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.presets import toybox_training
from dreambooth.schema.verbs import DemoSettings, GenerateSettings, TrainSettings
from dreambooth.toybox.files import EMBEDDED_MODEL
from dreambooth.toybox.world import PLACES
from dreambooth.weights.read import model_name
from dreambooth.weights.settings import BaseModelSettings

__all__ = ["DemoResult", "demo"]

_PLACES = tuple(PLACES[name] for name in ("moon", "beach", "table", "snow", "city"))
_NUM_IMAGES = 5
_SAMPLING_STEPS = 30
_GUIDANCE_SCALE = 3.0
_NEXT = """\
To use your own photos with a real Stable Diffusion 1 model:
  dreambooth train --model sd-v1-4.ckpt --photos FOLDER --class-word dog --output runs/mine
To do the same in a browser (pip install 'dreambooth[web]'):
  dreambooth web
To generate more images with the demo's model:
  dreambooth generate --model {run} --prompt "{prompt} on the road" --guidance-scale 3"""


@dataclass(frozen=True)
class DemoResult:
    """The files the demo wrote."""

    trained: TrainResult
    sheet: Path
    report: Path


def demo(settings: DemoSettings, display: Display) -> DemoResult:
    """Train on one toybox subject and write a sheet and a report. Raises SettingsError for an unknown subject."""
    started = monotonic()
    look = subject_look(settings.subject)
    output = _free(settings.output if settings.output.name else settings.output.absolute())
    choose_device(settings.device)
    if output.name != settings.output.name:
        display.say(f"{settings.output} already exists; this demo writes to {output}.")
    photos_folder = _photos_of(output)
    display.say(f"The demo teaches the bundled model (toybox) one {look.class_word} from {_NUM_IMAGES} photos.")
    photos = write_photos(settings.subject, photos_folder, num=_NUM_IMAGES)
    training = _training(settings, photos_folder, look.class_word, output)
    trained = train(training, display)
    if trained.was_asked_to_stop:
        raise Interrupted(f"Stopped after training. The model is {trained.model}; no images were generated.", exit_code=130)

    model, token = model_name(output), training.subject.token
    subject_prompt, class_prompt = f"photo of a {token} {look.class_word}", f"photo of a {look.class_word}"

    def pictures(model: str, name: str, prompts: Sequence[str], num_images: int) -> tuple[Path, ...]:
        sample = _sample(prompts, num_images, output / "pictures" / name, settings)
        return generate(GenerateSettings(base=BaseModelSettings(model=model), sample=sample), display).files

    seen = pictures(model, "subject", [subject_prompt], _NUM_IMAGES)
    elsewhere = pictures(model, "places", [f"{subject_prompt} {place}" for place in _PLACES], 1)
    before = pictures(EMBEDDED_MODEL, "class-before", [class_prompt], _NUM_IMAGES)
    after = pictures(model, "class-after", [class_prompt], _NUM_IMAGES)
    rows = [
        Row("The photos", f"All that training sees of the subject: photos of one {look.class_word}.", photos),
        _over_steps(output, subject_prompt),
        Row(f'"{subject_prompt}"', "The prompt without a place, from five different seeds.", seen),
        Row(f'"{subject_prompt} ..."', "Some of these places appear in none of the photos.", elsewhere, _PLACES),
        Row(f'"{class_prompt}", before', "The class, as the base model draws it.", before),
        Row(
            f'"{class_prompt}", after',
            "The same seeds after training, during which class images hold the class in place.",
            after,
        ),
    ]
    next_commands = _NEXT.format(run=quoted(model), prompt=subject_prompt)
    sheet, seconds = write_sheet(output / "story.png", rows), monotonic() - started
    report = write_report(
        output / "report.html",
        f"A {look.class_word} named {token}",
        rows,
        losses=_validation_losses(output),
        facts={**_facts(training, settings.subject), "total time": format_duration(seconds)},
        next_commands=next_commands,
    )
    display.say(f"Done in {format_duration(seconds)}. Overview image: {sheet}\nReport: {report}\n{next_commands}")
    return DemoResult(trained, sheet, report)


def _training(settings: DemoSettings, photos: Path, class_word: str, output: Path) -> TrainSettings:
    training = toybox_training(
        subject={"photos": photos, "class_word": class_word},
        loop={"device": settings.device, **({} if settings.steps is None else {"steps": settings.steps})},
        output={"output": output},
    )
    quarter, tenth = max(1, training.loop.steps // 4), max(1, training.loop.steps // 10)
    watched = training.output.model_copy(update={"preview_steps": quarter, "validation_steps": tenth})
    return training.model_copy(update={"output": watched})


def _sample(prompts: Sequence[str], num_images: int, output: Path, settings: DemoSettings) -> SampleSettings:
    return SampleSettings(
        prompt=tuple(prompts),
        num_images=num_images,
        sampling_steps=_SAMPLING_STEPS,
        guidance_scale=_GUIDANCE_SCALE,
        batch_size=_NUM_IMAGES,
        device=settings.device,
        grid=False,
        output=output,
    )


def _over_steps(output: Path, prompt: str) -> Row:
    """The previews of the first prompt, which is the subject's."""
    run = RunFolder(output)
    steps = read_progress(run).preview_steps
    images = [preview_pictures(run, step)[0] for step in steps]
    about = "From the same noise during training; step 0 is the base model, which does not know the word."
    return Row(f'"{prompt}", step by step', about, images, [f"step {step}" for step in steps])


def _validation_losses(output: Path) -> dict[str, dict[int, float]]:
    events = [event for event in read_events(RunFolder(output).events) if event["event"] == "validation"]
    names = {"photos": "instance_loss", "class images": "prior_loss"}
    return {title: {event["step"]: event[name] for event in events if name in event} for title, name in names.items()}


def _facts(training: TrainSettings, subject: str) -> dict[str, str]:
    return {
        "base model": training.base.model,
        "subject": subject,
        "steps": str(training.loop.steps),
        "learning rate": f"{training.optimizer.rate:g}",
        "photos and class images per step": f"{training.loop.batch_size} + {training.loop.batch_size}",
        "class images": str(training.prior.num_prior_images),
    }


def _photos_of(run: Path) -> Path:
    return run.with_name(f"{run.name}-photos")


def _free(folder: Path) -> Path:
    """`folder`, or the first of folder-2, folder-3, ... that does not exist, so that the demo can be repeated."""
    candidate, number = folder, 2
    while candidate.exists() or _photos_of(candidate).exists():
        candidate, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return candidate
