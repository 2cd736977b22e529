"""The base model's predictions in the step that uses them: with the trainee detached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from dreambooth.diffusion.schedule import add_noise
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.training.loop import training_steps
from dreambooth.training.teacher import DetachedTeacher, NoTeacher

MakeTiny = Callable[..., Any]


class Doubling:
    """Doubles what the model predicts, while attached."""

    def __init__(self, module: nn.Module) -> None:
        self.is_attached = True
        module.register_forward_hook(lambda *call: 2 * call[-1] if self.is_attached else None)

    def attach(self) -> None:
        self.is_attached = True

    def detach(self, base: object) -> None:
        assert base == "base"
        self.is_attached = False


def test_class_examples_are_compared_with_what_the_detached_model_predicts(tiny: MakeTiny) -> None:
    training = tiny()
    denoiser, trainee = training.state.denoiser, Doubling(training.state.denoiser.components.denoiser)
    [batch] = [replace(one, prior_rows=(4, 5, 6, 7)) for one in training.batches_at(1)]
    with torch.no_grad():
        trainee.is_attached = False
        x_t = add_noise(denoiser.components.family.schedule, batch.x_0, batch.eps, batch.t_B)
        expected = denoiser(x_t, batch.t_B, batch.text)
        trainee.is_attached = True
    teacher: Any = DetachedTeacher(denoiser, trainee, "base")  # type: ignore[arg-type]
    [found] = teacher.with_targets([batch])
    torch.testing.assert_close(found.prior_target[4:], expected[4:])
    assert not found.prior_target[:4].any()
    assert not found.prior_target.requires_grad
    assert trainee.is_attached


def test_batches_without_class_examples_stay_as_they_are(tiny: MakeTiny) -> None:
    training = tiny()
    batch = next(training.batches_at(1))
    teacher: Any = DetachedTeacher(training.state.denoiser, None, None)  # type: ignore[arg-type]
    assert [*teacher.with_targets([batch])] == [batch]
    assert [*NoTeacher().with_targets([batch])] == [batch]


def test_an_untrained_model_has_no_class_loss(tiny: MakeTiny) -> None:
    training = tiny()
    trainee = Doubling(nn.Identity())
    teacher: Any = DetachedTeacher(training.state.denoiser, trainee, "base")  # type: ignore[arg-type]
    batches = [replace(one, prior_rows=(4, 5, 6, 7)) for one in training.batches_at(1)]
    [result] = training_steps(training.state, lambda _: teacher.with_targets(batches), last_step=1)
    assert result.prior_loss == 0
    assert result.instance_loss > 0


def test_only_what_leaves_the_base_model_alone_has_one() -> None:
    assert TraineeSettings(trainee="lora").keeps_base
    assert not TraineeSettings().keeps_base
