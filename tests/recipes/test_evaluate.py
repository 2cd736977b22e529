"""`dreambooth evaluate` on a run of a few steps: numbers, pictures and a page, and what a browser makes of it."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreambooth.cli.main import main
from dreambooth.measures.balance import best
from dreambooth.recipes.toybox import write_photos
from dreambooth.runs.events import EventLog

Capture = pytest.CaptureFixture[str]

TRAINING = [
    *("--preset", "toybox", "--class-word", "mug", "--steps", "2", "--checkpoint-steps", "1", "--batch-size", "1"),
    *("--num-prior-images", "2", "--prior-sampling-steps", "1", "--preview-steps", "0", "--validation-steps", "1"),
]
MEASURING = ["--sampling-steps", "2", "--num-images", "2", "--num-class-images", "5"]
PROMPTS = ["photo of a {token} {class_word} on the moon", "a {token} {class_word} & a <ball>"]
SCORES = ["DINO", "CLIP-I", "CLIP-T", "PRES", "drift", "DIV"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the small model, and its evaluation."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_photos("zigzag-mug", folder / "photos", num=3)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS), encoding="utf-8")
    run = folder / "runs" / "mug"
    assert main(["train", *TRAINING, "--photos", str(folder / "photos"), "--output", str(run)]) == 0
    assert main(["evaluate", "--model", str(run), "--prompts", str(folder / "prompts.txt"), *MEASURING]) == 0
    return run


@pytest.fixture
def numbers(run: Path) -> Any:
    return json.loads((run / "evaluation" / "scores.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_score_says_what_it_was_made_of(numbers: Any, run: Path) -> None:
    assert [one["name"] for one in numbers["scores"]["model"]] == SCORES
    assert [one["name"] for one in numbers["scores"]["base"]] == [name for name in SCORES if name != "drift"]
    assert [one["name"] for one in numbers["scores"]["photos"]] == ["DINO", "CLIP-I"]
    assert all(one["encoder"] for ones in numbers["scores"].values() for one in ones)
    assert all(one["low"] <= one["value"] <= one["high"] for one in numbers["scores"]["model"])
    assert numbers["prompts"] == ["photo of a sks mug on the moon", "a sks mug & a <ball>"]
    assert numbers["descriptions"] == ["photo of a mug on the moon", "a mug & a <ball>"]
    assert numbers["class_prompt"] == "photo of a mug"
    assert numbers["step"] == 2
    assert (numbers["settings"]["sampling_steps"], numbers["settings"]["guidance_scale"]) == (2, 3.0)
    assert [len(one["sha256"]) for one in numbers["photos"]] == [64] * 3
    assert {role: len(one["digest"]) for role, one in numbers["models"].items()} == {"model": 64, "base": 64}
    assert numbers["copying"]["distance"] == "the toybox judge's levels (not LPIPS)"
    assert [path.name for path in (run / "evaluation").glob(".*")] == []


@pytest.mark.slow
def test_two_steps_moved_the_class_a_little(numbers: Any) -> None:
    by_step = {int(step): {one["name"]: one["value"] for one in found["scores"]} for step, found in numbers["by_step"].items()}
    assert [*by_step] == [0, 1, 2]
    assert by_step[0]["drift"] == pytest.approx(0, abs=1e-6), "the base model is where it is"
    assert 1e-6 < by_step[1]["drift"] < 1
    assert by_step[1]["DINO"] != by_step[2]["DINO"]
    balances = {int(step): found["balance"]["value"] for step, found in numbers["by_step"].items()}
    assert numbers["best_step"]["step"] == best({step: balances[step] for step in (1, 2)})
    assert numbers["best_step"]["text"].startswith("Best step by the balance of subject, prompts and class: ")
    assert len(numbers["verdict"]) == 3


@pytest.mark.slow
def test_each_picture_is_a_file_that_says_how_it_was_made(run: Path) -> None:
    folder = run / "evaluation" / "pictures"
    assert {path.name: len(list(path.glob("*.png"))) for path in folder.iterdir()} == {
        "model": 9,
        "base": 9,
        "step-000001": 6,
    }
    with Image.open(min((folder / "base").glob("photo-of-a-sks-mug-on-the-moon-01-*.png"))) as picture:
        made = json.loads(picture.text["dreambooth"])
    assert (made["prompt"], made["index"], made["seed"]) == ("photo of a sks mug on the moon", 1, 42)


@pytest.mark.slow
def test_nothing_is_made_twice_and_only_what_changed_anew(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    before = (run / "evaluation" / "scores.json").read_bytes()
    again = ["evaluate", "--model", str(run), "--prompts", str(run.parents[1] / "prompts.txt"), *MEASURING]
    assert main(again) == 0
    said = capsys.readouterr().out
    assert (
        "2 prompts x 2 images and 5 of the class, with the model and its base model, fewer with 1 other model of the run:"
        in said
    )
    assert "24 images, 0 still to generate" in said
    assert (run / "evaluation" / "scores.json").read_bytes() == before
    (path,) = (run / "evaluation" / "pictures" / "model").glob("photo-of-a-mug-04-*.png")
    path.unlink()
    elsewhere = ["--output", str(run / "evaluation")]
    assert main([*again, *elsewhere]) == 0
    assert ", 1 still to generate" in capsys.readouterr().out
    assert path.is_file()
    assert json.loads((run / "evaluation" / "scores.json").read_bytes())["scores"] == json.loads(before)["scores"]


@pytest.mark.slow
def test_a_file_without_a_base_is_measured_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    words = ["--photos", str(run.parents[1] / "photos"), "--class-word", "mug", "--token", "sks", "--output", str(tmp_path)]
    fewer = ["--sampling-steps", "1", "--num-images", "1", "--num-class-images", "2"]
    assert main(["evaluate", "--model", str(run / "model.safetensors"), *words, *fewer]) == 0
    said = capsys.readouterr().out
    assert "8 prompts x 1 image and 2 of the class, with the model: 10 images, 10 still" in said
    found = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in found["scores"]["model"]] == ["DINO", "CLIP-I", "CLIP-T", "PRES"]
    assert (found["scores"]["base"], found["by_step"], [*found["models"]]) == (None, {}, ["model"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "In short" not in page and "base model</p>" not in page


@pytest.mark.slow
def test_the_page_tells_the_whole_story(run: Path) -> None:
    markup = (run / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert [html.unescape(title) for title in re.findall(r"<h2>(.*?)</h2>", markup)] == [
        *("In short", "The photos", "The subject", '"photo of a mug"', "Scores"),
        *("Subject by step", "Prompts by step", "Class by step", "Copies by step"),
        *("Loss on fixed noise and held-out views", "Training loss"),
        *("How often each photo was seen", "How it was measured"),
    ]
    assert markup.count("data:image/png;base64,") == 3 + 4 + 4 + 5 + 5
    assert markup.count("<svg") == 6
    assert "a sks mug &amp; a &lt;ball&gt;" in markup
    assert "learning_rate: 0.0002" in markup
    assert re.findall(r"https?:|<script", markup) == []


def test_a_file_from_elsewhere_says_what_it_needs(capsys: Capture) -> None:
    assert main(["evaluate", "--model", "rex.ckpt", "--class-word", "dog"]) == 2
    said = capsys.readouterr().err
    assert said.index("rex.ckpt: no such file or folder") < said.index("photos is missing: rex.ckpt is not a run folder")
    assert "token is missing" in said
    assert "Type: dreambooth evaluate --model rex.ckpt --photos FOLDER --class-word WORD --token WORD" in said


@pytest.mark.slow
def test_a_base_model_that_has_gone_is_asked_for(run: Path, tmp_path: Path, capsys: Capture) -> None:
    text = (run / "config.yaml").read_text(encoding="utf-8").replace("model: toybox", "model: /gone/sd.ckpt")
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "model.safetensors").symlink_to(run / "model.safetensors")
    assert main(["evaluate", "--model", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "/gone/sd.ckpt: no such file or folder" in said
    assert "if it has moved, use --base MODEL" in said


@pytest.mark.slow
def test_a_base_model_that_is_another_one_now_is_refused(run: Path, tmp_path: Path, capsys: Capture) -> None:
    other = run / "models" / "step-000001.safetensors"
    text = (run / "config.yaml").read_text(encoding="utf-8").replace("model: toybox", f"model: {other}")
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "model.safetensors").symlink_to(run / "model.safetensors")
    assert main(["evaluate", "--model", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{other}: not the model that {tmp_path} was trained from" in said
    assert f"dreambooth evaluate --model {tmp_path} --base {other}" in said
    assert not (tmp_path / "evaluation" / "pictures").exists()


@pytest.mark.slow
def test_photos_that_have_changed_and_repeat_themselves_are_told_of(run: Path, tmp_path: Path, capsys: Capture) -> None:
    photos = shutil.copytree(run.parents[1] / "photos", tmp_path / "photos")
    first, second, third = sorted(photos.iterdir())
    shutil.copy(second, first)
    third.unlink()
    write_photos("marked-ball", tmp_path / "balls", num=1)
    (tmp_path / "balls" / "marked-ball-01.png").rename(third)
    text = (run / "config.yaml").read_text(encoding="utf-8").replace(str(run.parents[1] / "photos"), str(photos))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "run" / "model.safetensors").symlink_to(run / "model.safetensors")
    (tmp_path / "prompts.txt").write_text(PROMPTS[0], encoding="utf-8")
    asked = ["evaluate", "--model", str(tmp_path / "run"), "--prompts", str(tmp_path / "prompts.txt"), "--sampling-steps", "1"]
    assert main([*asked, "--output", str(photos / "scores")]) == 2
    assert "it is inside the photo folder" in capsys.readouterr().err
    assert not (photos / "scores").exists()
    assert main([*asked, "--num-images", "1", "--num-class-images", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "file problem what to do" in said and "warning: is identical to" in said
    assert "was trained on: 1 new and 2 missing." in said
    assert "(warning above 50%)" in said and "Training photos outside this set" in said
    markup = (tmp_path / "run" / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "How often each photo was seen" not in markup, "these were not"
    assert "1, 1 image each" in markup and "measured against 3 photos" in markup


@pytest.fixture
def chosen(run: Path, tmp_path: Path) -> Path:
    """The run as if it had scored its steps and chosen the first of them: that is its final model, the second is there too."""
    folder = tmp_path / "chosen"
    (folder / "models").mkdir(parents=True)
    shutil.copy(run / "config.yaml", folder)
    for source, places in {
        "models/step-000001.safetensors": ("models/step-000001.safetensors", "model.safetensors"),
        "model.safetensors": ("models/step-000002.safetensors",),
    }.items():
        for place in places:
            os.link(run / source, folder / place)
    log = EventLog(folder / "events.jsonl")
    for step, balance in enumerate([0.5, 0.625, 0.25]):
        log.add("evaluation", step=step, balance=balance, fidelity=balance / 2, prompt=1.0, prior=None, scores={})
    text = "The final model is from step 1, whose balance is the highest"
    log.add("selection", step=2, chosen=1, best=1, text=text, balances={"1": 0.625, "2": 0.25})
    log.close()
    return folder


@pytest.mark.slow
def test_curves_run_over_the_steps_after_the_chosen_one_as_well(chosen: Path) -> None:
    fewer = ["--sampling-steps", "1", "--num-images", "1", "--num-class-images", "1"]
    prompts = chosen.parent / "prompts.txt"
    prompts.write_text(PROMPTS[0], encoding="utf-8")
    assert main(["evaluate", "--model", str(chosen), "--prompts", str(prompts), *fewer]) == 0
    found = json.loads((chosen / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    assert (found["step"], [*found["by_step"]]) == (1, ["0", "1", "2"])
    assert found["by_step"]["1"]["scores"] == found["scores"]["model"], "the same pictures"
    pictures = chosen / "evaluation" / "pictures"
    assert {path.name: len(list(path.glob("*.png"))) for path in pictures.iterdir()} == {
        "model": 2,
        "base": 2,
        "step-000002": 2,
    }
    markup = (chosen / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2>Balance by step</h2>\n<p>.*? the best step\. (.*?)</p>", markup) == [
        "The final model is from step 1, whose balance is the highest."
    ]
    assert "balance: 0.500 at step 0, 0.250 at step 2, lowest 0.250, highest 0.625; fidelity: " in markup


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the small model with two subjects, each in a folder that names it."""
    folder = tmp_path_factory.mktemp("joint")
    write_photos("zigzag-mug", folder / "photos" / "mwf" / "mug", num=3)
    write_photos("marked-ball", folder / "photos" / "sks" / "ball", num=2)
    training = [*TRAINING, "--photos", str(folder / "photos"), "--captions", "filename", "--output", str(folder / "both")]
    assert main(["train", *training]) == 0
    return folder / "both"


@pytest.mark.slow
def test_several_subjects_are_measured_at_once_and_told_apart(joint: Path, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS), encoding="utf-8")
    asked = ["evaluate", "--model", str(joint), "--prompts", str(tmp_path / "prompts.txt"), *MEASURING]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "For each of 2 subjects 2 prompts x 2 images and 5 of the class, with the model and its base model" in said
    assert ": 48 images, 48 still to generate" in said
    assert said.count("Stable Diffusion 1 from toybox on cpu") == 1, "a model is built once for all subjects"
    assert "Scores of mwf mug" in said and "sks ball: Copies: " in said
    found = json.loads((joint / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    mug, ball = found["subjects"]["mwf mug"], found["subjects"]["sks ball"]
    assert [one["prompts"][0] for one in (mug, ball)] == ["photo of a mwf mug on the moon", "photo of a sks ball on the moon"]
    assert [one["class_prompt"] for one in (mug, ball)] == ["photo of a mug", "photo of a ball"]
    assert [len(one["photos"]) for one in (mug, ball)] == [3, 2]
    assert [[one["name"] for one in each["scores"]["model"]] for each in (mug, ball)] == [SCORES, SCORES]
    assert [[*one["by_step"]] for one in (mug, ball)] == [["0", "1", "2"]] * 2
    assert found["confusion"]["encoder"] == mug["encoders"]["dino"]["name"]
    shares = found["confusion"]["shares"]
    assert {name: sum(row.values()) for name, row in shares.items()} == {"mwf mug": 1.0, "sks ball": 1.0}
    assert shares["mwf mug"]["mwf mug"] == shares["sks ball"]["sks ball"] == 1.0, "a mug and a ball, though not yet these"
    assert re.search(r"mwf mug +100% +0%", said)
    markup = (joint / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<h[12]>(.*?)</h[12]>", markup) == [
        *("Evaluation of mwf mug and sks ball", "Confusion between subjects", "mwf mug", "sks ball"),
        *("mwf mug by step", "sks ball by step", "The run"),
    ]
    assert "2 subjects, measured against 3 and 2 photos" in markup
    assert markup.count("learning_rate: 0.0002") == markup.count("<details>") == 1
    assert "sks ball: marked-ball-02.png" in markup
    alone = tmp_path / "alone"
    shutil.copytree(joint / "evaluation" / "pictures", alone / "pictures")
    assert main([*asked, "--token", "sks", "--output", str(alone)]) == 0
    assert "24 images, 0 still to generate" in capsys.readouterr().out
    assert json.loads((alone / "scores.json").read_text(encoding="utf-8")) == ball


def browser() -> str | None:
    """A Chromium on this machine, or one that Playwright brought."""
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    brought = Path.home() / ".cache" / "ms-playwright"
    return next(iter([*found, *map(str, sorted(brought.glob("chromium-*/chrome-linux*/chrome")))]), None)


def seen(page: Path, scheme: str, folder: Path) -> np.ndarray:
    """The page as a browser without a network shows it, light or dark."""
    program, picture = browser(), folder / f"{scheme}.png"
    assert program is not None
    preferred = {"dark": 0, "light": 1}[scheme]
    command = [
        *(program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder / scheme}"),
        *(f"--blink-settings=preferredColorScheme={preferred}", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *("--window-size=900,1600", f"--screenshot={picture}", page.as_uri()),
    ]
    subprocess.run(command, capture_output=True, check=True, timeout=60, env={**os.environ, "HOME": str(folder)})
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.slow
@pytest.mark.skipif(browser() is None, reason="there is no browser")
def test_a_browser_shows_it_in_light_and_in_dark(run: Path, tmp_path: Path) -> None:
    light, dark = (seen(run / "evaluation" / "report.html", scheme, tmp_path) for scheme in ("light", "dark"))
    assert light.shape == dark.shape == (1600, 900, 3)
    assert light[3, 3].min() > 240 and dark[3, 3].max() < 40, "paper"
    assert light[:400].min() < 60 and dark[:400].max() > 200, "ink"
    photos = [np.abs(one[400:].astype(int) - one[3, 3].astype(int)).max(axis=2) > 60 for one in (light, dark)]
    assert all(0.05 < share.mean() < 0.9 for share in photos), "pictures and words, and room around them"
    colours = {tuple(colour) for colour in light[400:].reshape(-1, 3)[::7].tolist()}
    assert len(colours) > 500, "photos have many colours"
