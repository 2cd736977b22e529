"""One schema: what it refuses and in which words, its sentences, and the YAML files it is kept in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from dreambooth.config import (
    Settings,
    field_sentence,
    flat_fields,
    nearest,
    parse_settings,
    read_yaml,
    section_default,
    without_silenced,
    write_yaml,
)
from dreambooth.data.settings import SubjectSettings
from dreambooth.errors import SettingsError
from dreambooth.runs.settings import BatchSettings
from dreambooth.schema.verbs import GenerateSettings, PriorRecipeSettings, TrainSettings


class Oven(Settings):
    """How it is baked."""

    degrees: Annotated[int, Field(ge=50, le=300)] = 180
    """Temperature in degrees."""

    minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Time, given
    over two lines."""

    fan: bool = True
    """Whether the fan runs."""

    heat: Literal["top", "bottom", "both"] = "both"
    """Where the heat comes from."""

    trays: Annotated[int, Field(multiple_of=2)] = 2
    """How many trays."""


class Cake(Settings):
    """A cake."""

    name: Annotated[str, Field(min_length=1)]
    """What it is called."""

    oven: Oven = Field(default_factory=lambda: Oven(degrees=200))
    """How it is baked."""

    fruits: tuple[str, ...] = ()
    """What is on it."""

    recipe: Path | None = None
    """Where the recipe is."""

    @model_validator(mode="after")
    def _fits(self) -> Cake:
        if "apple" in self.fruits and self.oven.degrees > 250:
            raise ValueError("degrees is over 250 and fruits has apple: lower one or leave out the other")
        return self


def _problems(values: dict[str, Any], **named: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_settings(Cake, values, where="cake.yaml", **named)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("oven", "message"),
    [
        ({"degrees": "hot"}, "'oven.degrees' is 'hot': expected a whole number"),
        ({"degrees": 180.5}, "'oven.degrees' is 180.5: expected a whole number"),
        ({"degrees": 20}, "'oven.degrees' is 20: expected at least 50"),
        ({"degrees": "301"}, "'oven.degrees' is '301': expected at most 300"),
        ({"minutes": 0}, "'oven.minutes' is 0: expected more than 0"),
        ({"minutes": "long"}, "'oven.minutes' is 'long': expected a number"),
        ({"minutes": "nan"}, "'oven.minutes' is 'nan': expected a finite number"),
        ({"fan": "perhaps"}, "'oven.fan' is 'perhaps': expected true or false"),
        ({"heat": "botom"}, "'oven.heat' is 'botom': expected top, bottom or both; did you mean 'bottom'?"),
        ({"trays": 3}, "'oven.trays' is 3: expected a multiple of 2"),
        ({"degree": 3}, "unknown setting 'oven.degree'; did you mean 'oven.degrees'?"),
        ({"deg": 3}, "unknown setting 'oven.deg'; did you mean 'oven.degrees'?"),
        ({"fruit": 3}, "unknown setting 'oven.fruit'; did you mean 'fruits'?"),
        (7, "'oven' is 7: expected a mapping of settings"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(oven: Any, message: str) -> None:
    assert _problems({"name": "x", "oven": oven}) == [f"cake.yaml: {message}"]


def test_all_problems_come_together() -> None:
    found = _problems({"oven": {"degrees": "hot", "trays": 3}, "fruits": 5, "recipe": 7, "ofen": {}})
    assert found == [
        "cake.yaml: 'name' is missing: what it is called.",
        "cake.yaml: 'oven.degrees' is 'hot': expected a whole number",
        "cake.yaml: 'oven.trays' is 3: expected a multiple of 2",
        "cake.yaml: 'fruits' is 5: expected a list",
        "cake.yaml: 'recipe' is 7: expected a path",
        "cake.yaml: unknown setting 'ofen'; did you mean 'oven'?",
    ]


def test_an_empty_text_is_refused() -> None:
    assert _problems({"name": ""}) == ["cake.yaml: 'name' is '': expected text that is not empty"]


def test_a_rule_between_fields_speaks_for_itself() -> None:
    values = {"name": "x", "fruits": ["apple"], "oven": {"degrees": 280}}
    rule = "degrees is over 250 and fruits has apple: lower one or leave out the other"
    assert _problems(values) == [f"cake.yaml: {rule}"]
    assert _problems(values, names={"oven.degrees": "--degrees"}) == [rule]


def test_settings_may_have_names_of_their_own() -> None:
    names = {"oven.degrees": "--degrees", "name": "NAME"}
    assert _problems({"oven": {"degrees": 1, "trays": 3}}, names=names) == [
        "NAME is missing: what it is called.",
        "--degrees is 1: expected at least 50",
        "cake.yaml: 'oven.trays' is 3: expected a multiple of 2",
    ]


def test_values_missing_in_a_missing_section_are_named_themselves() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(TrainSettings, {}, where="run.yaml")
    assert [problem.split(" is missing")[0] for problem in caught.value.problems] == [
        "run.yaml: 'base.model'",
        "run.yaml: 'subject.photos'",
        "run.yaml: 'subject.class_word'",
    ]


def test_numbers_may_be_text() -> None:
    cake = parse_settings(Cake, {"name": "x", "oven": {"degrees": "60", "minutes": "1e1"}}, where="flags")
    assert (cake.oven.degrees, cake.oven.minutes) == (60, 10.0)


def test_records_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Oven().degrees = 3


def test_a_changed_value_is_not_its_default() -> None:
    assert Oven(degrees=200, fan=True, trays=4).is_changed("degrees", "fan", "trays", "heat") == ("degrees", "trays")


def test_sentences_are_read_from_the_source() -> None:
    assert field_sentence(TrainSettings, "views") == "How photos become training images."
    assert field_sentence(TrainSettings, "model_config") == ""


def test_a_section_may_have_a_default_of_its_own_in_a_record() -> None:
    default = section_default(Cake, "oven")
    assert isinstance(default, Oven)
    assert default.degrees == 200
    assert section_default(PriorRecipeSettings, "prior") is not None
    assert section_default(TrainSettings, "prior") is None
    assert section_default(TrainSettings, "base") is None


def test_leaves_have_dotted_paths() -> None:
    assert list(flat_fields(Cake))[:3] == [("name", "name"), ("oven.degrees", "degrees"), ("oven.minutes", "minutes")]


@pytest.mark.parametrize(("name", "near"), [("stpes", "steps"), ("res", "resolution"), ("zzz", None), ("st", None)])
def test_the_nearest_name(name: str, near: str | None) -> None:
    assert nearest(name, ["steps", "resolution", "seed", "styles"]) == near


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    cake = Cake(name="Füße", fruits=("plum", "1e-6"), oven=Oven(minutes=1e-06), recipe=tmp_path / "recipe.txt")
    write_yaml(tmp_path / "cake.yaml", cake, comment="A cake.\nBake it.")
    text = (tmp_path / "cake.yaml").read_text(encoding="utf-8")
    assert text.startswith("# A cake.\n# Bake it.\nname: Füße\n")
    assert parse_settings(Cake, read_yaml(tmp_path / "cake.yaml"), where="cake.yaml") == cake


@pytest.mark.parametrize(
    ("sections", "silent"),
    [
        ({"prior": {"prior_weight": 0}}, {"prior.num_prior_images", "prior.prior_target", "views.prior_flip_probability"}),
        ({"prior": {"prior_images": "dogs"}}, {"prior.num_prior_images", "prior.prior_latents"}),
        ({"prior": {"prior_prompts": "varied"}}, {"prior.class_prompt"}),
        ({}, {"prior.photo_repeats", "selection.dino", "selection.select", "output.image_log_pictures"}),
        ({"output": {"preview_steps": 0}}, {"output.preview_prompts"}),
        ({"prior": {"prior_target": "noise", "replay": False}}, {"prior.keep_predictions", "prior.replay_images"}),
        ({"optimizer": {"optimizer": "adafactor"}}, {"optimizer.adam_beta1", "memory.optimizer_states"}),
        ({"trainee": {"train_text_encoder": False}}, {"trainee.train_token_table", "trainee.text_encoder_learning_rate"}),
    ],
)
def test_what_a_switch_turns_off_is_not_written(tmp_path: Path, sections: dict[str, dict[str, Any]], silent: set[str]) -> None:
    """If a later version changed such a default, the file would be refused: its value would differ and have no effect."""
    required = {"base": {"model": "toybox"}, "subject": {"photos": "photos", "class_word": "dog"}}
    settings = parse_settings(TrainSettings, {**required, **sections}, where="test")
    write_yaml(tmp_path / "config.yaml", settings, comment="")
    written = read_yaml(tmp_path / "config.yaml")
    assert {path for path, _ in flat_fields(TrainSettings) if path.split(".")[1] not in written[path.split(".")[0]]} >= silent
    assert {"loop.steps", "prior.prior_weight"} <= {f"{name}.{key}" for name, section in written.items() for key in section}
    assert parse_settings(TrainSettings, written, where="config.yaml") == settings


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ({"trainee": {"train_text_encoder": False}}, {"trainee": {"text_encoder_learning_rate": 1e-5}}),
        ({"trainee": {"trainee": "lora"}}, {"memory": {"shard": True}}),
        ({"prior": {"prior_weight": 0}}, {"prior": {"num_prior_images": 8}, "views": {"prior_flip_probability": 0.5}}),
        ({"prior": {"prior_images": "dogs"}}, {"prior": {"prior_sampling_steps": 8}}),
    ],
)
def test_a_layer_above_silences_what_it_makes_ineffective(high: dict[str, Any], low: dict[str, Any]) -> None:
    rest = {"loop": {"steps": 3}}
    kept = without_silenced(TrainSettings, {**low, **rest}, high)
    assert {name: section for name, section in kept.items() if section} == rest
    both = {name: {**low.get(name, {}), **high.get(name, {})} for name in {*low, *high}}
    assert without_silenced(TrainSettings, low, both) == low, "what it sets itself is refused, not silenced"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such settings file"),
        (b"", "expected a mapping of settings, found an empty file"),
        (b"- 1\n- 2\n", "expected a mapping of settings, found a list"),
        (b"a: [1", "not a YAML file"),
        (b"\xff\xfe\x00", "not a YAML file"),
    ],
)
def test_what_is_no_settings_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "cake.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_word_that_yaml_takes_for_a_value_is_to_be_put_in_quotes() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(SubjectSettings, {"photos": "a", "class_word": "b", "token": False, "captions": True}, where="x")
    assert caught.value.problems == (
        "x: 'token': expected a value, not false; put a word such as yes or no in quotes",
        "x: 'captions': expected a value, not true; put a word such as yes or no in quotes",
    )


def test_a_capital_abbreviation_keeps_its_capitals() -> None:
    with pytest.raises(SettingsError, match="'subjects' is missing: YAML file with"):
        parse_settings(BatchSettings, {}, where="x")


def test_a_key_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
    with pytest.raises(SettingsError, match=r"twice\.yaml: line 5: c is given twice"):
        read_yaml(path)


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("name", ["degrees", "minutes"])
def test_true_and_false_are_no_numbers(name: str) -> None:
    with pytest.raises(SettingsError, match=f"x: '{name}': expected a value, not true"):
        parse_settings(Oven, {name: True, "fan": True}, where="x")


def test_an_empty_text_is_refused_in_our_words() -> None:
    required = {"base": {"model": "a"}, "subject": {"photos": "b", "class_word": "dog", "token": ""}}
    with pytest.raises(SettingsError, match=r"x: 'subject\.token' is '': expected text that is not empty"):
        parse_settings(TrainSettings, required, where="x")


def test_an_empty_path_is_not_the_working_directory() -> None:
    required = {"base": {"model": ""}, "subject": {"photos": "", "class_word": "dog"}, "output": {"output": ""}}
    with pytest.raises(SettingsError) as caught:
        parse_settings(TrainSettings, required, where="x")
    assert sorted(caught.value.problems) == [
        "x: 'base.model': expected a name, found empty text",
        "x: 'output.output': expected a path, found empty text",
        "x: 'subject.photos': expected a path, found empty text",
    ]


def test_a_model_may_have_a_name_that_is_not_utf8() -> None:
    assert parse_settings(
        GenerateSettings, {"base": {"model": "mod\udce8le"}, "sample": {"prompt": ["a"]}}, where="x"
    ).base.model
