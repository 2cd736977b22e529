"""`experiments.photos`: what an arm's photos hold, and what the tables say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dreambooth.config import parse_settings
from dreambooth.data.pictures import find_pictures
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.data.size import Size
from dreambooth.toybox.render import render, subject_mask
from dreambooth.toybox.subjects import SUBJECTS as LOOKS
from dreambooth.toybox.subjects import subject_scenes
from experiments.photos import arms, crops
from experiments.photos.__main__ import main
from experiments.photos.arms import ARMS, PLAIN, SUBJECTS, WIDE, place_of, write_photos
from experiments.photos.measure import MEASURES
from experiments.photos.table import tables


def numbers(**values: float) -> dict[str, dict[str, float]]:
    return {name: {"value": values.get(name, 0.5)} for name in MEASURES}


def test_the_mask_is_where_the_subject_changes_the_image() -> None:
    (scene,) = subject_scenes(LOOKS["marked-ball"], num=1, seed=1)
    mask = subject_mask(scene, 32, width=48)
    assert mask.shape == (32, 48) and mask.max() == 255 and 0.03 < (mask > 0).mean() < 0.6
    wide = render(scene, 32, width=48)
    assert wide.shape == (32, 48, 3)
    np.testing.assert_allclose(wide[:, 8:40].astype(int), render(scene, 32).astype(int), atol=1)
    white = LOOKS["marked-ball"].primary
    assert white == "white"
    assert wide[mask == 255].mean() > 100


@pytest.mark.parametrize("arm", ARMS)
def test_training_finds_the_masks_and_captions_of_an_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: str) -> None:
    monkeypatch.setattr(arms, "PHOTO_SIDE", 32)
    folder = write_photos(tmp_path / "photos", "belted-vase", ARMS[arm])
    subject = parse_settings(SubjectSettings, {"photos": folder, "class_word": "vase"}, where="test")
    pictures = find_pictures(subject, PriorSettings(prior_weight=0), resolution=32)
    assert len(pictures.photos) == 5
    where = " in the snow" if ARMS[arm].has_captions else ""
    assert {one.caption for one in pictures.photos} == {f"photo of a sks vase{where}"}
    assert {one.photo.mask is not None for one in pictures.photos} == {ARMS[arm].has_masks}
    assert not [one for one in pictures.problems if one.severity == "error"]
    assert {(one.photo.width, one.photo.height) for one in pictures.photos} == {(48 if ARMS[arm].is_wide else 32, 32)}


def test_each_subject_has_a_place_of_its_own() -> None:
    assert len({place_of(name) for name in SUBJECTS}) == len(SUBJECTS) == 5


def test_tables_have_means_and_differences_subject_by_subject() -> None:
    found = {(PLAIN, "a"): numbers(leaks=0.75), (PLAIN, "b"): numbers(leaks=0.5)}
    found |= {("masks", "a"): numbers(leaks=0.5), ("masks", "b"): numbers(leaks=0.25)}
    lines = tables(found).splitlines()
    assert lines[0] == "| arm | leaks | obeys | fidelity | fidelity elsewhere |"
    assert lines[3].startswith("| masks | 0.38 [0.25, 0.50] | 0.50 [0.50, 0.50] |")
    assert lines[-1].startswith("| masks minus plain | -0.25 [-0.25, -0.25] | +0.00 ")
    assert len(tables({(PLAIN, "a"): numbers()}).splitlines()) == 3
    wide = tables({(WIDE, "a"): numbers(leaks=0.5), ("3:2 in buckets", "a"): numbers(leaks=0.75)})
    assert wide.splitlines()[-1].startswith("| 3:2 in buckets minus 3:2 as squares | +0.25")


def test_what_was_measured_is_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "numbers").mkdir()
    (tmp_path / "numbers" / "masks-and-captions-zigzag-mug-200.json").write_text(json.dumps(numbers()), encoding="utf-8")
    assert main(["--output", str(tmp_path), "--arms", "masks and captions", "--subjects", "zigzag-mug"]) == 0
    assert "| masks and captions | 0.50 |" in capsys.readouterr().out


def test_crops_are_measured_against_the_true_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "_SIZE", Size(32, 56))
    found = crops.measured(LOOKS["marked-ball"], 0, "in five places")
    middle, around = found["in the middle"], found["around what stands out"]
    assert 0 < middle["filled"] < around["filled"] < 1 and middle["shown"] < around["shown"] <= 1
    text = crops.table({"here": [found, found]})
    assert text.splitlines()[-1].startswith(f"| here | around what stands out | {around['shown']:.0%} [")
