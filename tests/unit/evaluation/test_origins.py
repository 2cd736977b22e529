"""A model knows what it was made of, and what has changed since is noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dreambooth.config import write_yaml
from dreambooth.data.photos import read_photo
from dreambooth.errors import ModelFileError, PhotoError
from dreambooth.evaluation.origins import held_against_origins, origins_of
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.target import EvaluationTarget, evaluation_targets
from dreambooth.schema.verbs import TrainSettings

Make = Callable[..., TrainSettings]
BASE = "ab" * 32


def model(made_of: Mapping[str, str] | None) -> Any:
    said = {} if made_of is None else {"dreambooth.made_of": json.dumps(made_of)}
    return SimpleNamespace(metadata=said, digest=lambda: BASE)


def made_of(photos: Mapping[Path, str], *, base: str = BASE) -> dict[str, str]:
    """What a run writes down that learned these photos with these captions."""
    named = {
        f"photo {number} ({path.name})": f"{read_photo(path)[0].digest} {caption}"
        for number, (path, caption) in enumerate(photos.items())
    }
    return {"base model": base, **named, "class image 0 (0.png)": f"{'cd' * 32} photo of a dog"}


@pytest.fixture
def folder(run_settings: Make, photos: Path, tmp_path: Path) -> Path:
    """A run of one subject whose photos may be changed."""
    shutil.copytree(photos, tmp_path / "photos")
    write_yaml(tmp_path / "run" / "config.yaml", run_settings(subject={"photos": str(tmp_path / "photos")}), comment="")
    return tmp_path / "run"


@pytest.fixture
def learned(folder: Path) -> dict[Path, str]:
    """The photos as they were, with their captions."""
    return dict.fromkeys(sorted((folder.parent / "photos").glob("*.jpg")), "photo of a sks backpack")


def held(folder: Path, said: Mapping[str, str] | None, **given: Any) -> tuple[tuple[EvaluationTarget, ...], tuple[str, ...]]:
    settings = EvaluationRequest(model=str(folder), **given)
    models: Any = SimpleNamespace(measured=model(said), base=model(None))
    return held_against_origins(evaluation_targets(settings), models, settings)


def test_origins_are_read_from_the_model(folder: Path, learned: dict[Path, str]) -> None:
    found = origins_of(model(made_of(learned)), folder)
    assert found.base == BASE
    assert found.photos == tuple((read_photo(path)[0].digest, caption) for path, caption in learned.items())


def test_or_from_the_newest_checkpoint(folder: Path, learned: dict[Path, str]) -> None:
    assert origins_of(model(None), folder) == replace(origins_of(model({}), folder), base=None, photos=())
    for step, base in ((2, "old"), (4, "new")):
        state = {"format": 1, "step": step, "is_scheduled": True, "loss_scale": {}, "made_of": made_of(learned, base=base)}
        (folder / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
        (folder / "checkpoints" / f"step-{step:06d}" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    found = origins_of(model(None), folder)
    assert (found.base, len(found.photos)) == ("new", 3)
    (folder / "checkpoints" / "step-000004" / "state.json").write_text("{", encoding="utf-8")
    assert origins_of(model(None), folder).photos == ()


def test_nothing_is_said_where_nothing_has_changed_or_is_known(folder: Path, learned: dict[Path, str]) -> None:
    first = next(iter(learned))
    said = made_of(learned)
    first.rename(first.with_name("another name.jpg"))
    for known in (said, None):
        asked, warnings = held(folder, known)
        assert (asked[0].has_own_photos, warnings) == (True, ())


def test_another_base_model_is_refused_unless_it_is_given(folder: Path, learned: dict[Path, str], small_model: Path) -> None:
    said = made_of(learned, base="ef" * 32)
    with pytest.raises(ModelFileError) as caught:
        held(folder, said)
    assert caught.value.problems == (f"{small_model}: not the model that {folder} was trained from; it has changed since",)
    typed = f"dreambooth evaluate --model {folder} --base"
    assert f"{typed} MODEL\n" in caught.value.text and caught.value.text.endswith(f"{typed} {small_model}")
    assert held(folder, said, base=str(small_model))[1] == ()


def test_changed_photos_are_not_called_those_that_were_learned(folder: Path, learned: dict[Path, str]) -> None:
    said = made_of(learned)
    first, second, _ = learned
    shutil.copy(first, first.with_name("same again.jpg"))
    assert held(folder, said)[1] == (), "no photo that was not learned"
    first.write_bytes(first.read_bytes() + b" ")
    first.with_name("same again.jpg").unlink()
    second.unlink()
    asked, (warning,) = held(folder, said)
    assert not asked[0].has_own_photos
    assert warning.startswith(f"the photos in {first.parent} are not the ones {folder} was trained on: 1 new and 2 missing.")
    assert held(folder, said, photos=first.parent)[1] == (), "whoever gives photos means them"


@pytest.fixture
def several(folder: Path, run_settings: Make, learned: dict[Path, str]) -> dict[Path, str]:
    """The run as one of two subjects, whose folders name them."""
    named = {}
    for path, token in zip(learned, ("one", "one", "sks"), strict=True):
        place = folder.parent / "named" / token / "ball" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        named[path.rename(place)] = f"{token} ball"
    subject = {"photos": str(folder.parent / "named"), "captions": "filename"}
    write_yaml(folder / "config.yaml", run_settings(subject=subject), comment="")
    return named


def test_a_folder_with_a_new_name_is_a_subject_that_was_not_learned(folder: Path, several: dict[Path, str]) -> None:
    said = made_of(several)
    assert [one.name for one in held(folder, said)[0]] == ["one ball", "sks ball"]
    (folder.parent / "named" / "one").rename(folder.parent / "named" / "two")
    for given in ({}, {"token": "two"}):
        with pytest.raises(PhotoError) as caught:
            held(folder, said, **given)
        assert caught.value.problems == (
            f"{folder.parent / 'named'}: a folder names two ball, which {folder} was not trained on",
        )
        assert caught.value.hint is not None and "the training captions were 'one ball', 'sks ball'." in caught.value.hint
    asked, warnings = held(folder, said, token="sks")
    assert ([one.name for one in asked], warnings) == (["sks ball"], ())
    assert held(folder, None)[1] == (), "nobody knows"


def test_a_subject_that_no_caption_names_was_learned_by_its_photos(folder: Path, several: dict[Path, str]) -> None:
    learned = {path.rename(path.with_name(f"{number}@asleep.jpg")): "asleep" for number, path in enumerate(several)}
    asked, warnings = held(folder, made_of(learned))
    assert ([one.name for one in asked], warnings) == (["one ball", "sks ball"], ())


def test_a_subject_of_which_only_the_photos_changed_was_learned(folder: Path, several: dict[Path, str]) -> None:
    said = made_of(several)
    for path in several:
        path.write_bytes(path.read_bytes() + b" ")
    asked, (warning,) = held(folder, said)
    assert [(one.name, one.has_own_photos) for one in asked] == [("one ball", False), ("sks ball", False)]
    assert "3 new and 3 missing" in warning
