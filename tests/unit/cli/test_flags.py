"""Arguments are taken apart into what was given, and nothing about their values is decided."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from dreambooth.cli.flags import Given, read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.synonyms import SYNONYMS
from dreambooth.cli.verbs import VERBS
from dreambooth.errors import SettingsError
from dreambooth.schema import verbs as records
from dreambooth.schema.leaves import leaves


def _read(line: str) -> Given:
    name, *arguments = shlex.split(line)
    verb = VERBS[name]
    return read_arguments(verb, verb.record(), arguments)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("train --model a --photos b", {"base.model": "a", "subject.photos": "b"}),
        ("train --steps=20 --seed -1", {"loop.steps": "20", "loop.seed": "-1"}),
        ("train --steps abc", {"loop.steps": "abc"}),
        ("train --token ''", {"subject.token": ""}),
        ("train --no-train-text-encoder --tensorboard", {"trainee.train_text_encoder": False, "output.tensorboard": True}),
        ("train --step-in-backward", {"memory.step_in_backward": True}),
        ("train --also-prior a b --also-prior c", {"prior.also_prior": ["a", "b", "c"]}),
        ("generate --prompt 'a b' 'c d'", {"sample.prompt": ["a b", "c d"]}),
        ("generate --prompt 'a b' --prompt=-c", {"sample.prompt": ["a b", "-c"]}),
        ("generate --model a --config b", {"base.model": "a", "base.config": "b"}),
        ("convert a b --dtype float16", {"source": "a", "destination": "b", "dtype": "float16"}),
        ("inspect a --token b --token c", {"model": "a", "token": ["b", "c"]}),
        ("inspect --token b a.ckpt", {"model": "a.ckpt", "token": ["b"]}),
        ("inspect --token b toybox", {"model": "toybox", "token": ["b"]}),
        ("inspect --token b owner/name --token c", {"model": "owner/name", "token": ["b", "c"]}),
        ("inspect --token b a", {"token": ["b", "a"]}),
        ("inspect a.ckpt --token b c d", {"model": "a.ckpt", "token": ["b", "c", "d"]}),
        ("train --class_word a --no-tensorboard", {"subject.class_word": "a", "output.tensorboard": False}),
        ("train --tensorboard=no --shard=on", {"output.tensorboard": False, "memory.shard": True}),
        ("generate --prompt -1 -2.5e3 --strength -inf", {"sample.prompt": ["-1", "-2.5e3"], "blend.strength": "-inf"}),
        ("convert a -- -b", {"source": "a", "destination": "-b"}),
        ("convert --destination b a", {"source": "a", "destination": "b"}),
        ("tokens", {}),
    ],
)
def test_values_stay_text(line: str, values: dict[str, Any]) -> None:
    assert _read(line) == Given(values, {})


def test_where_settings_come_from_is_no_setting() -> None:
    assert _read("train --resume runs/rex --steps 9") == Given({"loop.steps": "9"}, {"resume": "runs/rex"})
    assert _read("train --preset face") == Given({}, {"preset": "face"})


@pytest.mark.parametrize(
    ("line", "problems"),
    [
        (
            "train --stepz 3 --photso x",
            ["unknown option --stepz; did you mean --steps?", "unknown option --photso; did you mean --photos?"],
        ),
        ("train --class_wrod=x", ["unknown option --class_wrod; did you mean --class-word?"]),
        ("train --no-tensorbord", ["unknown option --no-tensorbord; did you mean --no-tensorboard?"]),
        ("train --xyzzy", ["unknown option --xyzzy"]),
        ("train -s 3", ["unknown option -s"]),
        ("train stray", ["unexpected argument 'stray'"]),
        ("convert a b c", ["unexpected argument 'c'"]),
        ("train --steps", ["--steps needs a value; if the value starts with a dash, write --steps=VALUE"]),
        ("train --steps --seed 3", ["--steps needs a value; if the value starts with a dash, write --steps=VALUE"]),
        ("generate --prompt", ["--prompt needs a value; if the value starts with a dash, write --prompt=VALUE"]),
        ("train --steps 3 --steps 4", ["--steps was given more than once"]),
        ("prior --prior-images x", ["unknown option --prior-images; did you mean --num-prior-images?"]),
        (
            "train --max_train_steps 400 --use_8bit_adam",
            [
                "unknown option --max_train_steps; did you mean --steps?",
                "unknown option --use_8bit_adam; did you mean --optimizer-states 8bit?",
            ],
        ),
        ("train --photso a b c --class-word dog", ["unknown option --photso; did you mean --photos?"]),
        (
            "train --class-word golden retriever",
            [
                "--class-word takes one value, but 2 were given ('golden', 'retriever'); if they are one text, write "
                "--class-word 'golden retriever'"
            ],
        ),
        ("train --no-compile=1", ["unknown option --no-compile; did you mean --compile?"]),
    ],
)
def test_what_is_no_flag_is_a_problem(line: str, problems: list[str]) -> None:
    assert list(_read(line).problems) == problems


@pytest.mark.parametrize(
    "wrong",
    [
        "--steps",
        "--steps 3 --steps 4",
        "--steps 3 4",
        "--tensorboard=perhaps",
        "--no-tensorboard=1",
        "--xyzzy",
        "--xyzzy=1 stray",
    ],
)
def test_one_wrong_flag_takes_no_right_one_with_it(wrong: str) -> None:
    for line in (f"train {wrong} --model a --photos b --class-word c", f"train --model a --photos b --class-word c {wrong}"):
        given = _read(line)
        assert len(given.problems) == 1
        assert {"base.model": "a", "subject.photos": "b", "subject.class_word": "c"}.items() <= given.values.items()


def test_a_pattern_that_the_shell_replaced_is_recognised(tmp_path: Path) -> None:
    names = [tmp_path / f"{number}.jpg" for number in range(5)]
    for name in names:
        name.touch()
    given = _read(f"train --photos {' '.join(map(str, names))} --class-word dog")
    assert given.values["subject.class_word"] == "dog" and given.broken == {"subject.photos"}
    (problem,) = given.problems
    assert problem.startswith("--photos takes one value, but 5 were given (")
    assert problem.endswith(f": the shell replaced a pattern such as * by names; write --photos {tmp_path}")


def test_what_was_given_in_a_wrong_way_is_not_missing_as_well() -> None:
    with pytest.raises(SettingsError) as caught:
        settings_from(VERBS["train"], records.TrainSettings, _read("train --instance_data_dir a --class-word"))
    assert caught.value.problems == (
        "--class-word needs a value; if the value starts with a dash, write --class-word=VALUE",
        "unknown option --instance_data_dir; did you mean --photos?",
        *(problem for problem in caught.value.problems if problem.startswith("--model is missing")),
    )
    assert len(caught.value.problems) == 3


def test_every_synonym_leads_to_a_flag_and_is_none() -> None:
    flags = {leaf.flag for verb in VERBS.values() for leaf in leaves(verb.record())}
    flags |= {f"--no-{leaf.flag[2:]}" for verb in VERBS.values() for leaf in leaves(verb.record()) if leaf.is_switch}
    flags |= {f"--{name}" for verb in VERBS.values() for name in verb.extra}
    assert [target for target in SYNONYMS.values() if target.split()[0] not in flags] == []
    assert [name for name in SYNONYMS if "_" in name or name != name.lower()] == []
    assert [name for name in SYNONYMS if f"--{name}" in {leaf.flag for leaf in leaves(records.TrainSettings)}] == []
    assert len(SYNONYMS) >= 40


def test_a_switch_takes_no_other_word() -> None:
    assert _read("train --tensorboard=perhaps").problems == ("--tensorboard is 'perhaps': expected true or false",)
    assert _read("train --no-tensorboard=true").problems == ("--no-tensorboard is 'true': expected no value",)


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_help_shows_every_flag_within_80_columns(
    verb: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert _read(f"{verb.name} --help").is_answered
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"Usage: dreambooth {verb.name}")
    assert verb.sentence.split(":")[0] in text
    assert verb.examples[0] in text
    for leaf in leaves(verb.record()):
        assert (f"{leaf.flag} " in text) is (leaf.name not in verb.without), leaf.flag
        if leaf.is_switch and leaf.name not in verb.without:
            assert leaf.flag.replace("--", "--no-") + " " in text


def test_help_shows_defaults_choices_and_sections(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    _read("train --help")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for piece in (
        "[default: 800]",
        "[default: runs/dreambooth]",
        "[default: on]",
        "[choices: center, random, squash, bucket, subject]",
        "[required]",
        "--no-train-text-encoder",
        "─ Subject to learn ─",
        "a built-in preset (face, lora-16gb, lora-4gb, lora-8gb, object, original, pet, "
        "sdxl-10gb, sdxl-24gb, sdxl-6gb, style, toybox)",
    ):
        assert piece in text
    assert "None" not in text


def test_a_records_own_default_of_a_section_is_shown() -> None:
    found = {leaf.name: leaf for leaf in leaves(records.PriorRecipeSettings)}
    assert str(found["prior_folder"].default) == "class-images"
    assert found["num_prior_images"].default == 200
    assert found["class_word"].is_required
    assert not found["num_prior_images"].is_required
