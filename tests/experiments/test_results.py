"""`results`: the commands that it types, what it counts, its tables and its figure, and the whole at the smallest size."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dreambooth.errors import RunError
from dreambooth.evaluation.evaluator import PromptSet, Samples
from dreambooth.runs.folder import RunFolder
from dreambooth.toybox.judge import ATTRIBUTES
from dreambooth.toybox.world import Look, random_scene
from experiments.paper import PAPER_PRIOR, PRESET_RATE
from experiments.results import chosen, runs, subject, tables
from experiments.results.figure import sweep_figure
from experiments.results.judges import QUESTIONS
from experiments.results.looking import number, over_subjects
from experiments.results.runs import Pair, Place, Scale
from experiments.results.verb import measure_all

TYPED = list[list[str]]
SMALL = Scale(subjects=("marked-ball",), pairs=(Pair("marked-ball", "zigzag-mug"),), steps=4, long_steps=8)


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TYPED:
    """The commands, which leave an empty model where a run would be and class images where they would be kept."""
    commands: TYPED = []

    def run(arguments: list[str]) -> int:
        commands.append(arguments)
        if "--output" in arguments:
            folder = RunFolder(Path(value(arguments, "--output")))
            folder.path.mkdir(parents=True)
            folder.final_model.touch()
        if "--prior-folder" in arguments:
            (Path(value(arguments, "--prior-folder")) / f"{value(arguments, '--class-word')}-0").mkdir(
                parents=True, exist_ok=True
            )
        return 0

    monkeypatch.setattr(runs, "main", run)
    return commands


def value(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_the_benchmark_runs_with_either_weight(typed: TYPED, tmp_path: Path) -> None:
    for weight in (1, 0):
        runs.learn_with_prior(Place(tmp_path), SMALL, weight)
    assert [value(one, "--output") for one in typed] == [str(tmp_path / "prior-1"), str(tmp_path / "prior-0")]
    with_images, without = (yaml.safe_load(Path(value(one, "--preset")).read_text()) for one in typed)
    rate = {"text_encoder_learning_rate": 2e-4}
    assert with_images == {"prior": {**PAPER_PRIOR, "num_prior_images": 48, "prior_sampling_steps": 25}, "trainee": rate}
    assert without == {"prior": {"prior_weight": 0}, "trainee": rate}, "what class images are made of would have no effect"


def test_a_subject_is_learned_at_every_rate_and_once_too_long(typed: TYPED, tmp_path: Path) -> None:
    runs.learn_at_rates(Place(tmp_path), SMALL, "marked-ball")
    first = [value(one, "--learning-rate") for one in typed if "--learning-rate" in one]
    assert first == ["5e-05", "0.0001", "0.0002", "0.0004"]
    assert first == [value(one, "--text-encoder-learning-rate") for one in typed if "--learning-rate" in one]
    assert [value(one, "--steps") for one in typed] == ["800", "800", "4", "8", "800"]
    assert typed[3] == ["train", "--resume", str(tmp_path / "rates" / "2e-4" / "marked-ball"), "--steps", "8"]
    typed.clear()
    runs.learn_at_rates(Place(tmp_path), SMALL, "belted-vase")
    assert [value(one, "--learning-rate") for one in typed if "--learning-rate" in one] == ["0.0002"]
    typed.clear()
    runs.learn_at_rates(Place(tmp_path), SMALL, "marked-ball")
    assert [one[1] for one in typed] == ["--resume"], "what is done is not done again"


def test_the_second_subject_begins_where_the_first_ended(typed: TYPED, tmp_path: Path) -> None:
    runs.learn_pair(Place(tmp_path), SMALL, SMALL.pairs[0])
    folder = tmp_path / "pairs" / "marked-ball+zigzag-mug"
    alone, _, consecutive, joint = typed
    assert (value(alone, "--token"), value(consecutive, "--token")) == ("sks", "zwx")
    assert value(consecutive, "--model") == str(folder / "alone-1")
    assert value(consecutive, "--also-prior") == str(tmp_path / "class-images" / "ball-0")
    assert (value(joint, "--steps"), value(joint, "--also-prior")) == ("8", str(tmp_path / "class-images" / "mug-0"))
    photos = sorted(str(path.relative_to(folder / "photos")) for path in (folder / "photos").rglob("*.png"))
    assert photos == [f"{place}/{number}@photo of a S C.png" for place in ("sks/ball", "zwx/mug") for number in range(5)]


def test_subjects_of_one_class_have_its_class_images_once(typed: TYPED, tmp_path: Path) -> None:
    runs.learn_pair(Place(tmp_path), SMALL, Pair("zigzag-mug", "upright-mug"))
    assert not any("--also-prior" in one for one in typed)


def test_a_command_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs, "main", lambda arguments: 2)
    with pytest.raises(RunError, match=r"dreambooth benchmark --dataset toybox .* ended with exit code 2"):
        runs.learn_with_prior(Place(tmp_path), SMALL, 1)


def test_a_look_takes_its_own_pictures() -> None:
    pictures = torch.arange(6).view(1, 6, 1, 1, 1)
    prompt_set = PromptSet(("a",), ("a",), "b", num_images=2, num_class_images=4)
    part = chosen._part(Samples(pictures, torch.arange(12).view(12, 1, 1, 1)), prompt_set, 1)
    assert part.subject_PSCHW.flatten().tolist() == [2, 3]
    assert part.class_NCHW.flatten().tolist() == [4, 5, 6, 7]


def test_the_early_stop_waits_for_two_steps_below_the_peak() -> None:
    assert chosen._early_stop({50: 0.6, 100: 0.7, 150: 0.66, 200: 0.69, 250: 0.66, 300: 0.66}) == 300
    assert chosen._early_stop({50: 0.6, 100: 0.7, 150: 0.66, 200: 0.69}) is None


def test_the_judge_must_read_what_was_asked_for() -> None:
    moon, beach = ATTRIBUTES["place"].index("moon"), ATTRIBUTES["place"].index("beach")
    right = subject._right(torch.tensor([moon, beach, moon, beach]), [moon, beach], torch.empty(2, 2, 3, 4, 4))
    assert right.tolist() == [[1, 0], [0, 1]]


def test_a_question_varies_one_thing_and_leaves_the_rest_true() -> None:
    look = Look("mug", "striped", "red", "blue", "white")
    scene = replace(random_scene(np.random.default_rng(0)), look=look, place="moon")
    asked = {name: one for name, one in QUESTIONS.items() if one.is_asked(scene)}
    assert {name: one.truth(scene) for name, one in asked.items()} == {
        "class": "mug",
        "pattern of others": "striped",
        "place": "moon",
    }
    assert {name: one.text(scene, one.answers[1]) for name, one in asked.items()} == {
        "class": "photo of a mug",
        "pattern of others": "photo of a red and blue dotted mug",
        "place": "photo of a mug on the moon",
    }
    plain = replace(scene, look=replace(look, pattern="plain"))
    assert QUESTIONS["colour of plain objects"].is_asked(plain)
    assert QUESTIONS["colour of plain objects"].text(plain, "green") == "photo of a green mug"


def test_an_interval_over_subjects_draws_subjects() -> None:
    found = over_subjects([{"value": 0.0}, {"value": 1.0}], "DINO")
    assert found == {"value": 0.5, "low": 0.0, "high": 1.0}
    assert number(torch.tensor([[0.25]]), "DINO") == {"value": 0.25, "low": None, "high": None}


def test_the_figure_has_a_panel_for_each_part_and_a_line_for_each_rate() -> None:
    lines = {"1e-4": {0: 0.5, 50: 0.75}, "a < b": {0: 0.5, 50: 0.25}}
    drawn = ElementTree.fromstring(sweep_figure({"balance": lines, "fidelity": lines, "prompt": lines}))
    polylines = [one.attrib for one in drawn.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(polylines) == 6
    first, second = ([tuple(map(float, point.split(","))) for point in one["points"].split()] for one in polylines[:2])
    assert first[0] == second[0], "both begin in the middle"
    assert first[1][1] < first[0][1] < second[1][1], "y points down"
    assert {one["stroke"] for one in polylines[::2]} != {one["stroke"] for one in polylines[1::2]}
    texts = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:5] == ["balance", "0.75", "0.25", "step 0", "step 50"]
    assert texts[-2:] == ["1e-4", "a < b"]


def test_a_table_says_values_with_their_intervals() -> None:
    assert tables._text({"value": 0.5, "low": -0.001, "high": 0.75}) == "0.50 [0.00, 0.75]"
    assert tables._text({"value": 0.5, "low": 0.25, "high": 0.75}, is_share=True) == "50% [25%, 75%]"
    assert tables._text({"value": 0.5, "low": None, "high": None}) == "0.50"


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute on an idle machine
def test_everything_is_made_and_measured(tmp_path: Path) -> None:
    hurry = {"num_prior_images": 2, "prior_sampling_steps": 1, "evaluation_sampling_steps": 1}
    few: dict[str, Any] = {
        "evaluate_every": 2,
        "sampling_steps": 2,
        "num_images": 2,
        "num_class_images": 2,
        "held_out_looks": 1,
        "num_renderings": 12,
    }
    scale = Scale(
        subjects=("marked-ball",),
        rate_subjects=("marked-ball",),
        pairs=SMALL.pairs,
        steps=2,
        long_steps=4,
        rates=(PRESET_RATE, 4e-4),
        rate_steps=4,
        **few,
        **hurry,
    )
    record = measure_all(tmp_path, scale, workers=1)
    assert (record["judges"]["class"]["pictures"], record["judges"]["class"]["luck"]) == (12, 0.1)
    (one,) = record["subjects"]
    measures = one["measures"]
    assert measures[subject.BASE]["drift"]["value"] == pytest.approx(0, abs=1e-9)
    gain = measures[subject.WITH]["DINO"]["value"] - measures[subject.BASE]["DINO"]["value"]
    assert one["learned"]["DINO"]["value"] == pytest.approx(gain)
    choice = record["choices"][0]["4"]
    assert [*choice["by 1"]["history"]] == [*choice["by 4"]["history"]] == [2, 4]
    assert choice["by 4"]["chosen"] in (2, 4)
    assert [*record["rates"]["balance"]] == ["0.0002 (the preset)", "0.0004"]
    assert [*record["rates"]["balance"]["0.0004"]] == [0, 2, 4]
    assert sum(record["pairs"][0]["models"]["both at once"]["confusion"][0]) == pytest.approx(1)
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert re.findall("^## (.*)$", text, re.MULTILINE)[1:4] == [
        "The subject is learned",
        "The class is kept",
        "Prompts still work",
    ]
    ElementTree.parse(tmp_path / "sweep.svg")
    assert Image.open(tmp_path / "sheet.png").width > 11 * 64, "eleven pictures in a row"
