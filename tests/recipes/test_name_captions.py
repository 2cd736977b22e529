"""Captions from names, an empty class word and the original's pairs, in whole runs of the model that ships."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors import safe_open

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.verbs import VERBS
from dreambooth.data.drawing import PerRole
from dreambooth.display import Display
from dreambooth.errors import DreamboothError, SettingsError
from dreambooth.recipes.train import train
from dreambooth.runtime.processes import OneProcess
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer.material import gather_material
from dreambooth.trainer.preflight import check_everything
from dreambooth.trainer.session import start_session

MakeSettings = Callable[..., TrainSettings]

GIVEN: dict[str, Any] = {"num_prior_images": 200, "prior_sampling_steps": 50}  # the defaults: nothing is made


def typed(*arguments: object) -> TrainSettings:
    """The settings that `dreambooth train` with these arguments gives."""
    verb = VERBS["train"]
    settings = settings_from(verb, TrainSettings, read_arguments(verb, TrainSettings, [*map(str, arguments)]))
    assert isinstance(settings, TrainSettings)
    return settings


def metadata(run: Path) -> dict[str, str]:
    with safe_open(run / "model.safetensors", "pt") as file:
        found: dict[str, str] = file.metadata()
    return found


@pytest.fixture
def two_subjects(photos: Path, tmp_path: Path) -> Path:
    """One photo of each of two subjects in folders that name them, and one beside these."""
    folder = tmp_path / "photos"
    for source, place in zip(
        sorted(photos.glob("*.jpg")), ["rex/dog/1.jpg", "zwx/backpack/2@S on grass.jpg", "3.jpg"], strict=True
    ):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / place)
    return folder


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Three class images: two in folders that name their classes."""
    folder = tmp_path / "regs"
    for number, place in enumerate(["dog/1.png", "backpack/2.png", "3.png"]):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (80 * number, 100, 50)).save(folder / place)
    return folder


@pytest.mark.slow
def test_two_subjects_in_two_folders_are_learned_together(
    two_subjects: Path, classes: Path, tmp_path: Path, display: Display, said: Callable[[], str]
) -> None:
    asked = [
        *("--model", "toybox", "--photos", two_subjects, "--captions", "filename", "--class-word", "cup"),
        *("--prior-images", classes, "--steps", 3, "--output", tmp_path / "runs" / "both", "--preview-steps", 0),
        *("--original-pairing", "--photo-repeats", 2, "--prior-flip-probability", 1),
    ]
    result = train(typed(*asked), display)
    lines = [line.split() for line in said().splitlines()]
    for row in ["rex dog 1", "zwx on grass 1", "sks cup 1", "dog 1", "backpack 1", "cup 1"]:
        assert row.split() in lines, row
    assert "Each of the 3 class images was seen 1 time\n" in said()
    assert "3 photos of 3 subjects ('sks cup', 'rex dog', 'zwx backpack'), 3 steps" in said()
    assert "'sks' already means something" in said() and "'zwx' is " in said()
    made_of = metadata(result.run)["dreambooth.made_of"]
    for caption in ("rex dog", "zwx on grass", "sks cup", "backpack", "dog", "cup"):
        assert f' {caption}"' in made_of


def test_the_token_alone_may_name_the_subject(photos: Path, tmp_path: Path, display: Display) -> None:
    asked = ["--model", "toybox", "--photos", photos, "--class-word", "", "--prior-weight", 0, "--steps", 1]
    result = train(typed(*asked, "--output", tmp_path / "runs" / "rex", "--preview-steps", 0, "--validation-steps", 0), display)
    written = metadata(result.run)
    assert written["modelspec.trigger_phrase"] == "sks"
    assert ' photo of a sks"' in written["dreambooth.made_of"]


def test_class_images_need_a_class(run_settings: MakeSettings, classes: Path, display: Display) -> None:
    nameless: dict[str, Any] = {"class_word": ""}
    with pytest.raises(SettingsError) as caught:
        run_settings(subject=nameless)
    assert caught.value.problems == (
        "test: class_word is empty, so no class images can be generated; use --prior-weight 0 to train without them, "
        "--prior-images FOLDER --captions filename for folders of images named after their class, or a --class-word",
    )
    with pytest.raises(SettingsError, match="class_word is empty"):
        run_settings(subject={**nameless, "captions": "filename"})
    with pytest.raises(SettingsError, match="class_word is empty"):
        run_settings(subject=nameless, prior={**GIVEN, "prior_images": classes})
    settings = run_settings(subject={**nameless, "captions": "filename"}, prior={**GIVEN, "prior_images": classes})
    with pytest.raises(DreamboothError, match="regs: contains 1 image without a caption"):
        check_everything(settings, display, OneProcess(), is_resume=False)
    (classes / "3.png").unlink()
    ready = check_everything(settings, display, OneProcess(), is_resume=False)
    assert [one.caption for one in ready.learned.given_priors] == ["backpack", "dog"]


def test_options_of_class_images_without_effect(run_settings: MakeSettings, classes: Path) -> None:
    with pytest.raises(SettingsError, match="prior_weight is 0, so prior_flip_probability would have no effect"):
        run_settings(prior={**GIVEN, "prior_weight": 0}, views={"prior_flip_probability": 0.5})
    prior = {**GIVEN, "prior_images": classes, "class_prompt": "one {class_word}"}
    with pytest.raises(SettingsError, match="so class_prompt would have no effect; use only one of them"):
        run_settings(prior=prior, subject={"captions": "filename"})
    assert run_settings(prior=prior).prior.class_prompt == "one {class_word}"


def test_previews_show_what_names_teach(run_settings: MakeSettings, display: Display, classes: Path) -> None:
    def prompts(**sections: dict[str, Any]) -> tuple[str, ...]:
        ready = check_everything(run_settings(**sections), display, OneProcess(), is_resume=False)
        return tuple(start_session(ready, gather_material(ready, display)).previewer.prompts)

    assert prompts(subject={"captions": "filename"}) == ("sks backpack", "photo of a backpack")
    nameless: dict[str, Any] = {"class_word": "", "captions": "filename"}
    asked = {"preview_prompts": ["a {token} {class_word} asleep"]}
    assert prompts(subject=nameless, prior={**GIVEN, "prior_weight": 0}) == ("sks",)
    assert prompts(subject=nameless, prior={**GIVEN, "prior_weight": 0}, output=asked | {"preview_steps": 1}) == (
        "a sks asleep",
    )


def test_previews_show_every_subject_and_class(
    run_settings: MakeSettings, display: Display, two_subjects: Path, classes: Path
) -> None:
    subject = {"photos": two_subjects, "captions": "filename"}
    settings = run_settings(subject=subject, prior={**GIVEN, "prior_images": classes})
    ready = check_everything(settings, display, OneProcess(), is_resume=False)
    prompts = start_session(ready, gather_material(ready, display)).previewer.prompts
    assert prompts == ("sks backpack", "rex dog", "zwx backpack", "backpack", "dog")


def test_photos_among_the_class_images_are_told(
    run_settings: MakeSettings, photos: Path, display: Display, said: Callable[[], str]
) -> None:
    settings = run_settings(prior={**GIVEN, "prior_images": photos})
    check_everything(settings, display, OneProcess(), is_resume=False)
    first = sorted(photos.glob("*.jpg"))[0]
    assert f"3 of the class images are photos of the subject ({first} is {first}): remove them, or give another" in said()


def test_made_class_images_may_be_mirrored_always(run_settings: MakeSettings, display: Display) -> None:
    """Their latents are of the picture as it is, so the mirrored ones are encoded."""
    settings = run_settings(views={"flip_probability": 0, "prior_flip_probability": 1}, prior={"original_pairing": True})
    ready = check_everything(settings, display, OneProcess(), is_resume=False)
    material = gather_material(ready, display)
    assert material.source.repeats == PerRole(100, 10)
    examples = [example for step in range(1, 5) for example in material.source.examples_at(step)]
    assert {(one.role, one.view.flip) for one in examples} == {("instance", False), ("prior", True)}
    assert all(material.encoded.moments[one.photo.digest, one.view].deviation.max() > 0 for one in examples)
    assert material.source.exposures("prior", 4) == tuple(
        sum(one.photo == prior.photo for one in examples) for prior in material.source.priors
    )


def test_what_pairs_never_show_is_told_once(
    run_settings: MakeSettings, display: Display, said: Callable[[], str], classes: Path
) -> None:
    prior = {**GIVEN, "prior_images": classes, "original_pairing": True}
    check_everything(run_settings(prior={**prior, "prior_repeats": 1}), display, OneProcess(), is_resume=False)
    assert "never be seen" not in said()
    made = {"num_prior_images": 400, "original_pairing": True}
    check_everything(run_settings(prior=made), display, OneProcess(), is_resume=False)
    assert said().count("100 of 400 class images will never be seen; --photo-repeats 134 reaches all") == 1
