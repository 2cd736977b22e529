"""What is evaluated: what a run remembers, what is given over it, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from dreambooth.config import write_yaml
from dreambooth.data.drawing import repeats_of
from dreambooth.data.examples import ExampleSource
from dreambooth.data.pictures import check_apart, find_pictures
from dreambooth.data.size import Size
from dreambooth.errors import PhotoError, SettingsError
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.target import EvaluationTarget, evaluation_targets
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.schema.verbs import TrainSettings

Make = Callable[..., TrainSettings]


def evaluation_target(request: EvaluationRequest) -> EvaluationTarget:
    """The only subject that is asked for."""
    (target,) = evaluation_targets(request)
    return target


@pytest.fixture
def run(run_settings: Make, tmp_path: Path) -> Callable[..., Path]:
    """A folder with the settings of a run and nothing else; sections given by name are laid over them."""

    def make(**sections: dict[str, Any]) -> Path:
        folder = tmp_path / "run"
        write_yaml(folder / "config.yaml", run_settings(**sections), comment="")
        return folder

    return make


def test_a_run_knows_everything(run: Callable[..., Path], photos: Path, small_model: Path) -> None:
    folder = run(prior={"class_prompt": "a {class_word} somewhere"}, views={"background": "black"})
    found = evaluation_target(EvaluationRequest(model=str(folder)))
    assert (found.subject.photos, found.subject.token, found.subject.class_word) == (photos, "sks", "backpack")
    assert found.class_prompt == "a backpack somewhere"
    assert found.base is not None and found.base.model == str(small_model)
    assert found.background == "black"
    assert found.output == folder / "evaluation"
    assert found.has_own_photos


def test_what_is_given_goes_before_what_a_run_knows(run: Callable[..., Path], tmp_path: Path) -> None:
    given = EvaluationRequest(
        model=str(run()), photos=tmp_path, class_word="bag", token="mwf", base="toybox", output=tmp_path / "here"
    )
    found = evaluation_target(given)
    assert (found.subject.photos, found.subject.token, found.subject.class_word) == (tmp_path, "mwf", "bag")
    assert found.class_prompt == "photo of a bag"
    assert found.base is not None and found.base.model == "toybox"
    assert found.output == tmp_path / "here"
    assert not found.has_own_photos
    assert found.exposures(10, 64) == []


def test_everything_that_a_file_does_not_know_is_asked_for_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        evaluation_target(
            EvaluationRequest(model="a b.ckpt", token="sks", evaluation=EvaluationSettings(num_checkpoint_images=2))
        )
    assert caught.value.problems[0].startswith("model is a b.ckpt: no such file or folder; expected a run folder")
    assert [problem.split(" ")[0] for problem in caught.value.problems[1:3]] == ["photos", "class_word"]
    assert "num_checkpoint_images would have no effect" in caught.value.problems[3]
    assert caught.value.hint == ("Type: dreambooth evaluate --model 'a b.ckpt' --photos FOLDER --class-word WORD --token WORD")


def test_a_file_is_measured_beside_itself_and_without_a_base(photos: Path) -> None:
    found = evaluation_target(EvaluationRequest(model="models/rex.ckpt", photos=photos, class_word="backpack", token="sks"))
    assert found.base is None
    assert found.output == Path("models/evaluation")
    assert found.exposures(10, 64) == []


def test_a_subject_without_a_class_has_no_class_images(photos: Path) -> None:
    given = {"model": "rex.ckpt", "photos": photos, "class_word": "", "token": "sks"}
    found = evaluation_target(EvaluationRequest(**given))
    assert found.class_prompt is None
    prompt_set = found.prompt_set(EvaluationSettings(), is_toybox=True)
    assert prompt_set.prompts[0] == "photo of a sks on the beach"
    with pytest.raises(SettingsError, match="num_class_images would have no effect"):
        evaluation_target(EvaluationRequest(**given, evaluation=EvaluationSettings(num_class_images=2)))


def test_names_of_files_say_what_the_subject_is_called(run: Callable[..., Path], photos: Path, tmp_path: Path) -> None:
    (tmp_path / "named" / "rex" / "dog").mkdir(parents=True)
    copy(min(photos.glob("*.jpg")), tmp_path / "named" / "rex" / "dog" / "S C.jpg")
    folder = run(subject={"photos": str(tmp_path / "named"), "captions": "filename"})
    found = evaluation_target(EvaluationRequest(model=str(folder)))
    assert (found.name, found.class_prompt) == ("rex dog", "photo of a dog")
    assert len(found.photos) == 1


@pytest.fixture
def two_subjects(photos: Path, tmp_path: Path) -> Path:
    """Two photos of one subject in a folder of its own; beside it one of the subject that the settings name."""
    places = ["rex/dog/1.jpg", "2.jpg", "rex/dog/3.jpg"]
    for source, place in zip(sorted(photos.glob("*.jpg")), places, strict=True):
        (tmp_path / "named" / place).parent.mkdir(parents=True, exist_ok=True)
        copy(source, tmp_path / "named" / place)
    return tmp_path / "named"


def test_each_of_several_subjects_has_its_own_words_and_photos(run: Callable[..., Path], two_subjects: Path) -> None:
    settings = EvaluationRequest(model=str(run(subject={"photos": str(two_subjects), "captions": "filename"})))
    found = {one.name: one for one in evaluation_targets(settings)}
    assert {name: [photo.path.name for photo in one.photos] for name, one in found.items()} == {
        "sks backpack": ["2.jpg"],
        "rex dog": ["1.jpg", "3.jpg"],
    }
    assert {one.class_prompt for one in found.values()} == {"photo of a backpack", "photo of a dog"}
    assert found["rex dog"].prompt_set(settings.evaluation, is_toybox=True).prompts[0] == "photo of a rex dog on the beach"
    assert len(found["rex dog"].photo_pixels(48)) == 2
    assert found["rex dog"].has_own_photos


def test_photos_of_several_subjects_were_seen_as_training_showed_all_of_them(
    run: Callable[..., Path], run_settings: Make, two_subjects: Path
) -> None:
    sections: dict[str, Any] = {"subject": {"photos": str(two_subjects), "captions": "filename"}, "loop": {"batch_size": 2}}
    found = evaluation_targets(EvaluationRequest(model=str(run(**sections))))
    settings = run_settings(**sections)
    pictures = find_pictures(settings.subject, settings.prior, resolution=64)
    source = ExampleSource(pictures.photos, pictures.photos[:2], settings.views, Size.square(64), 2, settings.loop.seed, None)
    counts = dict.fromkeys((one.photo.path.name for one in pictures.photos), 0)
    for step in range(1, 5):
        for example in source.examples_at(step):
            counts[example.photo.path.name] += example.role == "instance"
    assert len(set(counts.values())) > 1, "the case tells one photo's count from another's"
    assert [dict(one.exposures(4, 64)) for one in found] == [
        {name: counts[name] for name in names} for names in (["2.jpg"], ["1.jpg", "3.jpg"])
    ]


def test_class_images_are_asked_for_where_one_of_several_subjects_has_a_class(
    run: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    asked = EvaluationSettings(num_class_images=2)
    for place in ("rex/1.jpg", "tom/cat/1.jpg"):
        (tmp_path / "named" / place).parent.mkdir(parents=True, exist_ok=True)
        copy(min(photos.glob("*.jpg")), tmp_path / "named" / place)
    subject = {"photos": str(tmp_path / "named"), "captions": "filename", "class_word": ""}
    no_prior = {"prior_weight": 0, "num_prior_images": 200, "prior_sampling_steps": 50}  # the defaults: nothing is made
    folder = run(subject=subject, prior=no_prior)
    found = evaluation_targets(EvaluationRequest(model=str(folder), evaluation=asked))
    assert {one.name: one.class_prompt for one in found} == {"rex": None, "tom cat": "photo of a cat"}
    with pytest.raises(SettingsError, match="num_class_images would have no effect"):
        evaluation_targets(EvaluationRequest(model=str(folder), token="rex", evaluation=asked))


def test_prompts_are_asked_with_the_token_and_described_without(run: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a {token} {class_word} asleep\n\na red Sks, a {class_word}\n", encoding="utf-8")
    settings = EvaluationRequest(
        model=str(run()), evaluation=EvaluationSettings(prompts=file, num_images=3, num_class_images=5)
    )
    prompt_set = evaluation_target(settings).prompt_set(settings.evaluation, is_toybox=False)
    assert prompt_set.prompts == ("a sks backpack asleep", "a red Sks, a backpack")
    assert prompt_set.descriptions == ("a backpack asleep", "a red , a backpack")
    assert (prompt_set.class_prompt, prompt_set.num_images, prompt_set.num_class_images) == ("photo of a backpack", 3, 5)


def test_a_file_of_prompts_with_an_unknown_placeholder_is_refused(run: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a {tokn} dog\n", encoding="utf-8")
    settings = EvaluationRequest(model=str(run()), evaluation=EvaluationSettings(prompts=file))
    with pytest.raises(
        SettingsError,
        match=r"prompts is .*prompts.txt: line 1: .*unknown placeholder \{tokn\}; expected \{class_word\} and \{token\}",
    ):
        evaluation_target(settings).prompt_set(settings.evaluation, is_toybox=False)


def test_the_subject_is_asked_for_in_places_that_its_model_knows(run: Callable[..., Path]) -> None:
    settings = EvaluationRequest(model=str(run()))
    target = evaluation_target(settings)
    small, large = (target.prompt_set(settings.evaluation, is_toybox=known).prompts for known in (True, False))
    assert len(small) == len(large) == 8
    assert "photo of a sks backpack on the moon" in small
    assert "photo of a sks backpack among autumn leaves" in large


def test_photos_are_seen_as_their_middle_squares(run: Callable[..., Path]) -> None:
    pixels = evaluation_target(EvaluationRequest(model=str(run()))).photo_pixels(48)
    assert [tuple(one.shape) for one in pixels] == [(3, 48, 48)] * 3
    assert all(0 <= float(one.min()) < 0.2 and 0.8 < float(one.max()) <= 1 for one in pixels)


@pytest.mark.parametrize("place", [".", "evaluation", "a/b/../c"])
def test_pictures_are_not_written_among_the_photos(tmp_path: Path, place: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "link").symlink_to(photos)
    for folder in (photos, tmp_path / "link"):
        with pytest.raises(SettingsError, match=r"output is .*: it is inside the photo folder(.|\n)*another --output"):
            check_apart(folder / place, photos)
    check_apart(tmp_path / "photos of it", photos)
    check_apart(tmp_path, photos)


def test_a_photo_that_is_there_twice_is_told_of(
    run: Callable[..., Path], photos: Path, two_subjects: Path, tmp_path: Path
) -> None:
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "twice").mkdir(exist_ok=True)
        copy(min(photos.glob("*.jpg")), tmp_path / "twice" / name)
    alone = evaluation_target(EvaluationRequest(model=str(run()), photos=tmp_path / "twice"))
    assert [one.path.name for one in alone.photo_warnings if "identical to" in one.message] == ["2.jpg"]
    copy(two_subjects / "rex" / "dog" / "1.jpg", two_subjects / "rex" / "dog" / "4.jpg")
    several = evaluation_targets(
        EvaluationRequest(model=str(run(subject={"photos": str(two_subjects), "captions": "filename"})))
    )
    for one in several:
        assert [warning.path.name for warning in one.photo_warnings if "identical to" in warning.message] == ["4.jpg"]
        assert replace(one, among_warnings=()).photo_warnings == (), "all photos are not looked at again for each subject"


def test_photos_that_are_gone_are_told(run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="gone"):
        _ = evaluation_target(EvaluationRequest(model=str(run()), photos=tmp_path / "gone")).photos


@pytest.mark.parametrize("is_paired", [False, True])
def test_photos_were_seen_as_often_as_training_showed_them(
    run: Callable[..., Path], run_settings: Make, is_paired: bool
) -> None:
    pairing = {"original_pairing": True, "photo_repeats": 2, "prior_repeats": 3} if is_paired else {}
    sections: dict[str, Any] = {"prior": pairing, "loop": {"batch_size": 2}}
    found = evaluation_target(EvaluationRequest(model=str(run(**sections)))).exposures(7, 64)
    settings = run_settings(**sections)
    pictures = find_pictures(settings.subject, settings.prior, resolution=64)
    repeats = repeats_of(settings.prior)
    priors = pictures.photos[:2]  # as many as the settings make; which they are does not matter for the photos
    source = ExampleSource(pictures.photos, priors, settings.views, Size.square(64), 2, settings.loop.seed, repeats)
    counts = dict.fromkeys((one.photo.path.name for one in pictures.photos), 0)
    for step in range(1, 8):
        for example in source.examples_at(step):
            counts[example.photo.path.name] += example.role == "instance"
    assert dict(found) == counts
    assert sum(counts.values()) == 14


def _second_run(run_settings: Make, tmp_path: Path, first: Path, **prior: Any) -> Path:
    folder = tmp_path / "second"
    settings = run_settings(base={"model": str(first)}, subject={"token": "zwx", "class_word": "bag"}, prior=prior)
    write_yaml(folder / "config.yaml", settings, comment="")
    return folder


def test_a_subject_that_a_run_kept_from_an_earlier_one_is_evaluated_as_well(
    run: Callable[..., Path], run_settings: Make, tmp_path: Path
) -> None:
    second = _second_run(run_settings, tmp_path, run())
    own, earlier = evaluation_targets(EvaluationRequest(model=str(second)))
    assert (own.name, own.is_earlier) == ("zwx bag", False)
    assert (earlier.name, earlier.is_earlier, earlier.class_prompt) == ("sks backpack", True, "photo of a backpack")
    assert (earlier.model, earlier.base, earlier.output) == (own.model, own.base, own.output)
    assert earlier.exposures(10, 64) == [], "this run did not show its photos"


def test_a_subject_that_was_not_kept_or_is_not_asked_for_or_has_no_photos_is_not(
    run: Callable[..., Path], run_settings: Make, tmp_path: Path, photos: Path
) -> None:
    first = run()
    left = _second_run(run_settings, tmp_path, first, replay=False)
    assert [one.name for one in evaluation_targets(EvaluationRequest(model=str(left)))] == ["zwx bag"]
    second = _second_run(run_settings, tmp_path, first)
    assert [one.name for one in evaluation_targets(EvaluationRequest(model=str(second), token="zwx"))] == ["zwx bag"]
    write_yaml(first / "config.yaml", run_settings(subject={"photos": str(tmp_path / "moved")}), comment="")
    assert [one.name for one in evaluation_targets(EvaluationRequest(model=str(second)))] == ["zwx bag"]
