from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from dreambooth.data.prior_sets import PriorSet
from dreambooth.data.settings import PriorSettings
from dreambooth.data.size import Size
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import SettingsError
from dreambooth.families.components import Components
from dreambooth.pictures.class_images import make_prior_set, prompts_and_numbers
from dreambooth.recipes.prior import PriorResult, prior
from dreambooth.runtime.processes import OneProcess
from dreambooth.schema.verbs import PriorRecipeSettings
from dreambooth.toybox.files import EMBEDDED_MODEL_FILE
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.settings import TrainedFromSettings


class Screen:
    """A display whose text can be read."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.display = ConsoleDisplay(Console(file=self.file, width=200))


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture(scope="module")
def toybox_file() -> Path:
    return EMBEDDED_MODEL_FILE


@pytest.fixture(scope="module")
def base(toybox_file: Path) -> ModelWeights:
    return read_model(str(toybox_file))


@pytest.fixture(scope="module")
def components(base: ModelWeights) -> Components:
    return base.build(dtype=torch.float32)


def run(screen: Screen, model: Path, folder: Path, *, class_word: str = "dog", seed: int = 23, **asked: Any) -> PriorResult:
    asked = {"num_prior_images": 3, "prior_sampling_steps": 2, "prior_folder": folder} | asked
    base = TrainedFromSettings(model=str(model))
    settings = PriorRecipeSettings(
        base=base, class_word=class_word, prior=PriorSettings(**asked), resolution=64, seed=seed, device="cpu"
    )
    return prior(settings, screen.display)


def pixels(path: Path) -> NDArray[np.int16]:
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.int16)


@pytest.mark.slow
def test_a_set_is_made_grown_and_mended_and_never_made_twice(screen: Screen, toybox_file: Path, tmp_path: Path) -> None:
    made = run(screen, toybox_file, tmp_path)
    assert made.num_made == 3
    assert made.folder.parent == tmp_path
    assert [path.name for path in made.images] == ["00000.png", "00001.png", "00002.png"]
    with Image.open(made.images[1]) as image:
        assert image.size == (64, 64)
        record = json.loads(image.text["dreambooth"])  # type: ignore[attr-defined]
    assert (record["prompt"], record["index"], record["guidance_scale"]) == ("photo of a dog", 1, 10.0)

    before = {path: path.read_bytes() for path in made.images}
    again = run(screen, toybox_file, tmp_path)
    assert (again.folder, again.num_made) == (made.folder, 0)

    made.images[1].unlink()
    made.images[2].write_bytes(before[made.images[2]][:1000])
    (made.folder / "Thumbs.db").touch()
    grown = run(screen, toybox_file, tmp_path, num_prior_images=5, prior_batch_size=1)
    assert (grown.folder, grown.num_made) == (made.folder, 4)
    for path in made.images:
        (tmp_path / "before.png").write_bytes(before[path])
        assert np.abs(pixels(path) - pixels(tmp_path / "before.png")).max() <= 1  # other batches: rounding only
    assert made.images[0].read_bytes() == before[made.images[0]]
    assert f'Class images "photo of a dog" in {made.folder}: 5, 4 of them new' in screen.file.getvalue()


def make(screen: Screen, base: ModelWeights, components: Components, folder: Path, **changes: Any) -> PriorSet:
    words: dict[str, Any] = {"class_word": "dog", "size": Size.square(64), "seed": 23, "model_digest": base.digest()}
    words |= {name: changes.pop(name) for name in list(changes) if name in words}
    asked = PriorSettings(**{"num_prior_images": 1, "prior_sampling_steps": 2} | changes)
    cpu = torch.device("cpu")
    ((prompt, num),) = prompts_and_numbers(asked, words["class_word"]).items()
    return make_prior_set(
        components,
        prompt=prompt,
        num=num,
        prior=asked,
        folder=folder,
        display=screen.display,
        processes=OneProcess(),
        device=cpu,
        dtype=torch.float32,
        **words,
    )


@pytest.mark.slow
def test_what_makes_a_picture_makes_a_set(screen: Screen, base: ModelWeights, components: Components, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"class_word": "cat"},
        {"class_prompt": "a {class_word}"},
        {"model_digest": "0" * 64},
        {"size": Size.square(128)},
        {"seed": 24},
        {"prior_sampling_steps": 3},
        {"prior_sampler": "euler"},
        {"prior_guidance_scale": 1.0},
    ]
    sets = [make(screen, base, components, tmp_path, **change) for change in changes]
    assert len({prior_set.folder for prior_set in sets}) == len(changes)
    pictures = [pixels(prior_set.path(0)) for prior_set in sets]
    assert pictures[4].shape == (128, 128, 3)
    same_size = [picture for picture in pictures if picture.shape == (64, 64, 3)]
    different = [one for one in same_size if np.abs(one - same_size[0]).max() > 1]
    assert len(different) == len(same_size) - 2  # itself, and the one whose digest alone was changed


def test_settings_of_training_are_refused(screen: Screen, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="prior_weight, also_prior: no effect when only class images are generated"):
        run(screen, tmp_path / "none.ckpt", tmp_path, prior_weight=0.5, also_prior=(tmp_path,))


def test_a_class_prompt_that_is_cut_or_silent_is_told(screen: Screen, toybox_file: Path, tmp_path: Path) -> None:
    long = "a red and blue thing on the table near the window, " * 8
    run(screen, toybox_file, tmp_path, num_prior_images=1, class_prompt=f"{long}{{class_word}}")
    said = screen.file.getvalue()
    assert "does not say the class word 'dog'" in said and "this part is ignored" in said


def test_a_set_for_training_is_the_set_of_the_command(
    screen: Screen, base: ModelWeights, components: Components, toybox_file: Path, tmp_path: Path
) -> None:
    made = run(screen, toybox_file, tmp_path, num_prior_images=2)
    prior_set = make(screen, base, components, tmp_path, num_prior_images=3, prior_batch_size=1)
    assert prior_set.folder == made.folder
    assert "class images: 1/1 images" in screen.file.getvalue(), "the one that was missing"
    assert prior_set.missing(3) == []
    assert [image.caption for image in prior_set.images(3)] == ["photo of a dog"] * 3


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_with_what_is_missing(screen: Screen, toybox_file: Path, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("dreambooth"), "prior", "--model", toybox_file, "--class-word", "dog"]
    asked = ["--resolution", "64", "--prior-sampling-steps", "2", "--num-prior-images", "400", "--prior-batch-size", "1"]
    process = subprocess.Popen([*command, *asked, "--prior-folder", tmp_path, "--device", "cpu"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("*.png"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (folder,) = tmp_path.iterdir()
    kept = {path: path.read_bytes() for path in folder.glob("*.png")}
    assert len(kept) >= 3
    finished = run(screen, toybox_file, tmp_path, num_prior_images=len(kept) + 2, prior_batch_size=1)
    assert (finished.folder, finished.num_made) == (folder, 2)
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_several_prompts_share_the_images_among_them(screen: Screen, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text('photo of a {class_word}\na red {class_word}\n""\n', encoding="utf-8")
    settings = PriorRecipeSettings(
        base=TrainedFromSettings(model="toybox"),
        class_word="mug",
        prior=PriorSettings(
            prior_prompts=str(file), num_prior_images=4, prior_sampling_steps=1, prior_folder=tmp_path / "class-images"
        ),
    )
    made = prior(settings, screen.display)
    assert (made.folder, made.num_made, len(made.images)) == (tmp_path / "class-images", 4, 4)
    prompts = [json.loads((path.parent / "manifest.json").read_text())["request"]["prompt"] for path in made.images]
    assert prompts == ["photo of a mug", "photo of a mug", "a red mug", ""]
    assert prior(settings, screen.display).num_made == 0


@pytest.mark.parametrize(("num", "numbers"), [(6, [2, 2, 2]), (5, [2, 2, 1]), (2, [1, 1])])
def test_images_are_shared_out_evenly(num: int, numbers: list[int], tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a {class_word}\nb {class_word}\nc {class_word}\n", encoding="utf-8")
    found = prompts_and_numbers(PriorSettings(prior_prompts=str(file), num_prior_images=num), "mug")
    assert [*found.values()] == numbers and next(iter(found)) == "a mug"
