"""Settings as keyword arguments: the flags' names, the same values, and every mistake at once."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from dreambooth.api.keywords import changes_from, display_for, settings_from
from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from as settings_from_flags
from dreambooth.cli.verbs import VERBS
from dreambooth.config import write_yaml
from dreambooth.errors import SettingsError
from dreambooth.schema.verbs import TrainSettings

REQUIRED = {"model": "a", "photos": "b", "class_word": "dog"}


def _problems(verb: str, given: dict[str, object], **more: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings_from(verb, given, **more)
    assert caught.value.hint == f"All settings: `dreambooth {verb} --help`."
    return list(caught.value.problems)


def test_keywords_and_flags_give_the_same_settings() -> None:
    verb, line = VERBS["train"], "--model a --photos b --class-word dog --preset toybox --learning-rate 1e-5 --prior-weight 0"
    flags = settings_from_flags(verb, TrainSettings, read_arguments(verb, TrainSettings, shlex.split(line)))
    given = {**REQUIRED, "photos": Path("b"), "learning_rate": 1e-5, "prior_weight": 0}
    assert settings_from("train", given, preset="toybox") == flags
    assert flags.loop.batch_size == 2


def test_one_value_may_stand_for_a_list_of_one() -> None:
    assert settings_from("generate", {"model": "a", "prompt": "x y"}).sample.prompt == ("x y",)
    assert settings_from("generate", {"model": Path("a"), "prompt": ["x", "y"]}).sample.prompt == ("x", "y")
    assert settings_from("train", {**REQUIRED, "also_prior": [Path("c")]}).prior.also_prior == (Path("c"),)


def test_every_problem_is_reported_at_once_under_the_arguments_names() -> None:
    assert _problems("train", {"model": "a", "photos": "b", "learning_rat": 1, "steps": "x", "nothing_like_it": 2}) == [
        "unknown setting 'learning_rat'; did you mean 'learning_rate'?",
        "unknown setting 'nothing_like_it'",
        "class_word is missing: what kind of thing the subject is: dog, man, container; empty if the token alone names it.",
        "steps is 'x': expected a whole number",
    ]


def test_a_preset_that_is_none_is_reported_too() -> None:
    problems = _problems("train", {**REQUIRED, "stepz": 1}, preset="toybx")
    assert problems[0] == "unknown setting 'stepz'; did you mean 'steps'?"
    assert problems[1].startswith("preset is 'toybx': expected ") and problems[1].endswith("did you mean 'toybox'?")


def test_a_preset_may_be_a_file_and_is_named_in_messages(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("loop: {steps: 100, seed: x}\n", encoding="utf-8")
    assert _problems("train", {**REQUIRED}, preset=preset) == [f"{preset}: 'loop.seed' is 'x': expected a whole number"]
    assert settings_from("train", {**REQUIRED, "seed": 5}, preset=preset).loop.steps == 100


def test_fixed_and_hidden_settings_and_those_without_effect_are_no_arguments() -> None:
    asked = settings_from("generate", {"prompt": "x"}, fixed={"model": Path("a")})
    assert asked.base.model == "a"
    assert _problems("generate", {"prompt": "x", "model": "b", "grid": True}, fixed={"model": "a"}, hidden=("grid",)) == [
        "unknown setting 'model'",
        "unknown setting 'grid'",
    ]
    assert _problems("prior", {"model": "a", "class_word": "dog", "prior_weight": 1})[0].startswith(
        "unknown setting 'prior_weight'"
    )


def test_changes_to_a_run_are_read_beside_its_own_settings(tmp_path: Path) -> None:
    write_yaml(tmp_path / "config.yaml", settings_from("train", REQUIRED), comment="x")
    assert changes_from(tmp_path, {"steps": "1200", "photos": Path("c")}) == {
        "loop.steps": 1200,
        "subject.photos": Path("c"),
    }
    with pytest.raises(SettingsError, match="unknown setting 'stps'; did you mean 'steps'") as caught:
        changes_from(tmp_path, {"stps": 5, "batch_size": "x"})
    assert len(caught.value.problems) == 2


def test_the_former_name_of_a_setting_still_works_alone() -> None:
    assert settings_from("generate", {"model": "a", "prompt": "b", "steps": 7}).sample.sampling_steps == 7
    problems = _problems("generate", {"model": "a", "prompt": "b", "steps": 7, "sampling_steps": 8})
    assert problems == ["steps is another name of sampling_steps: use only one of them"]
    assert _problems("generate", {"model": "a", "prompt": "b", "steps": 0}) == ["steps is 0: expected at least 1"]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("max_train_steps", "did you mean 'steps'?"),
        ("lr", "did you mean 'learning_rate'?"),
        ("with_prior_preservation", "did you mean prior_weight=1?"),
        ("use_8bit_adam", "did you mean optimizer_states='8bit'?"),
        ("network_train_unet_only", "did you mean train_text_encoder=False?"),
        ("no_train_text_encoder", "did you mean train_text_encoder=False?"),
        ("xformers", "omit it: attention always saves memory here"),
        ("resume", "to resume a run: dreambooth.open(FOLDER).resume()"),
    ],
)
def test_names_of_flags_and_of_other_trainers_get_the_advice_that_flags_get(name: str, advice: str) -> None:
    assert _problems("train", {**REQUIRED, name: 1}) == [f"unknown setting {name!r}; {advice}"]


def test_arguments_beside_the_settings_are_checked_too() -> None:
    assert _problems("train", {**REQUIRED, "stepz": 1}, preset=5) == [
        "unknown setting 'stepz'; did you mean 'steps'?",
        "preset is 5: expected a built-in preset or a YAML file",
    ]
    with pytest.raises(SettingsError, match="on_event is 5: expected a function"):
        display_for(5)  # type: ignore[arg-type]
