"""A run is scored by the prompts and photos that `dreambooth evaluate` takes of it afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dreambooth.config import write_yaml
from dreambooth.data.pictures import find_pictures
from dreambooth.data.size import Size
from dreambooth.display_events import EventsDisplay
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.target import evaluation_targets
from dreambooth.measures.features import FeatureCache
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.runs.folder import RunFolder
from dreambooth.schema.verbs import TrainSettings
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
    write_yaml(settings.output.output / "config.yaml", settings, comment="")
    (target,) = evaluation_targets(EvaluationRequest(model=str(settings.output.output)))
    assert scorer.evaluator.prompt_set == target.prompt_set(EvaluationSettings(), is_toybox=True).fewer(2)
    token, class_word = ("mwf", "dog") if captions == "filename" else ("sks", "backpack")
    assert scorer.evaluator.prompt_set.class_prompt == f"a {class_word} somewhere"
    assert all(f"{token} {class_word}" in prompt for prompt in scorer.evaluator.prompt_set.prompts)
    assert torch.equal(torch.stack(list(scorer.evaluator.photos)), torch.stack(target.photo_pixels(48)))
    num = len(scorer.evaluator.prompt_set.pictures())
    assert said == [
        {
            "event": "say",
            "text": f"Scoring every 2 steps: {num} images with 3 denoising steps each time, 3 times and once before training",
        }
    ]


def test_a_run_that_is_not_scored_has_no_scorer(run_settings: Callable[..., TrainSettings]) -> None:
    assert Scorer.open(session_of(run_settings(), encoders=None), EventsDisplay(lambda _: None)) is None
