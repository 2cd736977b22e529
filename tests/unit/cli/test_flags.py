"""Arguments are taken apart into what was given, and nothing about their values is decided."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from dreambooth.cli.flags import Given, read_arguments
from dreambooth.cli.verbs import VERBS
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
        ("inspect --token b a", {"model": "a", "token": ["b"]}),
        ("tokens", {}),
    ],
)
def test_values_stay_text(line: str, values: dict[str, Any]) -> None:
    assert _read(line) == Given(values, {})


def test_where_settings_come_from_is_no_setting() -> None:
    assert _read("train --resume runs/rex --steps 9") == Given({"loop.steps": "9"}, {"resume": "runs/rex"})
    assert _read("train --preset faces") == Given({}, {"preset": "faces"})


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
    ],
)
def test_what_is_no_flag_is_a_problem(line: str, problems: list[str]) -> None:
    assert list(_read(line).problems) == problems


def test_a_switch_takes_no_other_word() -> None:
    assert [*_read("train --tensorboard=perhaps").problems] == [
        'Invalid value for --tensorboard: unable to convert "perhaps" into bool.'
    ]


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
    _read("train -h")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for piece in (
        "[default: 800]",
        "[default: runs/dreambooth]",
        "[default: on]",
        "[choices: center, random, squash]",
        "[required]",
        "--no-train-text-encoder",
        "─ Subject to learn ─",
        "a built-in preset (faces, original, toybox)",
    ):
        assert piece in text
    assert "None" not in text


def test_a_records_own_default_of_a_section_is_shown() -> None:
    found = {leaf.name: leaf for leaf in leaves(records.PriorRecipeSettings)}
    assert str(found["prior_folder"].default) == "class-images"
    assert found["num_prior_images"].default == 200
    assert found["class_word"].is_required
    assert not found["num_prior_images"].is_required
