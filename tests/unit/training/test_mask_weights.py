"""The loss of photos with masks, from the mask to the update."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dreambooth.data.examples import ExampleSource
from dreambooth.data.mask_rendering import mask_weights
from dreambooth.data.records import CaptionedPhoto, Mask, Photo
from dreambooth.data.settings import ViewSettings
from dreambooth.data.size import Size
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.objective import squared_error
from dreambooth.diffusion.randomness import normal
from dreambooth.training.batches import Cut, Encoded, micro_batches
from dreambooth.training.loop import training_steps

MakeTiny = Callable[..., Any]
LATENT = (4, 8, 8)


def pictures(role: str, num: int) -> tuple[CaptionedPhoto, ...]:
    """Pictures of which every second one has a mask, also among the class examples, as when photos serve as those."""
    return tuple(
        CaptionedPhoto(
            Photo(
                Path(f"{role}-{number}.png"), f"{role}-{number}", 80, 64, None, Mask(None, "m", None) if number % 2 else None
            ),
            role,
        )
        for number in range(num)
    )


SOURCE = ExampleSource(pictures("instance", 4), pictures("prior", 4), ViewSettings(), Size.square(64), 4, 11)


def encoded(mask: Callable[[Any], torch.Tensor | None]) -> Encoded:
    """Latents of every view, and the weights that `mask` gives it."""
    views = SOURCE.views_used(8)
    moments = {
        (photo.digest, view): LatentMoments(normal(LATENT, 1, "mean", photo.digest, view.flip), torch.full(LATENT, 0.1))
        for photo, view in views
    }
    weights = {(photo.digest, "m", view): found for photo, view in views if photo.mask and (found := mask(view)) is not None}
    return Encoded(moments, {"instance": torch.tensor([1, 2]), "prior": torch.tensor([3, 4])}, 0.5, weights=weights)


def batches(of: Encoded, cut: Cut, step: int) -> Any:
    return micro_batches(
        SOURCE.examples_at(step),
        of,
        step=step,
        seed=11,
        cut=cut,
        prior_weight=0.7,
        num_timesteps=1000,
        device=torch.device("cpu"),
    )


def trained(tiny: MakeTiny, of: Encoded, cut: Cut) -> tuple[list[float], dict[str, torch.Tensor]]:
    made = tiny()
    results = training_steps(made.state, lambda step: batches(of, cut, step), last_step=3)
    losses = [result.loss for result in results]
    return losses, {name: parameter.detach() for name, parameter in made.trainee.parameters.items()}


def half(view: Any) -> torch.Tensor | None:
    mask_hw = torch.zeros(8, 8)
    mask_hw[:, 4:] = 1
    return mask_weights(mask_hw.flip(1) if view.flip else mask_hw, 0.1)


def test_masks_of_ones_equal_none_bit_for_bit(tiny: MakeTiny) -> None:
    losses, weights = trained(tiny, encoded(lambda view: None), Cut(4))
    for ones in (encoded(lambda view: mask_weights(torch.ones(8, 8), 0.1)), encoded(lambda view: torch.ones(8, 8))):
        same, again = trained(tiny, ones, Cut(4))
        assert same == losses
        assert all(torch.equal(again[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize("cut", [Cut(4, 1), Cut(4, 3), Cut(2)])
def test_the_cut_of_a_batch_with_masks_changes_only_rounding(tiny: MakeTiny, cut: Cut) -> None:
    masked = encoded(half)
    losses, weights = trained(tiny, masked, Cut(4))
    cut_losses, cut_weights = trained(tiny, masked, cut)
    assert cut_losses == pytest.approx(losses, rel=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(cut_weights[name], weight, rtol=1e-5, atol=1e-6)
    assert trained(tiny, encoded(lambda view: None), Cut(4))[0] != pytest.approx(losses, rel=1e-3)


def test_only_photos_are_masked() -> None:
    (batch,) = batches(encoded(half), Cut(4), 1)
    assert batch.weight_BHW is not None
    is_masked = [bool((weight_HW != 1).any()) for weight_HW in batch.weight_BHW]
    assert is_masked == ["-1" in name or "-3" in name for name in batch.names[:4]] + [False] * 4
    torch.testing.assert_close(batch.weight_BHW.mean(dim=(1, 2)), torch.ones(8))


def test_a_batch_without_masks_has_no_weights() -> None:
    assert all(batch.weight_BHW is None for batch in batches(encoded(lambda view: None), Cut(1), 1))


def test_weights_move_the_share_and_not_the_size() -> None:
    prediction, target = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    weight_BHW = mask_weights(torch.tensor([[1.0, 1.0], [0.0, 0.0]]), 0.1)
    assert weight_BHW is not None
    assert float(squared_error(prediction, target, weight_BHW[None])) == pytest.approx(1.0)
    prediction[..., 0, :] = 1  # right where the subject is
    assert float(squared_error(prediction, target, weight_BHW[None])) == pytest.approx(0.1 / 1.1, rel=1e-5)
