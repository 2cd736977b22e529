"""Defaults, then a preset or a run's settings, then flags; and every mistake at once, called by the name it was typed with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import changes_to_run, settings_from
from dreambooth.cli.verbs import VERBS
from dreambooth.config import parse_settings, write_yaml
from dreambooth.data.settings import SubjectSettings
from dreambooth.errors import SettingsError
from dreambooth.schema.presets import preset_names, read_preset
from dreambooth.schema.verbs import TrainSettings

REQUIRED = "--model a --photos b --class-word dog"


def _settings(line: str) -> Any:
    name, *arguments = shlex.split(line)
    verb = VERBS[name]
    record = verb.record()
    return settings_from(verb, record, read_arguments(verb, record, arguments))


def _changes(line: str) -> dict[str, Any]:
    verb = VERBS["train"]
    return changes_to_run(verb, TrainSettings, read_arguments(verb, TrainSettings, shlex.split(line)))


def _problems(line: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        _settings(line)
    assert caught.value.hint == f"See `dreambooth {line.partition(' ')[0]} --help`."
    return list(caught.value.problems)


def test_flags_are_over_the_preset_and_the_preset_over_defaults(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("loop: {steps: 100, seed: 5}\noptimizer: {learning_rate: 1e-5}\n", encoding="utf-8")
    settings = _settings(f"train {REQUIRED} --preset {preset} --steps 200")
    assert (settings.loop.steps, settings.loop.seed, settings.loop.batch_size) == (200, 5, 1)
    assert settings.optimizer.learning_rate == 1e-5  # YAML 1.1 reads 1e-5 as text


def test_zero_and_off_are_values() -> None:
    settings = _settings(f"train {REQUIRED} --seed 0 --no-train-text-encoder --flip-probability 0 --preview-steps 0")
    assert settings.loop.seed == 0
    assert settings.trainee.train_text_encoder is False
    assert settings.views.flip_probability == 0
    assert settings.output.preview_steps == 0


def test_a_flag_that_turns_something_off_turns_off_what_the_preset_says_of_it() -> None:
    given = "--photos b --class-word dog --preset toybox"
    settings = _settings(f"train {given} --prior-weight 0 --preview-steps 0")
    assert settings.prior.is_changed("num_prior_images", "prior_guidance_scale") == ()
    assert settings.output.is_changed("preview_guidance_scale") == ()
    assert settings.output.validation_steps == _settings(f"train {given}").output.validation_steps
    assert _problems(f"train {given} --prior-weight 0 --num-prior-images 7") == [
        "prior_weight is 0, so num_prior_images would have no effect; use only one of them"
    ]


def test_a_folder_of_class_images_replaces_what_the_preset_says_of_making_them() -> None:
    settings = _settings(f"train {REQUIRED} --preset toybox --prior-images dogs")
    assert (settings.prior.prior_images, settings.prior.prior_latents) == (Path("dogs"), "sampler")
    assert settings.prior.num_prior_images == 200
    (problem,) = _problems(f"train {REQUIRED} --preset toybox --prior-images dogs --num-prior-images 3")
    assert problem.startswith("prior_images uses a folder as is, so num_prior_images would have no effect")


def test_what_a_preset_turns_off_is_named_with_the_preset_and_a_way_out() -> None:
    assert _problems(f"train {REQUIRED} --preset object --prior-images dogs") == [
        "preset object has prior_examples photos, so --prior-images would have no effect; add --prior-examples with another "
        "value (images or both), or leave out --prior-images"
    ]
    assert _settings(f"train {REQUIRED} --preset object --prior-images dogs --prior-examples both").prior.prior_weight == 10
    assert _settings(f"train {REQUIRED} --preset object --num-prior-images 200").prior.prior_examples == "photos", "the default"


def test_class_images_are_generated_as_a_training_with_the_preset_would(tmp_path: Path) -> None:
    named = _settings("prior --model a --class-word dog --preset toybox --prior-batch-size 3")
    assert (named.prior.num_prior_images, named.prior.prior_prompts, named.prior.prior_batch_size) == (48, "varied", 3)
    assert _settings("prior --model a --class-word dog --preset object").prior.prior_prompts == "varied"
    training = _settings(f"train {REQUIRED} --preset toybox --resolution 128 --seed 7")
    write_yaml(tmp_path / "config.yaml", training, comment="A run.")
    of_run = _settings(f"prior --preset {tmp_path / 'config.yaml'}")
    assert (of_run.class_word, of_run.resolution, of_run.seed) == (training.subject.class_word, 128, 7)
    assert of_run.prior.num_prior_images == 48


def test_a_former_name_is_called_as_it_was_typed() -> None:
    assert _problems("generate --model a --prompt b --steps 0") == ["--steps is '0': expected at least 1"]
    assert _problems("generate --model a --prompt b --sampling-steps 0") == ["--sampling-steps is '0': expected at least 1"]


@pytest.mark.parametrize("word", ["sks\nfoo", "sks\x1b[2J", "s\u202eks", "a\tb", "a\x85b"])
@pytest.mark.parametrize("name", ["token", "class_word"])
def test_words_for_prompts_are_one_line_of_visible_letters(name: str, word: str) -> None:
    given = {"photos": "x", "class_word": "dog", "token": "sks", name: word}
    with pytest.raises(SettingsError, match=f"{name}.* which no prompt holds"):
        parse_settings(SubjectSettings, given, where="a.yaml")
    assert parse_settings(SubjectSettings, {**given, name: "größe x"}, where="a.yaml")


def test_a_runs_own_settings_are_a_preset(tmp_path: Path) -> None:
    settings = _settings(f"train {REQUIRED} --also-prior c d --steps 12")
    write_yaml(tmp_path / "config.yaml", settings, comment="A run.")
    assert _settings(f"train --preset {tmp_path / 'config.yaml'}") == settings


def test_a_part_of_a_section_keeps_the_records_own_defaults() -> None:
    settings = _settings("prior --model a --class-word dog --num-prior-images 8")
    assert settings.prior.prior_folder == Path("class-images")
    assert settings.prior.num_prior_images == 8


def test_all_mistakes_come_at_once_under_the_names_that_were_typed(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("loop: {steps: many, sede: 3}\nviews: {resolution: 65}\n", encoding="utf-8")
    assert _problems(f"train --model a --photos b --preset {preset} --resolution 100 --stepz 3 --crop middle") == [
        "unknown option --stepz; did you mean --steps?",
        "--class-word is missing: what kind of thing the subject is: dog, man, container; empty if the token alone names it.",
        "--resolution is '100': expected a multiple of 8",
        "--crop is 'middle': expected center, random, squash, bucket or subject",
        f"{preset}: 'loop.steps' is 'many': expected a whole number",
        f"{preset}: unknown setting 'loop.sede'; did you mean 'loop.seed'?",
    ]


def test_what_is_given_by_place_is_called_by_its_place() -> None:
    assert [problem.split(":")[0] for problem in _problems("convert")] == ["SOURCE is missing", "DESTINATION is missing"]


def test_rules_between_settings_are_told() -> None:
    assert _problems(f"train {REQUIRED} --prior-weight 0 --num-prior-images 8") == [
        "prior_weight is 0, so num_prior_images would have no effect; use only one of them"
    ]
    assert _problems("inspect") == ["neither a model nor a token was given; give a model file, a folder or --token WORD"]
    assert _problems("inspect --token sks --weights raw") == [
        "no model was given, so weights would have no effect; name a model or omit them"
    ]


def test_an_unknown_preset_is_told_with_the_known_ones() -> None:
    assert _problems("train --preset faces") == [
        "--preset is 'faces': expected face, lora-16gb, lora-4gb, lora-8gb, object, original, pet, sdxl-10gb, sdxl-24gb, "
        "sdxl-6gb, style, toybox or a YAML file; did you mean 'face'?"
    ]
    assert _problems("train --preset nowhere.yaml") == ["nowhere.yaml: no such settings file"]


def test_a_preset_that_is_no_tree_is_refused(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("loop: 3\n", encoding="utf-8")
    assert _problems(f"train {REQUIRED} --preset {preset} --steps 3") == [
        f"{preset}: 'loop' is 3: expected a mapping of settings"
    ]
    assert _problems(f"train {REQUIRED} --preset {preset}") == [f"{preset}: 'loop' is 3: expected a mapping of settings"]


def _run(folder: Path) -> Path:
    write_yaml(folder / "config.yaml", _settings(f"train {REQUIRED} --warmup-steps 10"), comment="A run.")
    return folder


def test_changes_to_a_run_are_what_was_given_in_its_own_types(tmp_path: Path) -> None:
    run = _run(tmp_path)
    assert _changes(f"--resume {run}") == {}
    assert _changes(f"--resume {run} --steps 900 --photos c --also-prior d") == {
        "loop.steps": 900,
        "subject.photos": Path("c"),
        "prior.also_prior": (Path("d"),),
    }


def test_wrong_changes_to_a_run_are_refused_by_their_flags(tmp_path: Path) -> None:
    run = _run(tmp_path)
    for line, problems in {
        "--steps x --stepz 3": ["unknown option --stepz; did you mean --steps?", "--steps is 'x': expected a whole number"],
        "--steps 5": [
            "warmup_steps is 10 and steps is 5: warmup must end before the run does; lower warmup_steps or raise steps"
        ],
        "--preset face": ["--resume uses the run's own settings, so --preset would have no effect; use only one of them"],
    }.items():
        with pytest.raises(SettingsError) as caught:
            _changes(f"--resume {run} {line}")
        assert list(caught.value.problems) == problems


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A file of settings with a list of two subjects, as a run of them has."""
    file = tmp_path / "config.yaml"
    subjects = "[{photos: a, token: rex, class_word: dog}, {photos: b, token: ada, class_word: cat}]"
    file.write_text(f"base: {{model: m}}\nsubject: {{subjects: {subjects}}}\noutput: {{output: o}}\n")
    return file


def test_photos_stand_for_the_subjects_of_a_preset(listed: Path) -> None:
    settings = _settings(f"train --preset {listed} --photos c --class-word mug")
    assert (settings.subject.photos, settings.subject.class_word, settings.subject.subjects) == (Path("c"), "mug", ())
    assert len(_settings(f"train --preset {listed} --steps 9").subject.subjects) == 2


def test_a_word_alone_says_where_the_subjects_come_from(listed: Path) -> None:
    """The refusal said that subjects were given, which nobody had typed."""
    assert _problems(f"train --preset {listed} --token mwf --class-word mug") == [
        f"{listed} has subjects, so --class-word and --token would have no effect; give --photos as well, which replaces the "
        "subjects, or leave out --class-word and --token"
    ]


def test_a_resumed_run_keeps_its_subjects(listed: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        _changes(f"--resume {listed.parent} --token mwf")
    assert caught.value.problems == (f"{listed} has subjects, which a resumed run keeps, so --token would have no effect",)
    assert caught.value.hint == (
        f"Remove --token, or start a new run with one subject: dreambooth train --preset {listed} --photos FOLDER "
        "--class-word WORD --token WORD --output NEW_FOLDER"
    )
    assert _changes(f"--resume {listed.parent} --steps 900") == {"loop.steps": 900}


def test_whether_a_folder_is_a_run_is_for_the_recipe_to_say(tmp_path: Path) -> None:
    assert _changes(f"--resume {tmp_path} --steps 9") == {"loop.steps": "9"}


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_opens_with_a_command_that_works(name: str) -> None:
    from dreambooth import presets

    first = (Path(presets.__path__[0]) / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# dreambooth train ")
    settings = _settings(first.removeprefix("# dreambooth "))
    _, values = read_preset(name)
    changed = {(section, key) for section, inside in values.items() for key in inside}
    for section, key in changed:
        assert getattr(settings, section).model_dump(mode="json")[key] == values[section][key]


def test_the_shipped_presets_are_these() -> None:
    assert preset_names() == [
        "face",
        "lora-16gb",
        "lora-4gb",
        "lora-8gb",
        "object",
        "original",
        "pet",
        "sdxl-10gb",
        "sdxl-24gb",
        "sdxl-6gb",
        "style",
        "toybox",
    ]


def test_a_typed_class_prompt_takes_the_place_of_a_presets_list() -> None:
    prior = _settings("train --preset pet --model m --photos p --class-word dog --class-prompt 'a dog'").prior
    assert (prior.class_prompt, prior.prior_prompts, prior.prior_examples) == ("a dog", None, "both")
