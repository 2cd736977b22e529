"""`python -m experiments.toybox count`: how many of a model's images match their prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreambooth.display import Display
from dreambooth.errors import SettingsError
from dreambooth.families.components import Components
from dreambooth.files import write_json
from dreambooth.pages.images import to_image, write_contact_sheet
from dreambooth.recipes.toybox import _check_is_folder, _pixels
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.sampling.batches import make_pictures
from dreambooth.sampling.placing import picture_dtype, place
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.toybox.files import JUDGE_FILE
from dreambooth.toybox.judge import ATTRIBUTES, SIDE, Judge, load_judge, truth
from dreambooth.toybox.render import render
from dreambooth.toybox.world import CLASSES, COLOURS, PLACES, random_scene
from dreambooth.weights.read import read_base
from experiments.toybox.judging import accuracies
from experiments.toybox.settings import CountSettings

__all__ = ["Asked", "answers_about", "asked_prompts", "count", "judge_on_renderings", "judged_pictures"]

_NUM_RENDERINGS = 400


_RENDERING_SEED = 31337


_BATCH = 16


_COMBINATIONS = 4  # combinations of color and place per class


@dataclass(frozen=True)
class Asked:
    """A prompt, and the attributes that its images must show."""

    prompt: str
    right: Mapping[str, str]


def asked_prompts() -> tuple[Asked, ...]:
    """Forty prompts: every class with four colors in four places; each color and each place occurs five times."""
    prompts = []
    for number in range(_COMBINATIONS * len(CLASSES)):
        combination, position = divmod(number, len(CLASSES))
        color = tuple(COLOURS)[(position + 2 * combination) % len(COLOURS)]
        place_name = tuple(PLACES)[(3 * position + 6 * combination) % len(PLACES)]
        article = "an" if color[0] in "aeiou" else "a"
        prompt = f"photo of {article} {color} {CLASSES[position]} {PLACES[place_name]}"
        prompts.append(Asked(prompt, {"class": CLASSES[position], "place": place_name, "primary": color}))
    return tuple(prompts)


def judged_pictures(
    components: Components, pictures: Sequence[Picture], judge: Judge, options: SamplingOptions, display: Display
) -> tuple[list[NDArray[np.uint8]], dict[str, Tensor]]:
    """Make images on the components' device; returns them and the judge's log-probabilities by attribute."""
    weight = next(components.denoiser.parameters())
    device = weight.device
    with display.progress("images", len(pictures) * options.steps, "steps") as advance:
        made = make_pictures(
            components, pictures, options, batch_size=_BATCH, device=device, dtype=weight.dtype, advance=advance
        )
        pixels = torch.stack([one.pixels_CHW.cpu() for one in made])
    return [to_image(one) for one in pixels], answers_about(judge, pixels)


@torch.no_grad()
def answers_about(judge: Judge, pixels_BCHW: Tensor) -> dict[str, Tensor]:
    """The judge's log-probabilities for pixels in [0, 1], by attribute."""
    answers: dict[str, Tensor] = judge(2 * pixels_BCHW - 1)
    return answers


def count(settings: CountSettings, display: Display) -> dict[str, float]:
    """Make images of forty prompts and return the shares in which the judge finds the right class, place and color.

    Raises SettingsError when the model's image size is not the judge's.
    """
    device, judge = choose_device(settings.device), load_judge(settings.judge or JUDGE_FILE)
    base = read_base(settings.base)
    if (side := base.family.resolution) != SIDE:
        raise SettingsError(f"{settings.base.model}: makes images of {side} pixels, but the judge expects {SIDE} pixels")
    _check_is_folder(settings.output)
    settings.output.mkdir(parents=True, exist_ok=True)
    components = place(base.build(dtype=picture_dtype(None, device)), device)
    asked, each = asked_prompts(), settings.num_images
    pictures = [Picture(one.prompt, number * each + k) for number, one in enumerate(asked) for k in range(each)]
    options = SamplingOptions("ddim", settings.sampling_steps, settings.guidance_scale, SIDE, SIDE, seed=settings.seed)
    with Interrupts(lambda: "Stopped. There are no results."):
        images, answers = judged_pictures(components, pictures, judge, options, display)
    right = {name: [one.right[name] for one in asked for _ in range(each)] for name in asked[0].right}
    found = {name: [ATTRIBUTES[name][index] for index in answers[name].argmax(dim=1).tolist()] for name in right}
    shares = {name: sum(map(str.__eq__, found[name], right[name])) / len(pictures) for name in right}
    sure = judge_on_renderings(judge)
    display.table(
        f"{len(pictures)} images of {len(asked)} prompts",
        ("attribute", "correct in the images", f"judge's accuracy on {_NUM_RENDERINGS} new renderings"),
        [("color" if name == "primary" else name, f"{share:.1%}", f"{sure[name]:.1%}") for name, share in shares.items()],
    )
    rows = [images[start : start + each] for start in range(0, len(images), each)]
    sheets = write_contact_sheet(settings.output / "sheet.png", rows, row_labels=[one.prompt for one in asked])
    said = {"model": settings.base.model, "digest": base.digest(), **shares, "judge_on_renderings": sure}
    write_json(settings.output / "shares.json", said)
    display.say(f"Wrote {', '.join(map(str, sheets))} and shares.json")
    return shares


def judge_on_renderings(judge: Judge) -> dict[str, float]:
    """The judge's accuracy on held-out renderings of plain objects, which is what the prompts describe."""
    scenes = [random_scene(np.random.default_rng([_RENDERING_SEED, number])) for number in range(_NUM_RENDERINGS)]
    plain = [replace(scene, look=replace(scene.look, pattern="plain")) for scene in scenes]
    pixels = torch.stack([_pixels(render(scene, SIDE)) for scene in plain])
    labels = {name: torch.tensor([truth(scene)[name] for scene in plain]) for name in ("class", "place", "primary")}
    return accuracies(judge, 2 * pixels - 1, labels)
