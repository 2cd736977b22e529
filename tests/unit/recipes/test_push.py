"""What is published of a run: its model, a card, pictures and settings, and nothing of the machine or the photos."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from dreambooth.config import parse_settings, write_yaml
from dreambooth.display import Display
from dreambooth.errors import RunError, SettingsError
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.files import without_paths
from dreambooth.pages.images import save_picture
from dreambooth.recipes import push as recipe
from dreambooth.schema.verbs import TrainSettings
from dreambooth.weights.embedding_file import WORD, write_embedding_file
from dreambooth.weights.safetensors_file import read_safetensors
from dreambooth.weights.settings import PushSettings
from dreambooth.weights.subjects import SUBJECTS

MakeSettings = Callable[..., TrainSettings]
SCORE = {"name": "DINO", "value": 0.61, "low": 0.5, "high": 0.7, "encoder": "dino"}


@pytest.fixture
def make_run(run_settings: MakeSettings, tmp_path: Path) -> Callable[..., Path]:
    """A finished run, as far as publishing reads it."""

    def make(architecture: str = "stable-diffusion-v1", model: str = "owner/base") -> Path:
        settings = run_settings(base={"model": model})
        run = settings.output.output
        run.mkdir(parents=True)
        write_yaml(run / "config.yaml", settings, comment="a run")
        metadata = {
            "modelspec.architecture": architecture,
            "global_step": "3",
            SUBJECTS: json.dumps([{"token": "sks", "class_word": "dog", "prompt": "photo of a sks dog | <b>"}]),
            "dreambooth.config": json.dumps(without_paths(settings.model_dump())),
            "dreambooth.made_of": json.dumps({"base model": "0", "photo 0 (a.jpg)": "1", "photo 1 (b.jpg)": "2"}),
        }
        save_file({"weight": torch.zeros(2)}, run / "model.safetensors", metadata)
        for step in (2, 4):
            (run / "previews" / f"step-{step:06d}").mkdir(parents=True)
            text = {"dreambooth": json.dumps({"prompt": f"a sks dog at {step}"})}
            save_picture(run / "previews" / f"step-{step:06d}" / "00-a.png", torch.zeros(3, 8, 8), text)
        (run / "evaluation").mkdir()
        scores = {"scores": {"model": [SCORE], "base": [{**SCORE, "value": 0.2}]}, "token": "sks", "class_word": "dog"}
        (run / "evaluation" / "scores.json").write_text(json.dumps(scores))
        return run

    return make


def asked(run: Path, **more: Any) -> PushSettings:
    return parse_settings(PushSettings, {"run": str(run), "repo": "me/rex", **more}, where="test")


def test_a_dry_run_writes_what_would_be_published(
    make_run: Callable[..., Path], tmp_path: Path, display: Display, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    monkeypatch.setattr(recipe, "was_fetched", lambda name: name == "owner/base")
    result = recipe.push(asked(run, dry_run=True), display)
    folder = run / "push"
    names = ("README.md", "model.safetensors", "settings.yaml", "pictures/00-a.png")
    assert result.files == names and result.place == str(folder)
    assert (folder / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    card = (folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {
        "license": "creativeml-openrail-m",
        "base_model": "owner/base",
        "pipeline_tag": "text-to-image",
        "tags": ["text-to-image", "stable-diffusion", "dreambooth"],
        "instance_prompt": "photo of a sks dog | <b>",
    }
    assert "# rex\n" in card
    assert "Fine-tuned Stable Diffusion 1, trained from owner/base for 3 steps on 2 photos." in card
    assert "- sks dog\n" in card and "- photo of a sks dog \\| \\<b\\>\n" in card
    assert "| ![](pictures/00-a.png) | a sks dog at 4 |" in card
    assert "| sks dog | DINO | 0.610 [0.50, 0.70] | 0.200 [0.50, 0.70] |" in card
    assert "The original weights of Stable Diffusion 1 have this license" in card
    assert yaml.safe_load((folder / "settings.yaml").read_text())["loop"]["steps"] == 4
    texts = card + (folder / "settings.yaml").read_text()
    assert str(tmp_path) not in texts and "a.jpg" not in texts
    assert "Nothing was published. What would be, 4 files, is in" in said()


def test_a_second_dry_run_needs_no_other_folder_and_loses_nothing(make_run: Callable[..., Path], display: Display) -> None:
    """It was refused: the folder that the first one had chosen itself was not empty."""
    run = make_run()
    again = [recipe.push(asked(run, dry_run=True, license="mit"), display).place for _ in range(2)]
    assert again == [str(run / "push")] * 2
    (run / "push" / "README.md").write_text("a card of one's own")
    edited = [recipe.push(asked(run, dry_run=True, license="mit"), display).place for _ in range(2)]
    assert edited == [str(run / "push-2")] * 2
    assert (run / "push" / "README.md").read_text() == "a card of one's own"
    with pytest.raises(RunError, match="push: is not empty"):
        recipe.push(asked(run, dry_run=True, license="mit", output=str(run / "push")), display)


def test_a_run_is_published_as_the_dry_run_says(
    make_run: Callable[..., Path], tmp_path: Path, display: Display, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, given = make_run("stable-diffusion-xl-v1-base/lora", "toybox"), dict[str, Any]()

    def upload(files: Mapping[str, Path | bytes], repo: str, *, private: bool, message: str) -> str:
        given.update(files=files, repo=repo, private=private, message=message)
        return "https://huggingface.co/me/rex"

    monkeypatch.setattr(recipe, "upload", upload)
    assert recipe.push(asked(run), display).place == "https://huggingface.co/me/rex"
    assert (given["repo"], given["private"], given["message"]) == ("me/rex", True, "Add dog")
    assert given["files"]["model.safetensors"] == run / "model.safetensors"
    card = given["files"]["README.md"].decode()
    assert "LoRA for Stable Diffusion XL, trained from toybox" in card and "- lora\n" in card
    assert "license: apache-2.0" in card and "base_model" not in card
    assert "Published 4 files privately: https://huggingface.co/me/rex" in said()
    assert not (run / "push").exists()


def test_what_cannot_be_published(make_run: Callable[..., Path], tmp_path: Path, display: Display) -> None:
    with pytest.raises(RunError, match=r"not a run, config\.yaml is missing"):
        recipe.push(asked(tmp_path), display)
    with pytest.raises(RunError, match=r"nothere: no such folder\nGive the --output folder of a training"):
        recipe.push(asked(tmp_path / "nothere"), display)
    run = make_run("another")
    with pytest.raises(SettingsError, match="the license of the base model is not known"):
        recipe.push(asked(run), display)
    card = recipe.push(asked(run, license="mit", dry_run=True, output=str(tmp_path / "out")), display)
    assert "mit. Chosen by the publisher" in (Path(card.place) / "README.md").read_text()
    (run / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"has no model\.safetensors to publish"):
        recipe.push(asked(run), display)


def test_a_dry_run_takes_no_file_for_its_folder(make_run: Callable[..., Path], display: Display) -> None:
    run = make_run()
    (run / "push").write_text("my notes")
    assert recipe.push(asked(run, dry_run=True), display).place == str(run / "push-2")
    with pytest.raises(RunError, match=r"push: is a file, not a folder\nRemove it, or choose another --output"):
        recipe.push(asked(run, dry_run=True, output=str(run / "push")), display)
    assert (run / "push").read_text() == "my notes"


def test_the_card_is_called_as_the_repository_is(make_run: Callable[..., Path], display: Display) -> None:
    run = make_run()
    run = run.rename(run.with_name("1"))
    card = Path(recipe.push(asked(run, dry_run=True), display).place) / "README.md"
    assert "\n# rex\n" in card.read_text()


@pytest.mark.parametrize("repo", ["rex", "a/b/c", "../rex", "me/rex\n"])
def test_repositories_have_an_owner_and_a_name(repo: str) -> None:
    with pytest.raises(SettingsError, match="expected owner/name"):
        asked(Path("run"), repo=repo)
    with pytest.raises(SettingsError, match="output would have no effect without dry_run"):
        asked(Path("run"), output="out")


def test_damaged_scores_and_metadata_are_no_traceback(make_run: Callable[..., Path], display: Display) -> None:
    run = make_run()
    scores = run / "evaluation" / "scores.json"
    for damaged in ("{", "[]", '{"scores": {"model": [1]}}', '{"subjects": {"a": {}}}'):
        scores.write_text(damaged)
        with pytest.raises(RunError, match=r"scores\.json"):
            recipe.push(asked(run, dry_run=True), display)
    scores.unlink()
    save_file({"weight": torch.zeros(2)}, run / "model.safetensors", {SUBJECTS: '["a", {"token": 1}]'})
    assert recipe.push(asked(run, dry_run=True, license="mit"), display).files


@pytest.mark.parametrize("model", ["acme/secret-base.ckpt", "acme/secret-base"])
def test_a_path_that_looks_like_a_hub_id_is_none(make_run: Callable[..., Path], display: Display, model: str) -> None:
    card = Path(recipe.push(asked(make_run(model=model), dry_run=True), display).place, "README.md").read_text()
    assert "acme" not in card and "base_model" not in card and "trained from secret-base" in card.replace("\\", "")


def test_a_word_beside_the_model_is_published_with_it(
    make_run: Callable[..., Path], miniature: StableDiffusion1, display: Display
) -> None:
    run = make_run()
    _, metadata = read_safetensors(run / "model.safetensors")
    save_file({"weight": torch.zeros(2)}, run / "model.safetensors", {**metadata, WORD: "rex"})
    word = run / "embeddings" / "model.safetensors"
    word.parent.mkdir()
    write_embedding_file(
        word, miniature, {"text_encoder": torch.ones(1, 64)}, dtype=torch.float32, metadata={"global_step": "3", WORD: "rex"}
    )
    result = recipe.push(asked(run, dry_run=True), display)
    assert Path(result.place, "embeddings", "model.safetensors").read_bytes() == word.read_bytes()
    card = Path(result.place, "README.md").read_text()
    assert "Prompts need the learned word rex, whose vectors are in `embeddings/model.safetensors`." in card
    assert "textual_inversion" not in card
