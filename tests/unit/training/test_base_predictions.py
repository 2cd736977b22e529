"""The base model's predictions for class examples: what decides them, where they are kept, and that training uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from dreambooth.data.examples import Example
from dreambooth.data.size import Size
from dreambooth.data.views import View
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.randomness import normal
from dreambooth.display import Display
from dreambooth.errors import RunError
from dreambooth.runtime.processes import OneProcess
from dreambooth.training.base_predictions import BasePredictions, Questions, prediction_bytes
from dreambooth.training.batches import Batch, Cut, Encoded, draw, micro_batches
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.loop import training_steps
from dreambooth.training.validation import ValidationItem, validation_losses, with_predicted_targets

CPU = torch.device("cpu")
VIEW = View(Size.square(64), top=0, left=0, height=64, width=64, flip=False)
NUM_SLOTS = 3


def examples_at(step: int) -> Sequence[Example]:
    """Two photos and three class examples, which change from step to step."""
    photos = [
        Example("instance", cast(Any, SimpleNamespace(digest="photo", path=Path("p"))), VIEW, "sks", slot) for slot in (0, 1)
    ]
    priors = [
        Example("prior", cast(Any, SimpleNamespace(digest=f"class {(step + slot) % 2}", path=Path("c"))), VIEW, "dog", slot)
        for slot in range(NUM_SLOTS)
    ]
    return [*photos, *priors]


ENCODED = Encoded(
    moments={
        (name, VIEW): LatentMoments(normal((4, 8, 8), 7, name), torch.full((4, 8, 8), 0.1))
        for name in ("photo", "class 0", "class 1")
    },
    text={"sks": torch.tensor([1, 2]), "dog": torch.tensor([3, 4])},
    scaling_factor=1.0,
)


@pytest.fixture
def questions() -> Questions:
    return Questions(examples_at, ENCODED, seed=5, num_timesteps=1000, asked_of="base fp32")


@pytest.fixture
def denoiser(tiny: Callable[..., Any]) -> Denoiser:
    found: Denoiser = tiny().state.denoiser
    return found


def computed(
    folder: Path, questions: Questions, denoiser: Denoiser, display: Display, *, first: int = 1, last: int
) -> BasePredictions:
    predictions = BasePredictions.of_steps(folder, questions, first_step=first, last_step=last)
    predictions.compute(questions, denoiser, OneProcess(), display)
    return predictions


def are_equal(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_predictions_of_several_sizes_are_those_of_each_size_alone(
    tmp_path: Path, questions: Questions, denoiser: Denoiser, display: Display
) -> None:
    wide = replace(VIEW, size=Size(64, 96))
    encoded = replace(
        ENCODED,
        moments={
            **ENCODED.moments,
            ("class 1", wide): LatentMoments(normal((4, 8, 12), 7, "wide"), torch.full((4, 8, 12), 0.1)),
        },
    )

    def mixed_at(step: int) -> list[Example]:
        return [replace(one, view=wide) if one.photo.digest == "class 1" else one for one in examples_at(step)]

    square = computed(tmp_path / "square", questions, denoiser, display, last=20)
    mixed = computed(tmp_path, replace(questions, examples_at=mixed_at, encoded=encoded), denoiser, display, last=20)
    again = BasePredictions(tmp_path, mixed.files)
    for step in (1, 2, 16, 20):
        for one, predicted, alone in zip(mixed_at(step)[2:], again.at(step), square.at(step), strict=True):
            assert predicted.shape == ((4, 8, 12) if one.view == wide else (4, 8, 8))
            if one.view == VIEW:
                torch.testing.assert_close(predicted, alone, rtol=1e-3, atol=1e-3)


def test_a_prediction_is_the_models_output_for_the_very_noise_of_training(
    tmp_path: Path, questions: Questions, denoiser: Denoiser, display: Display
) -> None:
    found = computed(tmp_path, questions, denoiser, display, last=20)
    alpha_bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0)
    parts = denoiser.components.parts
    for step in (1, 16, 17, 20):
        assert [one.shape for one in found.at(step)] == [(4, 8, 8)] * NUM_SLOTS and found.at(step)[0].dtype == torch.float16
        for slot, example in enumerate(examples_at(step)[2:]):
            drawn = draw(example, ENCODED, seed=5, step=step, num_timesteps=1000)
            a = float(alpha_bar[drawn.t])
            with torch.no_grad():
                text = parts["text_encoder"](torch.tensor([3, 4])).mean()
                output = parts["unet"]((a**0.5 * drawn.x_0 + (1 - a) ** 0.5 * drawn.eps)[None])[0] + text + drawn.t / 1000
            torch.testing.assert_close(found.at(step)[slot].float(), output, rtol=1e-3, atol=1e-3)


def test_the_last_step_of_a_run_changes_no_earlier_prediction(
    tmp_path: Path, questions: Questions, denoiser: Denoiser, display: Display
) -> None:
    short = computed(tmp_path / "short", questions, denoiser, display, last=3)
    long = computed(tmp_path / "long", questions, denoiser, display, last=40)
    later = computed(tmp_path / "later", questions, denoiser, display, first=19, last=40)
    assert all(are_equal(short.at(step), long.at(step)) for step in (1, 2, 3))
    assert all(are_equal(later.at(step), long.at(step)) for step in (19, 32, 40))
    assert [*later.files] == [range(17, 33), range(33, 41)], "what a resumed run has behind it is not asked again"


def test_what_is_there_is_not_asked_again_and_more_steps_only_add(
    tmp_path: Path, questions: Questions, denoiser: Denoiser, display: Display
) -> None:
    def made(last: int) -> int:
        predictions = BasePredictions.of_steps(tmp_path, questions, first_step=1, last_step=last)
        return predictions.compute(questions, denoiser, OneProcess(), display)

    assert [made(16), made(16), made(20), made(32)] == [16 * NUM_SLOTS, 0, 4 * NUM_SLOTS, 16 * NUM_SLOTS]


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 6},
        {"asked_of": "base bf16"},
        {"num_timesteps": 999},
        {"encoded": replace(ENCODED, scaling_factor=0.5)},
        {"examples_at": lambda step: [replace(one, caption="sks") for one in examples_at(step)]},
        {"examples_at": lambda step: examples_at(step + 1)},
    ],
)
def test_another_question_has_another_file(changed: dict[str, Any], questions: Questions) -> None:
    assert replace(questions, **changed).key(range(1, 17)) != questions.key(range(1, 17))


def test_a_damaged_file_is_made_again_with_a_line(
    tmp_path: Path, questions: Questions, denoiser: Denoiser, display: Display, said: Callable[[], str]
) -> None:
    found = computed(tmp_path, questions, denoiser, display, last=17)
    expected = [one.clone() for one in found.at(17)]
    path = found.files[range(17, 18)]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = computed(tmp_path, questions, denoiser, display, last=17)
    assert are_equal(again.at(17), expected)
    assert f"1 damaged file of the base model's predictions in {tmp_path}: made again" in said()


def test_a_file_that_has_gone_is_an_error_with_a_way_out(
    tmp_path: Path, questions: Questions, denoiser: Denoiser, display: Display
) -> None:
    found = computed(tmp_path, questions, denoiser, display, last=17)
    found.at(1)
    found.files[range(17, 18)].write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"predictions cannot be read .*\nRemove the file if it exists, then resume the run"):
        found.at(17)
    found.remove()
    assert [*tmp_path.iterdir()] == []


def test_the_untouched_model_has_no_loss_on_class_examples(
    tmp_path: Path, tiny: Callable[..., Any], questions: Questions, display: Display
) -> None:
    model = tiny()
    found = computed(tmp_path, questions, model.state.denoiser, display, last=2)

    def batches_at(step: int) -> list[Batch]:
        return [*micro_batches(
            examples_at(step), ENCODED, step=step, seed=5, cut=Cut(2), prior_weight=1.0, num_timesteps=1000, device=CPU,
            prior_targets=found.at(step),
        )]  # fmt: skip

    first, second = training_steps(model.state, batches_at, last_step=2)
    assert first.prior_loss == pytest.approx(0, abs=1e-6), "half precision alone"
    assert first.instance_loss > 0.1
    assert second.prior_loss is not None and second.prior_loss > first.prior_loss


def test_validation_compares_the_class_with_predictions_and_photos_with_noise(tiny: Callable[..., Any]) -> None:
    model = tiny()
    items = [
        ValidationItem(cast(Any, role), normal((4, 8, 8), 3, role), torch.tensor([1, 2])) for role in ("instance", "prior")
    ]
    before = validation_losses(items, model.state.denoiser, device=CPU)
    predicted = with_predicted_targets(items, model.state.denoiser, device=CPU)
    after = validation_losses(predicted, model.state.denoiser, device=CPU)
    assert after == {"instance": before["instance"], "prior": 0.0} and before["prior"] > 0.1
    with torch.no_grad():
        model.state.denoiser.components.parts["unet"].bias += 0.5
    assert validation_losses(predicted, model.state.denoiser, device=CPU)["prior"] == pytest.approx(0.25)


def test_disk_space_is_that_of_half_precision_latents() -> None:
    family: Any = SimpleNamespace(latent_channels=4, downsampling=8)
    assert prediction_bytes(800, family, Size.square(512)) == 800 * 4 * 64 * 64 * 2
