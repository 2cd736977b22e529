"""Names that are not UTF-8, names in any alphabet, and consoles that show neither."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dreambooth.runs.folder import RunFolder
from dreambooth.training.checkpoints import find_checkpoints

Command = Callable[..., subprocess.CompletedProcess[str]]

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such names")

SHORT = ("--prior-weight", 0, "--preview-steps", 0, "--validation-steps", 0)


def _named(folder: Path, photos: Path, *names: str) -> Path:
    """The photos under other names; bytes that are not UTF-8 are given as surrogates."""
    folder.mkdir(parents=True)
    for photo, name in zip(sorted(photos.glob("*.jpg")), names, strict=True):
        shutil.copy(photo, folder / name)
    return folder


def _run(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command with raw bytes as its output, in an environment of its own."""
    command = [sys.executable, "-m", "dreambooth", *map(str, arguments)]
    changed = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, check=False, timeout=240, cwd=cwd, env=changed)


@linux_only
@pytest.mark.slow
def test_names_that_are_not_utf8_train_and_resume(small_model: Path, photos: Path, tmp_path: Path) -> None:
    folder = _named(tmp_path / "f\udce9te", photos, "\udce9t\udce9.jpg", "plain.jpg", "\udc83n\udc83C.jpg")
    (folder / "\udce9t\udce9.txt").write_text("a {token} {class_word} at the sea", encoding="utf-8")
    shutil.copy(small_model, tmp_path / "mod\udce8le.safetensors")
    run = RunFolder(tmp_path / "r\udce9")
    training = ("train", "--model", "mod\udce8le.safetensors", "--photos", folder, "--class-word", "dog", *SHORT)
    done = _run(*training, "--steps", 2, "--checkpoint-steps", 1, "--output", run.path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert rb"dreambooth generate --model $'" in done.stdout and rb"r\xe9'" in done.stdout
    assert b"r?/model.safetensors" in done.stdout
    assert [checkpoint.step for checkpoint in find_checkpoints(run)] == [1, 2]
    assert any("\udce9t\udce9.jpg" in name for name in find_checkpoints(run)[-1].made_of)
    shutil.rmtree(run.checkpoint_at(2))
    run.final_model.unlink()
    again = _run("train", "--resume", run.path, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert b"Resuming from step 1" in again.stdout and run.final_model.exists()
    made = _run("generate", "--model", run.path, "--prompt", "a dog", "--num-images", 1, "--sampling-steps", 1, cwd=tmp_path)
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.mark.slow
@linux_only
def test_a_name_that_is_not_utf8_makes_no_caption(small_model: Path, photos: Path, tmp_path: Path) -> None:
    folder = _named(tmp_path / "photos", photos, "1@S in a caf\udce9.jpg", "2.jpg", "3.jpg")
    given = ("--model", small_model, "--photos", folder, "--class-word", "dog", "--captions", "filename", *SHORT)
    done = _run("train", *given, "--output", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 1
    assert b"1@S in a caf?.jpg: has a name that is not UTF-8, so no caption can be read from it." in done.stderr
    assert b"Traceback" not in done.stderr


@linux_only
@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "--model", "toybox", "--prompt", "a caf\udce9"),
        ("generate", "--model", "toybox", "--prompt", "a cup", "--negative-prompt", "caf\udce9"),
        ("prior", "--model", "toybox", "--class-word", "caf\udce9"),
        ("inspect", "--token", "caf\udce9"),
    ],
)
def test_text_that_is_not_utf8_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = _run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert b"caf\\udce9' is not text in UTF-8" in done.stderr


CONSOLES = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "cp932"},
    pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, marks=linux_only),
]


@pytest.mark.slow
@pytest.mark.parametrize("environment", CONSOLES)
def test_every_console_shows_what_it_can(environment: dict[str, str], small_model: Path, photos: Path, tmp_path: Path) -> None:
    folder = _named(tmp_path / "фото 🐕", photos, "Üç köpek.jpg", "狗 (1).jpg", "e\u0301te\u0301.jpg")
    (folder / "notes.txt").write_text("no image has this name", encoding="utf-8")
    training = ("train", "--model", small_model, "--photos", folder, "--class-word", "犬", "--token", "ßü", *SHORT)
    done = _run(*training, "--steps", 1, "--output", tmp_path / "犬 run", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "犬 run" / "model.safetensors").is_file()
    prompt = ("--prompt", "a 狗 😀", "--num-images", 1, "--sampling-steps", 1)
    made = _run("generate", "--model", small_model, *prompt, "--output", "bilder ü", cwd=tmp_path, **environment)
    assert made.returncode == 0, made.stdout + made.stderr
    assert [path.name for path in (tmp_path / "bilder ü").iterdir()] == ["00000-a-狗.png"]
