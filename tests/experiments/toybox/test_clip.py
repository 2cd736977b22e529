from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from dreambooth.diffusion.randomness import normal
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.untrained import untrained_clip
from experiments.toybox.clip import PROJECTION, VISION, attribute_heads, contrast_loss, voice

START, END = 49406, 49407
TINY_VISION = {
    **VISION,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
}
PIXELS = normal((4, 3, 16, 16), 1, "pixels")
NO_HEADS = nn.ModuleDict()


@pytest.fixture(scope="module")
def clip(miniature: StableDiffusion1) -> Any:
    return untrained_clip(miniature, vision=TINY_VISION, projection=PROJECTION, seed=3)


def ids(*captions: tuple[int, ...], length: int = 12) -> Tensor:
    return torch.tensor([[START, *words, *[END] * (length - 1 - len(words))] for words in captions])


def known(image_BD: Tensor, text_BD: Tensor, logit_scale: float = 1.0) -> Any:
    """A CLIP that has these embeddings for whatever it is shown."""

    class Known:
        def __init__(self) -> None:
            self.logit_scale = torch.tensor(logit_scale)

        def __call__(self, *, input_ids: Tensor, pixel_values: Tensor) -> SimpleNamespace:
            return SimpleNamespace(image_embeds=image_BD, text_embeds=text_BD)

    return Known()


def contrast(image: Tensor, text: Tensor, captions: list[int], temperature: float) -> float:
    """The loss from its definition, in float64: for each picture and each caption, how surprising the right partners are."""
    similarity = temperature * image.double().numpy() @ text.double().numpy().T
    total = 0.0
    for logits in (similarity, similarity.T):
        for row, line in enumerate(logits):
            right = [column for column, caption in enumerate(captions) if caption == captions[row]]
            log_shares = line - np.log(np.exp(line - line.max()).sum()) - line.max()
            total -= log_shares[right].mean() / len(logits)
    return total / 2


@pytest.mark.parametrize("captions", [[0, 1, 2, 3], [0, 1, 0, 3], [5, 5, 5, 5]])
def test_the_loss_is_symmetric_cross_entropy_in_which_equal_captions_are_both_right(captions: list[int]) -> None:
    image, text = normalize(normal((4, 6), 1, "image")), normalize(normal((4, 6), 1, "text"))
    found = contrast_loss(known(image, text, 2.0), NO_HEADS, PIXELS, ids(*[(10 + c, 7) for c in captions]), {})
    assert float(found) == pytest.approx(contrast(image, text, captions, math.exp(2.0)), rel=1e-5)


def test_captions_that_differ_in_one_word_are_different() -> None:
    image = normalize(normal((2, 6), 1, "image"))
    same = contrast_loss(known(image, image, 3.0), NO_HEADS, PIXELS[:2], ids((1, 2), (1, 2)), {})
    differ = contrast_loss(known(image, image, 3.0), NO_HEADS, PIXELS[:2], ids((1, 2), (1, 3)), {})
    assert differ < same


def test_the_temperature_is_at_most_a_hundred() -> None:
    image, text = normalize(normal((4, 6), 1, "image")), normalize(normal((4, 6), 1, "text"))
    found = contrast_loss(known(image, text, 9.0), NO_HEADS, PIXELS, ids((1,), (2,), (3,), (4,)), {})
    assert float(found) == pytest.approx(contrast(image, text, [1, 2, 3, 4], 100), rel=1e-5)


def test_the_heads_read_the_picture_with_half_the_weight() -> None:
    image, text = normalize(normal((4, PROJECTION), 1, "image")), normalize(normal((4, PROJECTION), 1, "text"))
    heads = attribute_heads({"class": 5, "place": 3}, seed=2)
    labels = {"class": torch.tensor([0, 4, 2, 2]), "place": torch.tensor([1, 1, 0, 2])}
    captions = ids((1,), (2,), (3,), (4,))
    found = contrast_loss(known(image, text), heads, PIXELS, captions, labels)
    expected = float(contrast_loss(known(image, text), NO_HEADS, PIXELS, captions, {}))
    for name, right in labels.items():
        answers = (heads[name](image * math.sqrt(PROJECTION))).log_softmax(dim=1)
        expected -= 0.5 * answers[torch.arange(4), right].mean().item()
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_real_clip_learns_from_it_with_every_parameter(clip: Any) -> None:
    """A parameter without a gradient would have no state in the optimizer, and a stage could not go on."""
    heads = attribute_heads({"class": 5}, seed=2)
    parameters = dict(nn.ModuleDict({"clip": clip, "heads": heads}).named_parameters())
    loss = contrast_loss(clip, heads, PIXELS, ids((1, 2), (3,), (4, 5), (6,)), {"class": torch.arange(4)})
    loss.backward()
    silent = [name for name, p in parameters.items() if p.grad is None or not p.grad.any()]
    clip.zero_grad()
    assert silent == []
    assert loss.item() == pytest.approx(math.log(4) + 0.5 * math.log(5), abs=0.5)  # knows nothing yet


@torch.no_grad()
def test_what_is_cut_behind_the_last_end_changes_nothing(clip: Any) -> None:
    captions = ((1, 2, 3), (4,), (5, 6), (7, 8))
    short, long = (clip(input_ids=ids(*captions, length=length), pixel_values=PIXELS) for length in (5, 77))
    torch.testing.assert_close(short.text_embeds, long.text_embeds, rtol=1e-4, atol=1e-5)
    assert (short.text_embeds[0] - short.text_embeds[1]).abs().max() > 0.01
    expected = contrast(long.image_embeds, long.text_embeds, [0, 1, 2, 3], float(clip.logit_scale.exp()))
    for length in (5, 77):
        found = contrast_loss(clip, NO_HEADS, PIXELS, ids(*captions, length=length), {})
        assert float(found) == pytest.approx(expected, rel=5e-3)  # bfloat16


def test_heads_depend_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (attribute_heads({"a": 2, "b": 7}, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [tuple(head.weight.shape) for head in one.values()] == [(2, PROJECTION), (7, PROJECTION)]
    assert all(torch.equal(one[name].weight, same[name].weight) for name in "ab")
    assert not torch.equal(one["a"].weight, other["a"].weight)


def test_voice_is_the_relative_change_of_the_states() -> None:
    without = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert voice(without, without) == 0
    assert voice(without + torch.tensor([[0.0, 1.0], [0.0, 0.0]]), without) == pytest.approx(0.2)
    assert voice(3 * without, 2 * without) == pytest.approx(0.5)
