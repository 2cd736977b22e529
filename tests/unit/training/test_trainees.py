"""Everything that trains takes a trainee of any kind: here whole parts, and one scale for each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dreambooth.memory.plan import MemoryPlan
from dreambooth.runtime.processes import OneProcess
from dreambooth.trainees.trainee import BaseModel, ParameterGroup, Trainee
from dreambooth.training.loop import training_steps
from dreambooth.training.optimizer import make_optimizer
from dreambooth.training.settings import OptimizerSettings
from dreambooth.training.weight_average import WeightAverage

MakeTiny = Callable[..., Any]
SETTINGS = OptimizerSettings(learning_rate=0.1)
PLANS = (MemoryPlan("fp32"), MemoryPlan("fp32", step_in_backward=True))


@dataclass(frozen=True)
class Scales:
    """What such a trainee leaves."""

    tensors: Mapping[str, Tensor]

    def write(self, path: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
        save_file({name: tensor.to(dtype) for name, tensor in self.tensors.items()}, path, metadata=dict(metadata))


class ScaleTrainee:
    """Hooks on frozen parts; what learns are the scales alone."""

    def __init__(self, parts: Mapping[str, nn.Module], *, learning_rate: float) -> None:
        self.parts = dict(parts)
        for module in self.parts.values():
            module.requires_grad_(False)
        self.groups = tuple(
            ParameterGroup(name, {f"{name}.scale": nn.Parameter(torch.ones(()))}, learning_rate) for name in self.parts
        )
        self.parameters = {name: parameter for group in self.groups for name, parameter in group.parameters.items()}
        self._hooks: list[Any] = []
        self.attach()

    @contextmanager
    def train_mode(self) -> Iterator[None]:
        yield

    def attach(self) -> None:
        for name, module in self.parts.items():
            scale = self.parameters[f"{name}.scale"]
            self._hooks.append(module.register_forward_hook(lambda *call, scale=scale: call[-1] * scale))

    def detach(self, base: BaseModel) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def product(self, base: BaseModel, *, gather: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]) -> Scales:
        return Scales(gather({name: parameter.detach() for name, parameter in self.parameters.items()}))


class Base:
    """The model as it was read, and what is written of it."""

    def __init__(self, parts: dict[str, dict[str, torch.Tensor]]) -> None:
        self.parts = parts

    def with_parts(self, parts: Any) -> Any:
        return Base({**self.parts, **parts})


def started(tiny: MakeTiny, kind: str, plan: MemoryPlan) -> tuple[Any, Trainee, Base]:
    run = tiny(plan=plan)
    parts = run.state.denoiser.components.parts
    base = Base({name: {key: t.clone() for key, t in module.state_dict().items()} for name, module in parts.items()})
    trainee: Trainee = run.trainee if kind == "full" else ScaleTrainee(parts, learning_rate=0.1)
    if kind == "scales":
        run.state.optimizer = make_optimizer(trainee, SETTINGS, plan, total_steps=10, processes=OneProcess(), seed=1)
        run.state.average = WeightAverage(trainee.parameters, 0.9)
    return run, trainee, base


def output(run: Any) -> torch.Tensor:
    batch = next(run.batches_at(1))
    with torch.no_grad():
        prediction: torch.Tensor = run.state.denoiser(batch.x_0, batch.t_B, batch.text)
    return prediction


@pytest.mark.parametrize("plan", PLANS, ids=["at once", "tensor by tensor"])
@pytest.mark.parametrize("kind", ["full", "scales"])
def test_detached_it_leaves_the_base_model_and_attached_what_it_learned(tiny: MakeTiny, kind: str, plan: MemoryPlan) -> None:
    run, trainee, base = started(tiny, kind, plan)
    before = output(run)
    with trainee.train_mode():
        losses = [result.loss for result in training_steps(run.state, run.batches_at, last_step=6)]
    assert losses[-1] < losses[0]
    assert all(group.name in run.state.optimizer.learning_rates(6) for group in trainee.groups)
    learned = output(run)
    assert not torch.equal(learned, before)
    trainee.detach(base)
    for name, module in trainee.parts.items():
        assert all(torch.equal(tensor, base.parts[name][key]) for key, tensor in module.state_dict().items())
    assert torch.equal(output(run), before)
    trainee.attach()
    assert torch.equal(output(run), learned)


def test_the_product_of_whole_parts_is_the_base_model_with_those_parts(tiny: MakeTiny) -> None:
    run, trainee, base = started(tiny, "full", PLANS[0])
    base.parts["vae"] = {"weight": torch.zeros(1)}
    list(training_steps(run.state, run.batches_at, last_step=1))
    product: Any = trainee.product(base, gather=lambda tensors: {name: tensor.clone() for name, tensor in tensors.items()})
    assert product.parts["vae"] is base.parts["vae"]
    for name, module in trainee.parts.items():
        assert all(torch.equal(product.parts[name][key], tensor) for key, tensor in module.state_dict().items())


def test_a_product_of_another_kind_has_its_own_writer(tiny: MakeTiny, tmp_path: Path) -> None:
    run, trainee, base = started(tiny, "scales", PLANS[0])
    list(training_steps(run.state, run.batches_at, last_step=2))
    path = tmp_path / "scales.safetensors"
    trainee.product(base, gather=lambda tensors: tensors).write(path, dtype=torch.float16, metadata={"a": "b"})
    written = load_file(path)
    assert written.keys() == trainee.parameters.keys() == {"unet.scale", "text_encoder.scale"}
    for name, parameter in trainee.parameters.items():
        assert written[name].dtype == torch.float16
        assert torch.equal(written[name], parameter.detach().half())
