"""A run is scored by the prompts and photos that `dreambooth evaluate` takes of it afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dreambooth.config import parse_settings, write_yaml
from dreambooth.data.pictures import find_pictures
from dreambooth.data.settings import SubjectSettings
from dreambooth.data.size import Size
from dreambooth.diffusion.randomness import normal
from dreambooth.display_events import EventsDisplay
from dreambooth.errors import SettingsError
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.target import evaluation_targets
from dreambooth.measures.features import FeatureCache
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.runs.folder import RunFolder
from dreambooth.sampling.records import Picture
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer import scorer as scorer_module
from dreambooth.trainer.scorer import Scorer
from dreambooth.weights.read import read_model
from tests.coarse_encoder import CoarseEncoder


@pytest.fixture
def named(photos: Path, tmp_path: Path) -> Path:
    """One dog, whose folders say what it is called."""
    folder = tmp_path / "named" / "mwf" / "dog"
    folder.mkdir(parents=True)
    for photo in sorted(photos.glob("*.jpg"))[:2]:
        shutil.copy(photo, folder)
    return tmp_path / "named"


def session_of(settings: TrainSettings, *, encoders: object, side: int = 48, step: int = 0) -> Any:
    found = find_pictures(settings.subject, settings.prior, resolution=side)
    learned = SimpleNamespace(photos=found.photos, subject=settings.subject, prior=settings.prior, views=settings.views)
    ready = SimpleNamespace(
        run=RunFolder(settings.output.output),
        learned=learned,
        measured=SimpleNamespace(selection=settings.selection, encoders=encoders),
        loop=settings.loop,
        base=read_model("toybox").made_for(side),
        size=Size(height=side, width=side),
    )
    return SimpleNamespace(ready=ready, state=SimpleNamespace(step=step))


@pytest.mark.parametrize("captions", ["prompt", "filename"])
def test_the_prompts_and_photos_are_those_of_an_evaluation(
    run_settings: Callable[..., TrainSettings], named: Path, captions: str
) -> None:
    settings = run_settings(
        subject={"photos": str(named), "captions": captions},
        prior={"class_prompt": "a {class_word} somewhere"},
        views={"background": "black"},
        loop={"steps": 6},
        selection={"evaluate_every": 2, "evaluation_images": 2, "evaluation_sampling_steps": 3},
    )
    said: list[dict[str, Any]] = []
    scorer = Scorer.open(
        session_of(
            settings, encoders=Encoders(CoarseEncoder(), CoarseEncoder(), None, FeatureCache(settings.output.output / "f"))
        ),
        EventsDisplay(said.append),
    )
    assert scorer is not None
    (scored,) = scorer.subjects
    write_yaml(settings.output.output / "config.yaml", settings, comment="")
    (target,) = evaluation_targets(EvaluationRequest(model=str(settings.output.output)))
    assert scored.evaluator.prompt_set == target.prompt_set(EvaluationSettings(), is_toybox=True).fewer(2)
    token, class_word = ("mwf", "dog") if captions == "filename" else ("sks", "backpack")
    assert scored.evaluator.prompt_set.class_prompt == f"a {class_word} somewhere"
    assert all(f"{token} {class_word}" in prompt for prompt in scored.evaluator.prompt_set.prompts)
    assert torch.equal(torch.stack(list(scored.evaluator.photos)), torch.stack(target.photo_pixels(48)))
    num = len(scored.evaluator.prompt_set.pictures())
    assert said == [
        {
            "event": "say",
            "text": f"Scoring every 2 steps: {num} images with 3 denoising steps each time, 3 times and once before training",
        }
    ]


@pytest.fixture
def listed(photos: Path, tmp_path: Path) -> list[dict[str, str]]:
    """Two bags and a mug, one photo each."""
    entries = []
    names = {"rex": "bag", "mwf": "bag", "ada": "mug"}
    for source, (token, class_word) in zip(sorted(photos.glob("*.jpg")), names.items(), strict=True):
        (tmp_path / token).mkdir()
        shutil.copy(source, tmp_path / token)
        entries.append({"photos": str(tmp_path / token), "token": token, "class_word": class_word})
    return entries


def test_several_subjects_are_scored_each_with_its_own_photos(
    run_settings: Callable[..., TrainSettings], listed: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Picture] = []

    def make(scorer: Scorer, pictures: Sequence[Picture]) -> list[Tensor]:
        """Noise, the same for a picture at every step but that the training adds."""
        made.extend(pictures)
        step, shape = scorer.session.state.step, (3, 48, 48)
        pixels = [normal(shape, one.index, one.prompt) + step / 20 * normal(shape, 7, "training") for one in pictures]
        return [(one / 6 + 0.5).clamp(0, 1).mul(255).round() / 255 for one in pixels]

    monkeypatch.setattr(Scorer, "_make", make)
    settings = run_settings(loop={"steps": 2}, selection={"evaluate_every": 2, "evaluation_images": 2})
    settings = settings.model_copy(update={"subject": parse_settings(SubjectSettings, {"subjects": listed}, where="test")})
    encoders = Encoders(CoarseEncoder(), CoarseEncoder(), None, FeatureCache(settings.output.output / "f"))
    said: list[dict[str, Any]] = []
    scorer = Scorer.open(session_of(settings, encoders=encoders), EventsDisplay(said.append))
    assert scorer is not None
    write_yaml(settings.output.output / "config.yaml", settings, comment="")
    for one, target in zip(
        scorer.subjects, evaluation_targets(EvaluationRequest(model=str(settings.output.output))), strict=True
    ):
        assert one.name == target.name
        assert one.evaluator.prompt_set == target.prompt_set(EvaluationSettings(), is_toybox=True).fewer(2)
        assert torch.equal(torch.stack(list(one.evaluator.photos)), torch.stack(target.photo_pixels(48)))

    base = scorer.look()
    assert len(made) == len(set(made)), "the images of a class that two subjects share are made once"
    assert said[0]["text"].startswith(f"Scoring every 2 steps: {len(made)} images of 3 subjects with ")
    assert [*base["subjects"]] == ["rex bag", "mwf bag", "ada mug"]
    assert [one["scores"]["drift"] for one in base["subjects"].values()] == pytest.approx([0, 0, 0], abs=1e-6)

    resumed = Scorer.open(session_of(settings, encoders=encoders, step=2), EventsDisplay(said.append))
    assert resumed is not None
    after = resumed.look()
    each = [*after["subjects"].values()]
    assert after["prompt"] is None and all(one["prompt"] is None for one in each), "a single photo says nothing of prompts"
    for name in ("balance", "fidelity", "prior"):
        assert after[name] == pytest.approx(sum(one[name] for one in each) / 3)
    assert after["scores"]["DINO"] == pytest.approx(sum(one["scores"]["DINO"] for one in each) / 3)
    assert len({one["balance"] for one in each}) == 3 and min(one["scores"]["drift"] for one in each) > 0


def test_a_subject_that_the_encoders_cannot_separate_is_named(
    run_settings: Callable[..., TrainSettings], listed: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scorer, "_make", lambda _, pictures: [torch.rand(3, 48, 48) for _ in pictures])
    monkeypatch.setattr(scorer_module, "balance", lambda *_: None)
    settings = run_settings(selection={"evaluate_every": 1, "evaluation_images": 1})
    settings = settings.model_copy(update={"subject": parse_settings(SubjectSettings, {"subjects": listed}, where="test")})
    encoders = Encoders(CoarseEncoder(), CoarseEncoder(), None, FeatureCache(settings.output.output / "f"))
    scorer = Scorer.open(session_of(settings, encoders=encoders), EventsDisplay(lambda _: None))
    assert scorer is not None
    with pytest.raises(SettingsError, match="the photos of rex bag, so no model can be chosen"):
        scorer.look()


def test_a_run_that_is_not_scored_has_no_scorer(run_settings: Callable[..., TrainSettings]) -> None:
    assert Scorer.open(session_of(run_settings(), encoders=None), EventsDisplay(lambda _: None)) is None
