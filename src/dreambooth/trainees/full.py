"""Training whole modules: the UNet, and the text encoder with it when asked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainees.trained_parts import Model, trained_parts

__all__ = ["FullTrainee", "ParameterGroup", "full_trainee"]

_TOKEN_TABLE = "token_embedding.weight"


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate, under unique names such as "unet.conv_in.weight"."""

    name: str
    parameters: dict[str, nn.Parameter]
    learning_rate: float


class FullTrainee:
    """Modules whose every parameter learns but the `frozen` ones; `parameters` names each once, in a fixed order."""

    def __init__(
        self, modules: Mapping[str, nn.Module], learning_rates: Mapping[str, float], *, frozen: Collection[nn.Parameter] = ()
    ) -> None:
        self.modules = dict(modules)
        for module in self.modules.values():
            module.requires_grad_(True)
        for parameter in frozen:
            parameter.requires_grad_(False)
        self.groups = tuple(
            ParameterGroup(name, _learning(name, module), learning_rates[name]) for name, module in self.modules.items()
        )
        self.parameters = {name: parameter for group in self.groups for name, parameter in group.parameters.items()}

    @contextmanager
    def train_mode(self) -> Iterator[None]:
        """Inside, the modules are in training mode; afterwards each is as it was found."""
        before = {name: module.training for name, module in self.modules.items()}
        try:
            for module in self.modules.values():
                module.train()
            yield
        finally:
            for name, module in self.modules.items():
                module.train(before[name])


def _learning(name: str, module: nn.Module) -> dict[str, nn.Parameter]:
    return {f"{name}.{key}": parameter for key, parameter in module.named_parameters() if parameter.requires_grad}


def full_trainee(model: Model, settings: TraineeSettings, *, learning_rate: float) -> FullTrainee:
    """The trainee that the settings describe; text encoders learn at their own rate when they have one."""
    modules = {name: model.parts[name] for name in trained_parts(settings, model.family)}
    text_rate = settings.text_encoder_learning_rate
    rates = {name: learning_rate if name == model.family.denoiser or text_rate is None else text_rate for name in modules}
    named = (one for name, module in modules.items() if name != model.family.denoiser for one in module.named_parameters())
    tables = [] if settings.train_token_table else [table for name, table in named if name.endswith(_TOKEN_TABLE)]
    return FullTrainee(modules, rates, frozen=tables)
