"""The model that ships: every verb takes it as it takes a full-size file, and its pictures show what was asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dreambooth.display import Display
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.untrained import untrained_clip
from dreambooth.files import partial_of
from dreambooth.recipes.convert import convert
from dreambooth.recipes.toybox import render_sheet, write_photos
from dreambooth.runs.remembered import check_remembered
from dreambooth.schema.presets import toybox_training
from dreambooth.schema.verbs import ConvertSettings, SheetSettings, TrainSettings
from dreambooth.toybox.files import CLIP_FILE, EMBEDDED_MODEL_FILE, JUDGE_FILE
from dreambooth.toybox.judge import load_judge
from dreambooth.toybox.render import render
from dreambooth.toybox.world import CLASSES, COLOURS, PLACES
from dreambooth.weights import read
from dreambooth.weights.read import model_name, read_model
from dreambooth.weights.settings import BaseModelSettings
from experiments.toybox import subjects as toybox_subjects
from experiments.toybox.clip import PROJECTION, VISION, voice
from experiments.toybox.count import asked_prompts, count, judge_on_renderings
from experiments.toybox.pictures import PictureSet, to_pixels
from experiments.toybox.settings import CountSettings, SubjectsSettings
from experiments.toybox.subjects import MEASURES, measure_subjects

Command = Callable[..., subprocess.CompletedProcess[str]]


def toybox(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dreambooth", "toybox", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture(scope="module")
def photographed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos of a subject."""
    folder = tmp_path_factory.mktemp("toybox")
    rendered = toybox("photos", "--subject", "zigzag-mug", "--output", "photos", "--num-photos", 4, cwd=folder)
    assert rendered.returncode == 0, rendered.stderr
    assert "dreambooth train --preset toybox --photos photos --class-word mug" in rendered.stdout
    return folder


@pytest.fixture(scope="module")
def learned(photographed: Path, dreambooth: Command) -> Path:
    """The same folder with a run that has seen them twice."""
    folder = photographed
    few = ("--steps", 2, "--num-prior-images", 2, "--prior-sampling-steps", 2, "--preview-steps", 0)
    done = dreambooth(
        "train", "--model", "toybox", "--photos", "photos", "--class-word", "mug", *few, "--output", "runs/mug", cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "learns almost nothing at learning rate 1e-06: use --preset toybox" in done.stdout
    assert "at 64 px" in done.stdout
    return folder


def test_photos_are_pngs_of_the_subject(photographed: Path) -> None:
    photos = sorted((photographed / "photos").iterdir())
    assert [photo.name for photo in photos] == [f"zigzag-mug-0{number}.png" for number in (1, 2, 3, 4)]
    with Image.open(photos[0]) as photo:
        assert photo.size == (128, 128)


@pytest.mark.slow
def test_a_run_on_it_makes_pictures_of_its_own_size_and_goes_on(learned: Path, dreambooth: Command) -> None:
    made = dreambooth(
        "generate",
        "--model",
        "runs/mug",
        "--prompt",
        "photo of a sks mug",
        "--sampling-steps",
        2,
        "--num-images",
        1,
        cwd=learned,
    )
    assert made.returncode == 0, made.stderr
    with Image.open(next((learned / "pictures").glob("*.png"))) as picture:
        assert picture.size == (64, 64)
    more = dreambooth("train", "--resume", "runs/mug", "--steps", 3, cwd=learned)
    assert more.returncode == 0, more.stderr
    assert "Resuming from step 2" in more.stdout
    config = (learned / "runs" / "mug" / "config.yaml").read_text(encoding="utf-8")
    assert "model: toybox\n" in config


@pytest.mark.slow
def test_the_preset_names_the_model(learned: Path, dreambooth: Command) -> None:
    few = ("--steps", 1, "--num-prior-images", 1, "--prior-sampling-steps", 1, "--preview-steps", 0)
    done = dreambooth(
        "train", "--preset", "toybox", "--photos", "photos", "--class-word", "mug", *few, "--output", "runs/preset", cwd=learned
    )
    assert done.returncode == 0, done.stderr
    assert "from toybox" in done.stdout
    assert "learns almost nothing" not in done.stdout


@pytest.mark.slow
def test_it_is_inspected_like_any_file(dreambooth: Command, tmp_path: Path) -> None:
    done = dreambooth("inspect", "toybox", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Stable Diffusion 1" in done.stdout
    assert EMBEDDED_MODEL_FILE.stat().st_size < 40 * 2**20


@pytest.mark.slow
def test_converted_it_opens_in_diffusers(dreambooth: Command, tmp_path: Path) -> None:
    done = dreambooth("convert", "toybox", "folder", "--to", "diffusers", "--dtype", "float32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "folder", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("photo of a red car", num_inference_steps=2).images[0]
    assert picture.size == (64, 64)


def test_the_forty_prompts_cover_every_word_evenly() -> None:
    asked = asked_prompts()
    assert len({one.prompt for one in asked}) == 40
    for name, words, times in (("class", CLASSES, 4), ("primary", COLOURS, 5), ("place", PLACES, 5)):
        assert {word: sum(one.right[name] == word for one in asked) for word in words} == dict.fromkeys(words, times)
    for word in CLASSES:
        of_class = [one.right for one in asked if one.right["class"] == word]
        assert len({right["primary"] for right in of_class}) == len({right["place"] for right in of_class}) == 4
    assert "photo of an orange" in " ".join(one.prompt for one in asked)


@pytest.mark.slow
def test_the_judge_reads_renderings_it_has_never_seen() -> None:
    """At least 97% of what it is asked about pictures of the forty prompts; more of them than docs/dev/toybox.md needs."""
    shares = judge_on_renderings(load_judge(JUDGE_FILE))
    assert set(shares) == {"class", "place", "primary"}
    assert min(shares.values()) >= 0.97, shares


@pytest.mark.slow
def test_clip_is_whole_and_finds_class_and_place_of_renderings() -> None:
    """The picture side that ships fits the model's own text encoder."""
    model = read_model("toybox")
    clip = untrained_clip(model.family, vision=VISION, projection=PROJECTION, seed=0)
    stored = load_file(CLIP_FILE)
    picture_side = {name.removeprefix("clip."): tensor.float() for name, tensor in stored.items() if name.startswith("clip.")}
    text_side = {f"text_model.{name}": tensor.float() for name, tensor in model.parts["text_encoder"].items()}
    missing = clip.load_state_dict({**picture_side, **text_side}, strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == ([], [])
    pictures = PictureSet(Path("unused"), 100, 64, seed=987654)
    rendered = torch.stack([torch.from_numpy(render(pictures.record(k).scene, 64)) for k in range(pictures.num)])
    labels, tokenizer = pictures.labels(), model.family.load_tokenizer()
    prompts = {
        "class": [f"photo of a {word}" for word in CLASSES],
        "place": [f"photo of a mug {words}" for words in PLACES.values()],
    }
    for name, texts in prompts.items():
        with torch.no_grad():
            found = clip(input_ids=model.family.tokenize(tokenizer, texts), pixel_values=to_pixels(rendered))
        share = (found.logits_per_image.argmax(dim=1) == labels[name]).float().mean()
        assert share >= 0.85, name


@pytest.mark.parametrize("token", ["sks", "mwf"])
def test_rare_words_are_heard(token: str) -> None:
    """A subject's word must change what the UNet is told, though no caption ever held it."""
    components = read_model("toybox").build(dtype=torch.float32)
    captions = [f"photo of a {token} container", "photo of a container"]
    with torch.no_grad():
        ids = components.family.tokenize(components.tokenizer, captions)
        with_word, without = components.family.encode_text(components.parts, ids).states_BLD
    assert voice(with_word, without) > 0.4


@pytest.mark.slow
def test_words_are_obeyed(tmp_path: Path, display: Display) -> None:
    """A fortieth of what docs/dev/toybox.md measures: one picture of every prompt, in few steps, and so with wide limits."""
    shares = count(CountSettings(num_images=1, sampling_steps=10, output=tmp_path), display)
    stored = json.loads((tmp_path / "shares.json").read_text(encoding="utf-8"))
    assert {name: stored[name] for name in shares} == shares
    assert stored["model"] == "toybox"
    assert (tmp_path / "sheet.png").is_file()
    assert shares["place"] >= 0.8
    assert shares["class"] >= 0.6
    assert shares["primary"] >= 0.6


@pytest.mark.slow
def test_subjects_are_measured_and_what_is_done_is_not_done_again(
    tmp_path: Path, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shortened(*, prior: Mapping[str, object], **changes: Mapping[str, object]) -> TrainSettings:
        few = {"num_prior_images": 2, "prior_sampling_steps": 2} if prior["prior_weight"] else {}
        return toybox_training(prior={**prior, **few}, **changes)

    monkeypatch.setattr(toybox_subjects, "toybox_training", shortened)
    monkeypatch.setattr(toybox_subjects, "_OPTIONS", replace(toybox_subjects._OPTIONS, steps=8))
    asked = SubjectsSettings(subjects=("zigzag-mug",), steps=1, output=tmp_path)
    rows = measure_subjects(asked, display)
    assert [row["condition"] for row in rows] == ["held-out photos", "base model", "prior weight 1", "prior weight 0"]
    assert all(set(row) == {"condition", *MEASURES} for row in rows[1:])
    assert float(rows[0]["subject"]) >= 0.8
    base = next(row for row in rows if row["condition"] == "base model")
    assert float(base["class"]) >= 0.5
    kept = tmp_path / "zigzag-mug" / "prior-1" / "judged.json"
    changed = {**json.loads(kept.read_text(encoding="utf-8")), "subject": 0.123}
    kept.write_text(json.dumps(changed), encoding="utf-8")
    assert measure_subjects(asked, display)[2]["subject"] == pytest.approx(0.123)
    with pytest.raises(SettingsError, match=r"steps is 2, and .*asked\.json says 1"):
        measure_subjects(asked.model_copy(update={"steps": 2}), display)


def test_a_folder_answers_one_question_only(tmp_path: Path) -> None:
    path = tmp_path / "asked.json"
    check_remembered(path, {"steps": None, "rate": 0.1}, hint="Elsewhere.")
    check_remembered(path, {"steps": None, "rate": 0.1}, hint="Elsewhere.")
    with pytest.raises(SettingsError, match=r"rate is 0\.2, and .*asked\.json says 0\.1") as caught:
        check_remembered(path, {"steps": None, "rate": 0.2}, hint="Elsewhere.")
    assert (len(caught.value.problems), caught.value.hint) == (1, "Elsewhere.")


@pytest.mark.slow
def test_a_subject_that_is_not_there_is_told(tmp_path: Path, display: Display) -> None:
    with pytest.raises(SettingsError, match="unknown subject zebra; expected banded-container"):
        measure_subjects(SubjectsSettings(subjects=("zebra",), output=tmp_path), display)
    done = toybox("photos", "--subject", "zebra", cwd=tmp_path)
    assert done.returncode == 2
    assert "subject is 'zebra': expected a whole number or one of banded-container" in done.stderr


def test_photos_of_two_subjects_do_not_mix(tmp_path: Path) -> None:
    write_photos("zigzag-mug", tmp_path, num=1)
    write_photos("zigzag-mug", tmp_path, num=1)
    with pytest.raises(SettingsError, match=r"it already holds zigzag-mug-01\.png"):
        write_photos("1234", tmp_path, num=1)


def test_what_a_killed_program_left_of_a_photo_is_removed(tmp_path: Path) -> None:
    partial = partial_of(tmp_path / "banded-container-01.png", "a448d557a2a9")
    partial.write_bytes(b"half a photo")
    (path,) = write_photos("banded-container", tmp_path, num=1, side=16)
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_of_the_wrong_kind_is_told_before_anything_is_made(tmp_path: Path, display: Display) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for attempt in (
        lambda: write_photos("zigzag-mug", tmp_path / "file", num=1),
        lambda: count(CountSettings(output=tmp_path / "file"), display),
    ):
        with pytest.raises(SettingsError, match="expected a folder, found a file"):
            attempt()
    (tmp_path / "folder.png").mkdir()
    for output in ("folder.png", "world.txt"):
        with pytest.raises(SettingsError, match=f"output is .*{output}: expected the name of a PNG file"):
            render_sheet(SheetSettings(output=tmp_path / output), display)


def test_a_file_that_is_no_judge_is_told(tmp_path: Path, display: Display) -> None:
    (tmp_path / "text").write_text("no weights", encoding="utf-8")
    wrong = {
        tmp_path / "none": "expected the weights of the judge",
        tmp_path: "expected the weights of the judge",
        tmp_path / "text": "cannot be read as a .safetensors file",
        CLIP_FILE: "the tensors do not match the judge",
    }
    for path, message in wrong.items():
        with pytest.raises(ModelFileError, match=message) as caught:
            count(CountSettings(judge=path, output=tmp_path / "out"), display)
        assert "python -m experiments.toybox train" in str(caught.value.hint)


def test_the_judge_refuses_pictures_of_another_size(golden_checkpoint: Path, tmp_path: Path, display: Display) -> None:
    base = BaseModelSettings(model=str(golden_checkpoint))
    with pytest.raises(SettingsError, match="makes images of 512 pixels, but the judge expects 64 pixels"):
        count(CountSettings(base=base, output=tmp_path), display)


def test_a_ckpt_cannot_say_its_size(tmp_path: Path, display: Display, said: Callable[[], str]) -> None:
    convert(ConvertSettings(source="toybox", destination=tmp_path / "toybox.ckpt"), display)
    assert "A .ckpt file cannot record the model's resolution of 64 px: generate with --width 64 --height 64" in said()
    assert read_model(str(tmp_path / "toybox.ckpt")).family.resolution == 512


def test_a_run_called_toybox_is_not_taken_for_the_model_that_ships() -> None:
    assert model_name(Path("toybox")) == "./toybox"
    assert model_name(Path("runs/toybox")) == "runs/toybox"


def test_when_the_weights_are_missing_the_message_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(read, "EMBEDDED_MODEL_FILE", tmp_path / "gone.safetensors")
    with pytest.raises(ModelFileError, match=r"gone.safetensors: the bundled model \(toybox\) is missing"):
        read_model("toybox")
