"""Training the eye: the contrast against its definition, what is pulled together, and how well objects are told apart."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from dreambooth.diffusion.randomness import generator, normal
from dreambooth.families.untrained import untrained_vit
from dreambooth.toybox.eye import EYE
from dreambooth.toybox.judge import ATTRIBUTES, UNASKED
from experiments.toybox.judging import softened
from experiments.toybox.seeing import SEEN, auc, contrast, features, object_heads, readings, seeing_loss, tells_apart

TINY = {
    **EYE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
}
PIXELS = normal((6, 3, 16, 16), 1, "pixels").clamp(-1, 1)
OBJECTS = torch.tensor([7, 8, 9, 7, 8, 9])
NO_HEADS = nn.ModuleDict()


def known(seen_BD: Tensor, shown: list[Tensor] | None = None) -> Any:
    """An eye that has these features for whatever it is shown, and other numbers in the other tokens."""

    def vit(*, pixel_values: Tensor) -> SimpleNamespace:
        if shown is not None:
            shown.append(pixel_values)
        return SimpleNamespace(last_hidden_state=torch.stack([seen_BD, torch.full_like(seen_BD, 9.0)], dim=1))

    return vit


def by_definition(seen_BD: Tensor, objects: list[int]) -> float:
    """Equation 2 of arXiv 2004.11362 at temperature 0.1, in float64; pictures without a partner have no say."""
    seen = seen_BD.double().numpy()
    surprises = []
    for i, own in enumerate(objects):
        others = [a for a in range(len(objects)) if a != i]
        partners = [p for p in others if objects[p] == own]
        if partners:
            total = sum(math.exp(float(seen[i] @ seen[a]) / 0.1) for a in others)
            shares = [math.exp(float(seen[i] @ seen[p]) / 0.1) / total for p in partners]
            surprises.append(-float(np.mean(np.log(shares))))
    return float(np.mean(surprises))


@pytest.mark.parametrize("objects", [[0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1], [0, 0, 1, 2, 3, 4], [0, 0, 0, 0, 1, 2]])
def test_the_contrast_is_that_of_the_paper(objects: list[int]) -> None:
    seen = normalize(normal((6, 5), 1, "seen"))
    assert float(contrast(seen, torch.tensor(objects))) == pytest.approx(by_definition(seen, objects), rel=1e-5)


def test_a_picture_is_pulled_to_its_partner_and_pushed_from_the_others() -> None:
    """Three objects in two dimensions: the gradient of one picture points to its partner and away from the nearest stranger."""
    seen = normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-0.6, 0.8]])).requires_grad_()
    contrast(seen, torch.tensor([0, 0, 1, 1])).backward()
    assert seen.grad is not None
    towards = -seen.grad[0]
    assert towards @ seen.detach()[1] > 0
    assert towards @ seen.detach()[2] < towards @ seen.detach()[1]


def test_pictures_of_one_object_cost_nothing_when_they_are_far_from_all_others() -> None:
    seen = torch.eye(3).repeat(2, 1)
    assert float(contrast(seen, torch.tensor([0, 1, 2, 0, 1, 2]))) == pytest.approx(math.log(1 + 4 * math.exp(-10)), rel=1e-3)
    assert float(contrast(seen, torch.tensor([0, 1, 2, 1, 2, 0]))) > 10


def labels() -> dict[str, Tensor]:
    """Answers about six pictures: objects 7 and 8 are of one class."""
    return {name: torch.arange(6) % len(ATTRIBUTES[name]) for name in SEEN} | {"class": torch.tensor([2, 2, 5, 2, 2, 5])}


def test_the_loss_is_two_contrasts_of_directions_and_half_of_what_the_heads_get_wrong() -> None:
    seen, right = 3 * normal((6, 32), 1, "seen"), labels()
    heads = object_heads(32, seed=2)
    right["accent"] = torch.tensor([UNASKED, 1, 2, UNASKED, UNASKED, 3])
    right["secondary"] = torch.full((6,), UNASKED)
    found = seeing_loss(known(seen), heads, PIXELS, objects_B=OBJECTS, labels=right, random=generator(1))
    expected = by_definition(normalize(seen), OBJECTS.tolist()) + 0.3 * by_definition(normalize(seen), right["class"].tolist())
    for name in set(SEEN) - {"secondary"}:
        answers = heads[name](normalize(seen) * math.sqrt(32)).double().log_softmax(dim=1)
        asked = [row for row in range(6) if right[name][row] != UNASKED]
        expected -= 0.5 * float(np.mean([answers[row, right[name][row]].item() for row in asked]))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_eye_is_shown_softened_pictures_and_asked_for_no_place() -> None:
    shown: list[Tensor] = []
    before = PIXELS.clone()
    seeing_loss(
        known(normal((6, 8), 1, "seen"), shown), NO_HEADS, PIXELS, objects_B=OBJECTS, labels=labels(), random=generator(4)
    )
    assert torch.equal(shown[0], softened(PIXELS, generator(4))) and not torch.equal(shown[0], PIXELS)
    assert torch.equal(PIXELS, before)
    assert set(object_heads(32, seed=2)) == set(SEEN) == set(ATTRIBUTES) - {"place"}


def test_heads_depend_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (object_heads(6, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name in SEEN:
        assert tuple(one[name].weight.shape) == (len(ATTRIBUTES[name]), 6)
        assert torch.equal(one[name].weight, same[name].weight) and not torch.equal(one[name].weight, other[name].weight)


def test_a_real_eye_learns_from_it_with_every_parameter() -> None:
    """A parameter without a gradient would have no state in the optimizer, and a stage could not go on."""
    vit: Any = untrained_vit(TINY, seed=3)
    heads = object_heads(32, seed=2)
    parameters = dict(nn.ModuleDict({"eye": vit, "heads": heads}).named_parameters())
    optimizer = torch.optim.Adam(parameters.values(), 0.01)
    losses = []
    for _ in range(8):
        loss = seeing_loss(vit, heads, PIXELS, objects_B=OBJECTS, labels=labels(), random=generator(1))
        loss.backward()
        assert [name for name, p in parameters.items() if p.grad is None or not p.grad.any()] == []
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@torch.no_grad()
def test_features_are_the_first_token_after_the_final_norm() -> None:
    vit: Any = untrained_vit(TINY, seed=3)
    inside: list[Tensor] = []
    vit.layernorm.register_forward_hook(lambda module, arguments, output: inside.append(output))
    found = features(vit, PIXELS)
    assert found.shape == (6, 32)
    assert torch.equal(found, inside[0][:, 0])
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(6), atol=1e-5, rtol=0)


def test_readings_are_the_heads_answers_about_directions() -> None:
    heads, seen = object_heads(8, seed=2), normal((3, 8), 1, "seen")
    answers, longer = readings(known(seen), heads, PIXELS[:3]), readings(known(5 * seen), heads, PIXELS[:3])
    assert set(answers) == set(SEEN)
    for name, answer in answers.items():
        torch.testing.assert_close(answer, heads[name](normalize(seen) * math.sqrt(8)).log_softmax(dim=1).detach())
        torch.testing.assert_close(longer[name], answer)


def test_the_area_is_how_often_the_higher_is_higher() -> None:
    high, low = torch.tensor([0.2, 0.5, 0.5, 0.9]), torch.tensor([0.1, 0.5, 0.6])
    expected = np.mean([[1.0 if h > g else 0.5 if h == g else 0.0 for g in low.tolist()] for h in high.tolist()])
    assert auc(high, low) == pytest.approx(expected)
    assert auc(low, high) == pytest.approx(1 - expected)
    assert auc(high, low.flip(0)) == auc(high, low)
    assert (auc(low + 1, low), auc(low - 1, low), auc(low, low)) == (1, 0, pytest.approx(0.5))


class ByBrightness:
    """An eye that sees an angle: the first pixel, in radians."""

    def __call__(self, *, pixel_values: Tensor) -> SimpleNamespace:
        angle = pixel_values[:, 0, 0, 0]
        return SimpleNamespace(last_hidden_state=torch.stack([angle.cos(), angle.sin()], dim=1).unsqueeze(1) * 3)


def pictures_at(*angles: float) -> Tensor:
    return torch.tensor(angles).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def test_objects_are_told_apart_from_lookalikes_from_their_class_and_from_other_classes() -> None:
    """Objects 0 and 3 are of one group, 4 of another group of the class, 8 of another class; two pictures each."""
    objects = torch.tensor([0, 0, 3, 3, 4, 4, 8, 8])
    classes = torch.tensor([3, 3, 3, 3, 3, 3, 5, 5])
    pixels = pictures_at(0.0, 0.11, 0.05, 0.2, 0.9, 1.03, 0.3, 0.42)
    found = tells_apart(ByBrightness(), pixels, objects, classes)
    angle = pixels[:, 0, 0, 0]

    def near(i: int, j: int) -> float:
        return -abs(float(angle[i] - angle[j]))

    pairs = [(i, j) for i in range(8) for j in range(i)]
    same = [near(i, j) for i, j in pairs if objects[i] == objects[j]]
    different = {
        "lookalikes": [near(i, j) for i, j in pairs if objects[i] != objects[j] and objects[i] // 4 == objects[j] // 4],
        "its class": [near(i, j) for i, j in pairs if objects[i] != objects[j] and classes[i] == classes[j]],
        "other classes": [near(i, j) for i, j in pairs if classes[i] != classes[j]],
    }
    assert {name: len(low) for name, low in different.items()} == {"lookalikes": 4, "its class": 12, "other classes": 12}
    for name, low in different.items():
        expected = np.mean([[high > other for other in low] for high in same])
        assert found[name] == pytest.approx(expected), name
    assert len({0.5, 1.0, *found.values()}) == 5


def test_a_comparison_without_pairs_is_left_out() -> None:
    objects, classes = torch.tensor([0, 0, 1, 1]), torch.tensor([3, 3, 3, 3])
    assert set(tells_apart(ByBrightness(), pictures_at(0.0, 0.1, 0.2, 0.5), objects, classes)) == {"lookalikes", "its class"}
    assert tells_apart(ByBrightness(), pictures_at(0.0, 0.1), torch.tensor([0, 4]), torch.tensor([1, 1])) == {}
