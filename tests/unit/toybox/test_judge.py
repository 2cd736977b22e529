from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.toybox.judge import ATTRIBUTES, UNASKED, Judge, load_judge, look_scores, look_truth, truth
from dreambooth.toybox.shapes import SHAPES
from dreambooth.toybox.subjects import SUBJECTS, random_subject
from dreambooth.toybox.surfaces import PATTERNS
from dreambooth.toybox.world import CLASSES, COLOURS, PLACES, Look, Scene, random_scene


@pytest.fixture(scope="module")
def judge() -> Judge:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Judge()


def pixels(num: int) -> Tensor:
    return torch.rand((num, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1


def perfect(looks: list[Look]) -> dict[str, Tensor]:
    """The answers, nine times out of ten sure, of a judge who is right about pictures of these looks."""
    answers = {}
    for name, words in ATTRIBUTES.items():
        shares = torch.full((len(looks), len(words)), 1 / len(words))
        for row, look in enumerate(looks):
            if (right := look_truth(look).get(name, UNASKED)) != UNASKED:
                shares[row] = 0.1 / (len(words) - 1)
                shares[row, right] = 0.9
        answers[name] = shares.log()
    return answers


@torch.no_grad()
def test_answers_are_log_probabilities_of_every_choice(judge: Judge) -> None:
    answers = judge(pixels(3))
    assert {name: tuple(answer.shape) for name, answer in answers.items()} == {
        "class": (3, len(CLASSES)),
        "place": (3, len(PLACES)),
        "pattern": (3, len(PATTERNS)),
        "primary": (3, len(COLOURS)),
        "secondary": (3, len(COLOURS)),
        "accent": (3, len(COLOURS)),
    }
    for answer in answers.values():
        torch.testing.assert_close(answer.exp().sum(dim=1), torch.ones(3))


@torch.no_grad()
def test_a_picture_is_judged_whatever_else_is_judged_with_it(judge: Judge) -> None:
    together = judge(pixels(3))
    alone = judge(pixels(3)[1:2])
    for name in ATTRIBUTES:
        torch.testing.assert_close(together[name][1:2], alone[name], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_answers_are_read_from_the_mean_and_the_maximum_over_the_picture(judge: Judge) -> None:
    features = judge.features(pixels(2))
    assert features.shape == (2, 384)
    mean, maximum = features.chunk(2, dim=1)
    assert (mean < maximum).all()


def test_every_parameter_has_a_say(judge: Judge) -> None:
    torch.stack([answer[:, 0].sum() for answer in judge(pixels(2)).values()]).sum().backward()
    silent = [name for name, parameter in judge.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    judge.zero_grad()
    assert silent == []


def test_the_truth_is_what_the_record_says() -> None:
    for number in range(200):
        scene = random_scene(np.random.default_rng(number))
        answers = truth(scene)
        words = {name: None if answer == UNASKED else ATTRIBUTES[name][answer] for name, answer in answers.items()}
        look = scene.look
        assert set(answers) == set(ATTRIBUTES)
        assert (words["class"], words["place"], words["pattern"]) == (look.class_word, scene.place, look.pattern)
        assert words["primary"] == look.primary
        assert words["secondary"] == (None if look.pattern == "plain" else look.secondary)
        assert words["accent"] == (None if look.class_word in ("ball", "vase") else look.accent)


@pytest.mark.parametrize("word", CLASSES)
def test_whether_an_accent_is_asked_for_is_whether_it_is_there(word: str) -> None:
    has_accent = "accent" in {part.material for part in SHAPES[word].parts}
    asked = look_truth(Look(word, "striped", "red", "blue", "green"))["accent"] != UNASKED
    assert asked == has_accent


def test_the_true_look_has_the_highest_score() -> None:
    for word in ("mug", "vase"):
        looks = list(dict.fromkeys(random_subject(number, word) for number in range(12)))
        scores = look_scores(perfect(looks), looks)
        assert scores.shape == (12, 12)
        assert scores.argmax(dim=1).tolist() == list(range(12))


def test_a_score_is_the_sum_over_what_the_look_shows() -> None:
    look = SUBJECTS["banded-container"]
    answers = {
        name: torch.randn((2, len(words)), generator=torch.Generator().manual_seed(1)) for name, words in ATTRIBUTES.items()
    }
    expected = sum(
        answers[name][:, ATTRIBUTES[name].index(word)]
        for name, word in (("pattern", "banded"), ("primary", "blue"), ("secondary", "yellow"), ("accent", "red"))
    )
    torch.testing.assert_close(look_scores(answers, [look])[:, 0], expected)
    vase = SUBJECTS["belted-vase"]  # has no part of another colour
    without = look_scores({**answers, "accent": answers["accent"] + 5}, [vase])
    torch.testing.assert_close(without, look_scores(answers, [vase]))


def test_a_stored_judge_answers_as_before(judge: Judge, tmp_path: Path) -> None:
    path = tmp_path / "judge.safetensors"
    save_file({name: parameter.detach().clone() for name, parameter in judge.named_parameters()}, path)
    loaded = load_judge(path)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with torch.no_grad():
        for name, answer in judge(pixels(1)).items():
            torch.testing.assert_close(loaded(pixels(1))[name], answer)


def test_a_judge_that_is_not_there_is_told_how_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file; expected the weights of the judge"):
        load_judge(tmp_path / "judge.safetensors")


def test_a_scene_of_a_subject_has_a_truth_too() -> None:
    scene = Scene(SUBJECTS["marked-ball"], "moon", random_scene(np.random.default_rng(0)).view)
    assert truth(scene)["pattern"] == ATTRIBUTES["pattern"].index("marked")
