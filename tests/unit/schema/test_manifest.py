"""A list of subjects: settings for all and for each, and mistakes told under their subject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dreambooth.errors import SettingsError
from dreambooth.schema.manifest import Manifest, read_manifest

PLAIN: dict[str, Any] = {"subjects": {"rex": {"photos": "photos/rex", "class_word": "dog"}}}


def read(values: Any, tmp_path: Path) -> Manifest:
    file = tmp_path / "subjects.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return read_manifest(file, Path("runs"))


def problems(values: Any, tmp_path: Path) -> str:
    with pytest.raises(SettingsError) as raised:
        read(values, tmp_path)
    return raised.value.text.replace(f"{tmp_path}/", "")


def test_a_subject_has_its_own_settings_over_those_of_all_over_the_preset(tmp_path: Path) -> None:
    values = {
        "preset": "toybox",
        "defaults": {"base": {"model": "toybox"}, "loop": {"steps": 40}, "instance_prompt": "a {token} {class_word}"},
        "subjects": {
            "rex": {"photos": "photos/rex", "class_word": "dog"},
            "Mia 2": {"photos": "photos/mia", "subject": {"class_word": "cat", "token": "mwf"}, "loop": {"steps": 60}},
        },
    }
    manifest = read(values, tmp_path)
    rex, mia = manifest.trainings["rex"], manifest.trainings["Mia 2"]
    assert (manifest.names, dict(manifest.problems)) == (("rex", "Mia 2"), {})
    assert (rex.subject.photos, rex.subject.class_word, rex.subject.token) == (Path("photos/rex"), "dog", "sks")
    assert (mia.subject.photos, mia.subject.class_word, mia.subject.token) == (Path("photos/mia"), "cat", "mwf")
    assert (rex.loop.steps, mia.loop.steps) == (40, 60)
    assert rex.subject.instance_prompt == mia.subject.instance_prompt == "a {token} {class_word}"
    assert rex.optimizer.learning_rate == 2e-4, "the preset's"
    assert (rex.output.output, mia.output.output) == (Path("runs/rex"), Path("runs/Mia 2"))


def test_what_a_subject_turns_off_leaves_the_settings_below(tmp_path: Path) -> None:
    values = {**PLAIN, "preset": "toybox", "defaults": {"base": {"model": "toybox"}}}
    values["subjects"] = {"rex": {**PLAIN["subjects"]["rex"], "prior": {"prior_weight": 0}}}
    assert read(values, tmp_path).trainings["rex"].prior.prior_weight == 0


def test_mistakes_are_those_of_their_subject(tmp_path: Path) -> None:
    values = {
        "defaults": {"base": {"model": "toybox"}},
        "subjects": {
            "rex": {"photos": "photos/rex", "class_word": "dog", "loop": {"step": 3}},
            "tom": {"photos": "photos/tom", "class_word": "cat"},
            "mia": {"class_word": "cat", "output": {"output": "elsewhere"}},
            "ada": {"class_word": "cat", "subject": {"class_word": "dog"}},
            "bob": None,
        },
    }
    manifest = read(values, tmp_path)
    assert [*manifest.trainings] == ["tom"]
    told = {name: error.text.replace(f"{tmp_path}/", "") for name, error in manifest.problems.items()}
    assert told == {
        "rex": "subjects.yaml: unknown setting 'loop.step'; did you mean 'loop.steps'?",
        "mia": "subjects.yaml: 'output.output' has no effect: each subject is trained in a folder of its name below --output; "
        "remove it",
        "ada": "subjects.yaml: 'class_word' is also in the section subject; use only one of them",
        "bob": "subjects.yaml: the subject is empty: expected a mapping of settings",
    }


def test_a_list_without_subjects_is_answered_with_an_example(tmp_path: Path) -> None:
    assert problems({"subjects": []}, tmp_path).startswith("subjects.yaml: expected subjects by name under 'subjects:'\nFor ex")
    assert problems({"subject": {}}, tmp_path).endswith(
        "unknown part 'subject': expected preset, defaults, subjects; did you mean 'subjects'?"
    )


@pytest.mark.parametrize("name", ["", "../rex", "a/b", ".rex", "rex.", "a" * 101, 7, "[red]"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(name: Any, tmp_path: Path) -> None:
    assert "expected a name for its folder" in problems({"subjects": {name: {}}}, tmp_path)


def test_names_that_would_share_a_folder_are_refused(tmp_path: Path) -> None:
    told = problems({"subjects": {"Rex": {}, "rex": {}, "batch": {}}}, tmp_path)
    assert "subjects 'Rex' and 'rex' would share a folder where capitals make no difference" in told
    assert "subject 'batch': the folder of this name is for all subjects" in told


def test_settings_of_all_are_checked_once(tmp_path: Path) -> None:
    assert "preset is 'toybx': expected" in problems({**PLAIN, "preset": "toybx"}, tmp_path)
    assert "defaults: 'loop.device' has no effect: the device is chosen for all subjects, by --device" in problems(
        {**PLAIN, "defaults": {"loop": {"device": "cpu"}}}, tmp_path
    )
    assert "defaults is [1]: expected a mapping" in problems({**PLAIN, "defaults": [1]}, tmp_path)


def test_mistakes_of_a_preset_name_its_file(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("base: {model: toybox}\nloop: {steps: many, stpes: 5, seed: x}\nviws: {crop: center}\nmemory: 3\n")
    values = {"preset": str(preset), "defaults": {"loop": {"seed": 2}}, **PLAIN}
    values["subjects"] = {**PLAIN["subjects"], "mia": {"photos": "a", "class_word": "cat", "loop": {"steps": "few"}}}
    found = read(values, tmp_path).problems
    rex, mia = ([problem.replace(f"{tmp_path}/", "") for problem in found[name].problems] for name in ("rex", "mia"))
    assert sorted(rex) == [
        "mine.yaml: 'loop.steps' is 'many': expected a whole number",
        "mine.yaml: 'memory' is 3: expected a mapping of settings",
        "mine.yaml: unknown setting 'loop.stpes'; did you mean 'loop.steps'?",
        "mine.yaml: unknown setting 'viws'; did you mean 'views'?",
    ]
    assert "subjects.yaml: 'loop.steps' is 'few': expected a whole number" in mia


def test_a_list_of_subjects_is_no_preset(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(PLAIN))
    told = problems({**PLAIN, "preset": str(other)}, tmp_path)
    assert told == "subjects.yaml: preset is 'other.yaml': it is a list of subjects, not a preset"


@pytest.mark.parametrize(("name", "read_as"), [("no", "no, off or false"), ("7", "7"), ("null", "null, ~ or nothing")])
def test_a_name_that_yaml_takes_for_a_value_is_to_be_put_in_quotes(name: str, read_as: str, tmp_path: Path) -> None:
    file = tmp_path / "subjects.yaml"
    file.write_text(f"subjects:\n  {name}: {{photos: a, class_word: dog}}\n")
    with pytest.raises(SettingsError) as raised:
        read_manifest(file, Path("runs"))
    assert raised.value.text == f"{file}: subject {read_as}: expected a name for its folder; put the name in quotes"
