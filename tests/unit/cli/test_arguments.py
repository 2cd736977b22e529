"""A mistake costs only its own flag: what else was typed is read, and nothing that was typed is called missing."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.verbs import VERBS
from dreambooth.errors import SettingsError

REQUIRED = "--model a --photos b --class-word dog"


def _problems(line: str) -> list[str]:
    name, *arguments = shlex.split(line)
    verb = VERBS[name]
    record = verb.record()
    with pytest.raises(SettingsError) as caught:
        settings_from(verb, record, read_arguments(verb, record, arguments))
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("line", "problems"),
    [
        (f"train {REQUIRED} --model c --model d", ["--model was given more than once"]),
        (f"train --steps 3 --steps 4 {REQUIRED}", ["--steps was given more than once"]),
        ("generate --model a --prompt b --steps 3 --sampling-steps 4", ["--sampling-steps was given more than once"]),
        (f"train {REQUIRED} --preset toybox --preset face", ["--preset was given more than once"]),
        (f"train {REQUIRED} --tensorboard --no-tensorboard", ["--no-tensorboard was given more than once"]),
        (f"train {REQUIRED} --steps", ["--steps needs a value; if the value starts with a dash, write --steps=VALUE"]),
        (f"train {REQUIRED} --crop --steps 3", ["--crop needs a value: center, random, squash, bucket, subject"]),
        (
            "train --model a --photos --class-word dog",
            ["--photos needs a value; if the value starts with a dash, write --photos=VALUE"],
        ),
        ("generate --model a --prompt", ["--prompt needs a value; if the value starts with a dash, write --prompt=VALUE"]),
        (f"train {REQUIRED} --xyzzy 1 2 3", ["unknown option --xyzzy"]),
        ("train --model a --phtos b --class-word dog", ["unknown option --phtos; did you mean --photos?"]),
        ("generate --model a --promtp 'a b'", ["unknown option --promtp; did you mean --prompt?"]),
        ("convert --dtpe float16 a b", ["unknown option --dtpe; did you mean --dtype?"]),
        ("convert --overwrite a b", ["unknown option --overwrite"]),
        (
            "train --model a \u2014photos b --class-word dog",
            ["unknown option \u2014photos; it starts with a long dash instead of two hyphens; did you mean --photos?"],
        ),
        ("train --model a --photos= b --class-word dog", ["--photos= is followed by a space; write --photos b"]),
        (
            f"train {REQUIRED} --train-text-encoder true",
            [
                "unexpected argument 'true'; --train-text-encoder takes no value: write --train-text-encoder or "
                "--no-train-text-encoder"
            ],
        ),
        (f"train {REQUIRED} --steps 3 4", ["--steps takes one value, but 2 were given ('3', '4')"]),
        (
            "train --model a --photos my photos/rex --class-word big dog",
            [
                "--photos takes one value, but 2 were given ('my', 'photos/rex'); if they are one text, write --photos "
                "'my photos/rex'",
                "--class-word takes one value, but 2 were given ('big', 'dog'); if they are one text, write --class-word "
                "'big dog'",
            ],
        ),
        (
            f"train {REQUIRED} --steps 3 --steps 4 --stepz 5 --batch-size 0",
            [
                "--steps was given more than once",
                "unknown option --stepz; did you mean --steps?",
                "--batch-size is '0': expected at least 1",
            ],
        ),
    ],
)
def test_only_what_is_wrong_is_reported(line: str, problems: list[str]) -> None:
    assert _problems(line) == problems


@pytest.mark.parametrize("flag", ["photos", "prior-images", "prior-folder", "output"])
def test_a_shells_star_after_a_folders_flag_is_explained(tmp_path: Path, flag: str) -> None:
    folder = tmp_path / "my rex"
    folder.mkdir()
    names = [folder / f"{letter}.jpg" for letter in "abcd"]
    for name in names:
        name.touch()
    given = "--model a --class-word dog" if flag == "photos" else REQUIRED
    (problem,) = _problems(f"train {given} --{flag} {shlex.join(map(str, names))}")
    assert problem.startswith(f"--{flag} takes one value, but 4 were given ('{names[0]}', ")
    assert problem.endswith(f": the shell replaced a pattern such as * by names; write --{flag} '{folder}'")


def test_a_star_in_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    (problem,) = _problems("train --model m --class-word dog --photos a.jpg b.jpg")
    assert problem.endswith("; write --photos .")


def test_a_star_that_matches_several_folders_or_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photos/ada/1.jpg", "photos/rex/1.jpg", "ada.ckpt", "rex.ckpt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    (problem,) = _problems("train --model m --class-word dog --photos photos/ada photos/rex")
    assert problem.endswith("; give one of them")
    (problem,) = _problems("train --model m --class-word dog --photos photos/ada/1.jpg photos/rex/1.jpg")
    assert problem.endswith("; give one of them")
    (problem,) = _problems("train --model ada.ckpt rex.ckpt --class-word dog --photos photos")
    assert problem.startswith("--model takes one value, but 2 were given") and problem.endswith("; give one of them")
    (problem,) = _problems("inspect ada.ckpt rex.ckpt")
    assert problem.startswith("dreambooth inspect takes MODEL, but 2 names were given, from ada.ckpt to rex.ckpt; the shell")


@pytest.mark.parametrize("photos", ["'b/*'", "='b/*.jpg'", "'b/*/*'", "'b/IMG_*'"])
def test_a_star_that_no_shell_replaced(photos: str) -> None:
    typed = f"--photos{photos}" if photos.startswith("=") else f"--photos {photos}"
    (problem,) = _problems(f"train --model m --class-word dog {typed}")
    pattern = photos.strip("='")
    assert problem == f"--photos is {pattern!r}: expected one folder, found a pattern; write --photos b"


@pytest.mark.parametrize("flag", ["--steps", "--sampling-steps", "--sampling_steps"])
def test_the_former_name_of_a_flag_still_works(flag: str) -> None:
    verb = VERBS["generate"]
    record = verb.record()
    given = read_arguments(verb, record, ["--model", "a", "--prompt", "b", flag, "7"])
    assert settings_from(verb, record, given).sample.sampling_steps == 7
