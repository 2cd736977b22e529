"""Training on pictures that are not squares, from views to the update, with a family of one convolution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dreambooth.data.buckets import bucket_sizes
from dreambooth.data.examples import ExampleSource
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.data.settings import ViewSettings
from dreambooth.data.size import Size
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.randomness import normal
from dreambooth.training.batches import Cut, Encoded, micro_batches
from dreambooth.training.loop import training_steps

MakeTiny = Callable[..., Any]
SIZE = Size(64, 96)
LATENT = (4, 8, 12)


def pictures(role: str, num: int) -> tuple[CaptionedPhoto, ...]:
    return tuple(
        CaptionedPhoto(Photo(Path(f"{role}-{number}.png"), f"{role}-{number}", 640, 480, None), role) for number in range(num)
    )


@pytest.mark.parametrize("micro_batch_size", [None, 1, 3])
def test_a_step_on_pictures_that_are_no_squares(tiny: MakeTiny, micro_batch_size: int | None) -> None:
    source = ExampleSource(pictures("instance", 3), pictures("prior", 4), ViewSettings(crop="random"), SIZE, 4, 11)
    views = source.views_used(2)
    assert {view.size for _, view in views} == {SIZE}
    moments = {
        (photo.digest, view): LatentMoments(
            normal(LATENT, 1, "mean", photo.digest, view.left, view.top, view.flip), torch.full(LATENT, 0.1)
        )
        for photo, view in views
    }
    encoded = Encoded(moments, {"instance": torch.tensor([1, 2]), "prior": torch.tensor([3, 4])}, 0.5)

    def run(cut: Cut) -> tuple[list[float], dict[str, torch.Tensor]]:
        made = tiny()

        def batches_at(step: int) -> Any:
            return micro_batches(
                source.examples_at(step),
                encoded,
                step=step,
                seed=11,
                cut=cut,
                prior_weight=0.7,
                num_timesteps=1000,
                device=torch.device("cpu"),
            )

        assert {batch.x_0.shape[1:] for batch in batches_at(1)} == {LATENT}
        losses = [result.loss for result in training_steps(made.state, batches_at, last_step=2)]
        return losses, {name: parameter.detach() for name, parameter in made.trainee.parameters.items()}

    losses, weights = run(Cut(4))
    cut_losses, cut_weights = run(Cut(4, micro_batch_size))
    assert cut_losses == pytest.approx(losses, rel=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(cut_weights[name], weight, rtol=1e-5, atol=1e-6)


def test_a_step_on_pictures_of_several_sizes_does_not_depend_on_the_cut(tiny: MakeTiny) -> None:
    def mixed(role: str) -> tuple[CaptionedPhoto, ...]:
        sides = [(640, 640), (900, 600), (600, 900), (640, 640)]
        photos = (Photo(Path(f"{role}-{n}.png"), f"{role}-{n}", *side, None) for n, side in enumerate(sides))
        return tuple(CaptionedPhoto(photo, role) for photo in photos)

    source = ExampleSource(mixed("instance"), mixed("prior"), ViewSettings(crop="bucket"), bucket_sizes(64, 8), 4, 11)
    moments = {}
    for photo, view in source.views_used(2):
        shape = (4, view.size.height // 8, view.size.width // 8)
        moments[photo.digest, view] = LatentMoments(normal(shape, 1, "mean", photo.digest, view.flip), torch.full(shape, 0.1))
    encoded = Encoded(moments, {"instance": torch.tensor([1, 2]), "prior": torch.tensor([3, 4])}, 0.5)

    def run(cut: Cut, first_steps: int = 2) -> tuple[list[float], dict[str, torch.Tensor], set[int]]:
        made, sizes = tiny(), set[int]()

        def batches_at(step: int) -> Any:
            for batch in micro_batches(
                source.examples_at(step),
                encoded,
                step=step,
                seed=11,
                cut=cut,
                prior_weight=0.7,
                num_timesteps=1000,
                device=torch.device("cpu"),
                prior_targets=[moments[one.photo.digest, one.view].mean for one in source.examples_at(step)[4:]],
            ):
                sizes.add(batch.x_0.shape[-1])
                yield batch

        losses = [result.loss for result in training_steps(made.state, batches_at, last_step=first_steps)]
        return losses, {name: parameter.detach() for name, parameter in made.trainee.parameters.items()}, sizes

    losses, weights, sizes = run(Cut(4))
    assert sizes == {8, 10, 6}
    for cut in (Cut(1), Cut(4, 1), Cut(4, 3)):
        cut_losses, cut_weights, _ = run(cut)
        assert cut_losses == pytest.approx(losses, rel=1e-5)
        for name, weight in weights.items():
            torch.testing.assert_close(cut_weights[name], weight, rtol=1e-5, atol=1e-6)
