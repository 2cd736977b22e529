"""Several subjects of one list: what a run says, generates and remembers of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.verbs import VERBS
from dreambooth.config import parse_settings, read_yaml
from dreambooth.data.pictures import find_pictures
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.display import Display
from dreambooth.errors import SettingsError
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.target import evaluation_targets
from dreambooth.measures.features import FeatureCache
from dreambooth.recipes.train import resume, train
from dreambooth.runs.events import read_events
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer import scoring_checks
from dreambooth.trainer.preview_prompts import preview_prompts
from dreambooth.training.settings import OutputSettings
from dreambooth.weights.read import read_model
from dreambooth.weights.subjects import learned_subjects
from tests.coarse_encoder import CoarseEncoder


def typed(*arguments: object) -> TrainSettings:
    verb = VERBS["train"]
    settings: TrainSettings = settings_from(verb, TrainSettings, read_arguments(verb, TrainSettings, [*map(str, arguments)]))
    return settings


@pytest.fixture
def subjects(photos: Path, tmp_path: Path) -> Path:
    """Two bags that share a class and a mug, one photo each."""
    names = {"rex": "bag", "mwf": "bag", "ada": "mug"}
    entries = []
    for source, (token, class_word) in zip(sorted(photos.glob("*.jpg")), names.items(), strict=True):
        folder = tmp_path / "photos" / token
        folder.mkdir(parents=True)
        shutil.copy(source, folder)
        entries.append({"photos": str(folder), "token": token, "class_word": class_word, "weight": 2 if token == "ada" else 1})
    file = tmp_path / "subjects.yaml"
    file.write_text(yaml.safe_dump({"subjects": entries}))
    return file


@pytest.fixture
def coarse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoders of scores are stand-ins."""
    encoders = Encoders(CoarseEncoder(), CoarseEncoder(), None, FeatureCache(tmp_path / "features"))
    monkeypatch.setattr(scoring_checks, "choose_encoders", lambda *_, **__: encoders)


@pytest.mark.slow
@pytest.mark.usefixtures("coarse")
def test_listed_subjects_are_learned_together(
    subjects: Path, small_model: Path, tmp_path: Path, display: Display, said: Callable[[], str]
) -> None:
    run, made = tmp_path / "runs" / "three", tmp_path / "made"
    given = ["--model", small_model, "--subjects", subjects, "--num-prior-images", 2, "--prior-sampling-steps", 2]
    given += ["--prior-folder", made, "--preview-steps", 0, "--validation-steps", 0, "--evaluate-every", 4, "--select", "best"]
    given += ["--evaluation-images", 1, "--evaluation-sampling-steps", 1]
    train(typed(*given, "--steps", 8, "--output", run), display)
    assert sorted(folder.name.rpartition("-")[0] for folder in made.iterdir()) == ["bag", "mug"], "a shared class once"
    text = said()
    assert "3 photos of 3 subjects ('rex bag', 'mwf bag', 'ada mug'), 8 steps\n" in text
    assert "rex bag (1 photo): each photo is seen about 2 times\n" in text
    assert "ada mug (1 photo): each photo is seen about 4 times\n" in text
    assert "Each of the 1 photos of ada mug was seen 4 times\n" in text
    assert [one.name for one in learned_subjects(read_model(str(run)))] == ["rex bag", "mwf bag", "ada mug"]
    targets = evaluation_targets(EvaluationRequest(model=str(run)))
    assert [(one.name, len(one.photos), one.exposures(8, 64)[0][1]) for one in targets] == [
        ("rex bag", 1, 2),
        ("mwf bag", 1, 2),
        ("ada mug", 1, 4),
    ]
    assert [*selections(run)[0]["subjects"]] == ["rex bag", "mwf bag", "ada mug"]
    assert "--prompt 'photo of a rex bag' 'photo of a mwf bag' 'photo of a ada mug'" in text
    assert "Scoring every 4 steps: 32 images of 3 subjects with 1 denoising steps each time" in text
    written = parse_settings(TrainSettings, read_yaml(run / "config.yaml"), where="run").subject.subjects
    assert all(one.photos.is_absolute() for one in written)
    stopped = tmp_path / "runs" / "stopped"
    train(typed(*given, "--steps", 4, "--output", stopped), display)
    resume(stopped, {"loop.steps": 8}, display)
    assert "Resuming from step 4" in said()
    tensors, again = load_file(run / "model.safetensors"), load_file(stopped / "model.safetensors")
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
    assert selections(stopped)[-1]["subjects"] == selections(run)[0]["subjects"]


def selections(run: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(run / "events.jsonl") if event["event"] == "selection"]


def test_every_listed_subject_has_its_previews(subjects: Path) -> None:
    subject = SubjectSettings.model_validate({"subjects": str(subjects)})
    photos = find_pictures(subject, PriorSettings(), resolution=64).photos
    output = OutputSettings(output=Path("run"), preview_prompts=("{instance_prompt}", "{class_prompt}"))
    assert preview_prompts(output, subject, PriorSettings(), photos) == (
        *("photo of a rex bag", "photo of a mwf bag", "photo of a ada mug"),
        *("photo of a bag", "photo of a mug"),
    )


def test_what_lists_of_subjects_exclude(subjects: Path, tmp_path: Path) -> None:
    given = ["--model", "toybox", "--subjects", subjects, "--output", tmp_path / "run"]
    with pytest.raises(SettingsError, match="with subjects, prior_images belongs to a subject: write it into the list"):
        typed(*given, "--prior-images", tmp_path)
    with pytest.raises(SettingsError, match="original_pairing draws all photos alike, but subjects have shares"):
        typed(*given, "--original-pairing")
    with pytest.raises(SettingsError) as caught:
        typed(*given, "--prior-images", tmp_path, "--original-pairing")
    assert [problem.split()[0] for problem in caught.value.problems] == ["with", "original_pairing"], "both at once"
    with pytest.raises(SettingsError, match="so token would have no effect"):
        typed(*given, "--token", "sks")
