"""`python -m dreambooth.toybox photos`, `sheet` and `count`: the small world to look at, and a model of it to be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreambooth.errors import SettingsError
from dreambooth.families.components import Components
from dreambooth.files import write_json
from dreambooth.pretraining.judging import accuracies
from dreambooth.recipes.display import Display, quoted
from dreambooth.recipes.settings import CountSettings, PhotosSettings, SheetSettings
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.sampling.batches import make_pictures
from dreambooth.sampling.images import save_picture, to_image, write_contact_sheet
from dreambooth.sampling.placing import picture_dtype, place
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.toybox.files import JUDGE_FILE
from dreambooth.toybox.judge import ATTRIBUTES, SIDE, Judge, load_judge, truth
from dreambooth.toybox.render import render
from dreambooth.toybox.subjects import PHOTO_SEED, SUBJECTS, random_subject, subject_scenes
from dreambooth.toybox.world import CLASSES, COLOURS, PLACES, Look, Scene, random_look, random_scene, random_view
from dreambooth.weights.read import read_model

__all__ = [
    "NUM_PHOTOS",
    "PHOTO_SIDE",
    "Asked",
    "answers_about",
    "asked_prompts",
    "count",
    "judge_on_renderings",
    "judged_pictures",
    "render_photos",
    "render_sheet",
    "subject_look",
    "write_photos",
]

NUM_PHOTOS = 5
PHOTO_SIDE = 128
"""Of the photos of a subject, when nobody says otherwise."""

_NUM_RENDERINGS = 400
_RENDERING_SEED = 31337
_BATCH = 16
_COMBINATIONS = 4  # of colour and place for each class


@dataclass(frozen=True)
class Asked:
    """A prompt, and what a picture of it must show."""

    prompt: str
    right: Mapping[str, str]


def subject_look(name: str) -> Look:
    """The fixed subject of that name, or the one drawn from a whole number. Raises SettingsError when it is neither."""
    if name in SUBJECTS:
        return SUBJECTS[name]
    if name.isdecimal():
        return random_subject(int(name))
    raise SettingsError(f"subject is {name!r}: expected a whole number or one of {', '.join(SUBJECTS)}")


def render_photos(settings: PhotosSettings, display: Display) -> tuple[Path, ...]:
    """Photos of one subject as PNG files; their paths. Raises SettingsError when the folder holds other files."""
    look = subject_look(settings.subject)
    folder = settings.output or Path("photos") / settings.subject
    paths = write_photos(settings.subject, folder, num=settings.num_photos, side=settings.side, seed=settings.seed)
    display.say(f"Wrote {len(paths)} photos of a {look.class_word} into {folder}. To learn it:")
    display.say(f"  dreambooth train --preset toybox --photos {quoted(folder)} --class-word {look.class_word}")
    return paths


def write_photos(
    subject: str, folder: Path, *, num: int = NUM_PHOTOS, side: int = PHOTO_SIDE, seed: int = PHOTO_SEED
) -> tuple[Path, ...]:
    """Render photos of a subject, `side` pixels wide, into a folder that holds nothing else; their paths."""
    look = subject_look(subject)
    _check_is_folder(folder)
    scenes = subject_scenes(look, num=num, seed=seed)
    paths = tuple(folder / f"{subject}-{number + 1:02d}.png" for number in range(num))
    others = sorted(entry.name for entry in folder.iterdir() if entry not in paths) if folder.is_dir() else []
    if others:
        raise SettingsError(f"output is {folder}: it holds {others[0]} already, which would be learned from as well")
    for path, scene in zip(paths, scenes, strict=True):
        save_picture(path, _pixels(render(scene, side)), {"place": scene.place})
    return paths


def render_sheet(settings: SheetSettings, display: Display) -> Path:
    """Every class in every place, then every fixed subject in every place. Raises SettingsError for another file than a PNG."""
    if settings.output.suffix != ".png" or settings.output.is_dir():
        raise SettingsError(f"output is {settings.output}: expected the name of a PNG file, such as world.png")
    rows: dict[str, list[NDArray[np.uint8]]] = {}
    for number, name in enumerate((*CLASSES, *SUBJECTS)):
        random = np.random.default_rng([settings.seed, number])
        looks = [SUBJECTS.get(name) or random_look(random, name) for _ in PLACES]
        scenes = [Scene(look, place, random_view(random)) for look, place in zip(looks, PLACES, strict=True)]
        rows[name] = [render(scene, settings.side) for scene in scenes]
    write_contact_sheet(settings.output, list(rows.values()), row_labels=list(rows), column_labels=list(PLACES))
    display.say(f"Wrote {settings.output}")
    return settings.output


def asked_prompts() -> tuple[Asked, ...]:
    """Forty prompts: every class with four colours in four places, so that each colour and each place comes five times."""
    asked = []
    for number in range(_COMBINATIONS * len(CLASSES)):
        combination, position = divmod(number, len(CLASSES))
        colour = tuple(COLOURS)[(position + 2 * combination) % len(COLOURS)]
        place_name = tuple(PLACES)[(3 * position + 6 * combination) % len(PLACES)]
        article = "an" if colour[0] in "aeiou" else "a"
        prompt = f"photo of {article} {colour} {CLASSES[position]} {PLACES[place_name]}"
        asked.append(Asked(prompt, {"class": CLASSES[position], "place": place_name, "primary": colour}))
    return tuple(asked)


def judged_pictures(
    components: Components, pictures: Sequence[Picture], judge: Judge, options: SamplingOptions, display: Display
) -> tuple[list[NDArray[np.uint8]], dict[str, Tensor]]:
    """The pictures, made where the components are, and the judge's log-probabilities about them by attribute."""
    device = components.unet.device
    with display.progress("pictures", len(pictures) * options.steps, "steps") as advance:
        made = make_pictures(
            components, pictures, options, batch_size=_BATCH, device=device, dtype=components.unet.dtype, advance=advance
        )
        pixels = torch.stack([one.pixels_CHW.cpu() for one in made])
    return [to_image(one) for one in pixels], answers_about(judge, pixels)


@torch.no_grad()
def answers_about(judge: Judge, pixels_BCHW: Tensor) -> dict[str, Tensor]:
    """The judge's log-probabilities about pixels in [0, 1], by attribute."""
    answers: dict[str, Tensor] = judge(2 * pixels_BCHW - 1)
    return answers


def count(settings: CountSettings, display: Display) -> dict[str, float]:
    """Make pictures of forty prompts and count in how many the judge finds class, place and colour; the shares.

    Raises SettingsError when the model's pictures are not of the judge's size.
    """
    device, judge = choose_device(settings.device), load_judge(settings.judge or JUDGE_FILE)
    base = read_model(settings.base.model, config=settings.base.config, weights=settings.base.weights)
    if (side := base.family.resolution) != SIDE:
        raise SettingsError(f"{settings.base.model}: its pictures are {side} pixels wide, and the judge knows those of {SIDE}")
    _check_is_folder(settings.output)
    settings.output.mkdir(parents=True, exist_ok=True)
    components = place(base.build(dtype=picture_dtype(None, device)), device)
    asked, each = asked_prompts(), settings.num_images
    pictures = [Picture(one.prompt, number * each + k) for number, one in enumerate(asked) for k in range(each)]
    options = SamplingOptions("ddim", settings.sampling_steps, settings.guidance_scale, SIDE, SIDE, seed=settings.seed)
    with Interrupts(lambda: "Stopped. Nothing was counted."):
        images, answers = judged_pictures(components, pictures, judge, options, display)
    right = {name: [one.right[name] for one in asked for _ in range(each)] for name in asked[0].right}
    found = {name: [ATTRIBUTES[name][index] for index in answers[name].argmax(dim=1).tolist()] for name in right}
    shares = {name: sum(map(str.__eq__, found[name], right[name])) / len(pictures) for name in right}
    sure = judge_on_renderings(judge)
    display.table(
        f"{len(pictures)} pictures of {len(asked)} prompts",
        ("what", "found in the pictures", f"judge right about {_NUM_RENDERINGS} fresh renderings"),
        [("colour" if name == "primary" else name, f"{share:.1%}", f"{sure[name]:.1%}") for name, share in shares.items()],
    )
    rows = [images[start : start + each] for start in range(0, len(images), each)]
    sheets = write_contact_sheet(settings.output / "sheet.png", rows, row_labels=[one.prompt for one in asked])
    said = {"model": settings.base.model, "digest": base.digest(), **shares, "judge_on_renderings": sure}
    write_json(settings.output / "shares.json", said)
    display.say(f"Wrote {', '.join(map(str, sheets))} and shares.json")
    return shares


def _check_is_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise SettingsError(f"output is {path}: is a file, and a folder is needed", hint="Choose another --output.")


def judge_on_renderings(judge: Judge) -> dict[str, float]:
    """Share of right answers about plain objects, as the prompts ask for them, in pictures that nobody has learned from."""
    scenes = [random_scene(np.random.default_rng([_RENDERING_SEED, number])) for number in range(_NUM_RENDERINGS)]
    plain = [replace(scene, look=replace(scene.look, pattern="plain")) for scene in scenes]
    pixels = torch.stack([_pixels(render(scene, SIDE)) for scene in plain])
    labels = {name: torch.tensor([truth(scene)[name] for scene in plain]) for name in ("class", "place", "primary")}
    return accuracies(judge, 2 * pixels - 1, labels)


def _pixels(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
