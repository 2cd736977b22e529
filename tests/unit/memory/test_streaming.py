"""Streamed blocks: weights that visit the device block by block change no number, and are never there together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.unet_blocks import unet_blocks
from dreambooth.memory.streaming import StreamedBlocks
from tests.random_weights import random_model

CPU = torch.device("cpu")
RATE = 0.5

Model = Callable[..., nn.Module]
Loss = Callable[..., Tensor]


@pytest.fixture(scope="module")
def pristine(miniature: StableDiffusion1) -> nn.Module:
    return random_model(miniature, seed=0).build(dtype=torch.float32).denoiser


@pytest.fixture
def make(pristine: nn.Module) -> Model:
    def unet(dtype: torch.dtype = torch.float32, *, recompute: bool = True) -> nn.Module:
        """A fresh copy of the same model, ready to learn."""
        model: Any = copy.deepcopy(pristine).requires_grad_(True).train()
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        if recompute:
            model.enable_gradient_checkpointing()
        return model

    return unet


@pytest.fixture
def predict(miniature: StableDiffusion1) -> Loss:
    def prediction(unet: Any, step: int = 1, *, dtype: torch.dtype = torch.float32) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        x_t_BCHW = torch.randn(2, 4, 8, 8, generator=generator).to(dtype)
        text_BLD = torch.randn(2, 77, 64, generator=generator).to(dtype)
        return miniature.predict(unet, x_t_BCHW, torch.tensor([300, 7 * step]), Conditioning(text_BLD))

    return prediction


def stream(unet: nn.Module) -> StreamedBlocks:
    streamed = StreamedBlocks(unet_blocks(unet), CPU)
    streamed.attach()
    return streamed


def parameters_of_blocks(unet: nn.Module) -> list[nn.Parameter]:
    return [parameter for block in unet_blocks(unet) for parameter in block.parameters()]


def values(unet: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in unet.named_parameters()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if left[name].dtype != right[name].dtype or not torch.equal(left[name], right[name])]
    assert different == []


def all_are_released(unet: nn.Module) -> bool:
    return all(parameter.numel() == 0 for parameter in parameters_of_blocks(unet))


def descend(parameter: nn.Parameter) -> None:
    """The step of an optimizer that uses each gradient up as soon as it is made."""
    assert parameter.grad is not None
    parameter.data -= RATE * parameter.grad
    parameter.grad = None


def learn_in_backward(unet: nn.Module) -> None:
    for parameter in unet.parameters():
        parameter.register_post_accumulate_grad_hook(descend)


def bytes_that_stay(unet: nn.Module) -> int:
    """Diffusers recomputes all of a UNet's matrix products but one: the first of the middle, which keeps its weight."""
    return int(unet.get_submodule("mid_block.resnets.0.time_emb_proj").weight.nbytes)


class Watch:
    """Looks at every layer's forward pass, also the recomputed ones, and at every gradient: which weights are in memory?

    It counts storages, so a copy that only a graph keeps counts too.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._parameters = parameters_of_blocks(unet)
        self._storages: WeakValueDictionary[int, torch.UntypedStorage] = WeakValueDictionary()
        self.peak_bytes = 0
        self.num_looks = 0
        for module in unet.modules():
            if not list(module.children()):
                module.register_forward_hook(self.look)
        for parameter in unet.parameters():
            parameter.register_post_accumulate_grad_hook(self.look)

    def look(self, *_: object) -> None:
        for parameter in self._parameters:
            if parameter.numel():
                self._storages[parameter.data_ptr()] = parameter.untyped_storage()
        self.num_looks += 1
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    @property
    def live_bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())


def largest_block_bytes(streamed: StreamedBlocks) -> int:
    return max(sum(streamed._homes[weight].nbytes for weight in block.parameters()) for block in streamed._blocks)


def test_the_blocks_of_a_unet_are_all_but_its_small_rest(make: Model) -> None:
    unet = make()
    in_blocks = {id(parameter) for parameter in parameters_of_blocks(unet)}
    rest = {name.split(".")[0] for name, parameter in unet.named_parameters() if id(parameter) not in in_blocks}
    assert rest == {"conv_in", "time_embedding", "conv_norm_out", "conv_out"}


def test_attached_weights_are_empty_on_the_device_and_the_rest_stays(make: Model) -> None:
    unet = make(torch.bfloat16)
    largest = max(sum(2 * parameter.numel() for parameter in block.parameters()) for block in unet_blocks(unet))
    streamed = StreamedBlocks(unet_blocks(unet), CPU)
    streamed.attach()
    assert largest_block_bytes(streamed) == largest
    assert all_are_released(unet)
    assert all(parameter.dtype == torch.bfloat16 for parameter in unet.parameters())
    assert unet.get_submodule("conv_in").weight.numel() > 0


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predictions_and_gradients_are_the_same_bit_for_bit(
    make: Model, predict: Loss, dtype: torch.dtype, recompute: bool
) -> None:
    plain, unet = make(dtype, recompute=recompute), make(dtype, recompute=recompute)
    stream(unet)
    expected, prediction = predict(plain, dtype=dtype), predict(unet, dtype=dtype)
    assert torch.equal(prediction, expected)
    assert all_are_released(unet)
    expected.square().mean().backward()
    prediction.square().mean().backward()
    assert all_are_released(unet)
    gradients = [{name: p.grad for name, p in model.named_parameters() if p.grad is not None} for model in (plain, unet)]
    assert len(gradients[0]) == len(list(plain.parameters()))
    assert_same(gradients[1], gradients[0])


def test_gradients_of_several_passes_are_summed_in_full_size(make: Model, predict: Loss) -> None:
    plain, unet = make(), make()
    stream(unet)
    for model in (plain, unet):
        predict(model, 1).square().mean().backward()
        (predict(model, 2).square().mean() + predict(model, 3).square().mean()).backward()  # two passes in one graph
    assert all_are_released(unet)
    for parameter, expected in zip(unet.parameters(), plain.parameters(), strict=True):
        assert parameter.grad is not None and expected.grad is not None
        assert torch.equal(parameter.grad, expected.grad)


@pytest.mark.parametrize("order", ["optimizer first", "optimizer last", "optimizer after a pass"])
@pytest.mark.parametrize("dtype", [pytest.param(torch.float32, marks=pytest.mark.slow), torch.bfloat16])
def test_weights_that_learn_inside_the_backward_pass_come_home(
    make: Model, predict: Loss, dtype: torch.dtype, order: str
) -> None:
    plain, unet = make(dtype), make(dtype)
    before = values(plain)
    learn_in_backward(plain)
    if order == "optimizer first":
        learn_in_backward(unet)
        streamed = stream(unet)
    else:
        streamed = stream(unet)
        if order == "optimizer after a pass":
            predict(unet, dtype=dtype).square().mean().backward()
            unet.zero_grad()
        learn_in_backward(unet)
    for step in (1, 2, 3):
        for model in (plain, unet):
            predict(model, step, dtype=dtype).square().mean().backward()
    assert all_are_released(unet)
    with streamed.host_values():
        assert_same(values(unet), values(plain))
    moved = [name for name, value in values(plain).items() if not torch.equal(value, before[name])]
    assert len(moved) > 0.9 * len(before)


def test_values_are_not_written_home_while_nothing_moves(make: Model, predict: Loss) -> None:
    unet = make()
    before = values(unet)
    learn_in_backward(unet)
    streamed = stream(unet)
    is_moving = False
    streamed.write_home_while(lambda: is_moving)
    predict(unet).square().mean().backward()
    with streamed.host_values():
        assert all(torch.equal(p, before[name]) for name, p in unet.named_parameters() if "_block" in name)
    is_moving = True
    predict(unet).square().mean().backward()
    with streamed.host_values():
        assert not any(torch.equal(p, before[name]) for name, p in unet.named_parameters() if "_block" in name and p.ndim > 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_block_at_most_is_loaded_at_any_time(make: Model, predict: Loss, dtype: torch.dtype) -> None:
    unet = make(dtype)
    stays = bytes_that_stay(unet)
    streamed = stream(unet)
    watch = Watch(unet)
    learn_in_backward(unet)
    for step in (1, 2):
        loss = predict(unet, step, dtype=dtype).square().mean()
        assert watch.live_bytes == stays
        loss.backward()
        assert watch.live_bytes == 0
    assert watch.num_looks > 2 * len(list(unet.parameters()))
    assert largest_block_bytes(streamed) <= watch.peak_bytes <= largest_block_bytes(streamed) + stays


def test_previews_without_gradients_work_between_the_steps(make: Model, predict: Loss) -> None:
    plain, unet = make(), make()
    streamed = stream(unet)
    for model in (plain, unet):
        learn_in_backward(model)
        predict(model).square().mean().backward()
        model.eval()
    watch = Watch(unet)
    with torch.no_grad():
        assert torch.equal(predict(unet, 2), predict(plain, 2))
    assert all_are_released(unet)
    assert watch.live_bytes == 0
    assert watch.peak_bytes == largest_block_bytes(streamed)


class LivingCasts(TorchDispatchMode):
    """Keeps an eye on the lower-precision copies that are made of some parameters."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__()
        self._ids = {id(parameter) for parameter in parameters}
        self.living: WeakValueDictionary[int, torch.UntypedStorage] = WeakValueDictionary()
        self.num_made = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and id(args[0]) in self._ids:
            self.num_made += 1
            self.living[result.data_ptr()] = result.untyped_storage()
        return result


def test_mixed_precision_keeps_no_copies_of_weights_that_left(make: Model, predict: Loss) -> None:
    unet = make()
    stream(unet)
    casts = LivingCasts(parameters_of_blocks(unet))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), casts:
        predict(unet)
        assert casts.num_made > 50
        assert len(casts.living) == 0


def test_host_values_are_read_and_changed_in_place(make: Model, predict: Loss) -> None:
    plain, unet = make(), make()
    streamed = stream(unet)
    with streamed.host_values():
        assert_same(values(unet), values(plain))
        for model in (plain, unet):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(0.9)
    assert all_are_released(unet)
    assert torch.equal(predict(unet), predict(plain))


def test_no_pass_runs_inside_host_values(make: Model, predict: Loss) -> None:
    unet = make()
    streamed = stream(unet)
    with pytest.raises(AssertionError, match="inside host_values"), streamed.host_values():
        predict(unet)
    assert all_are_released(unet)


def test_streamed_parameters_keep_their_form_and_learn_as_others(make: Model, predict: Loss) -> None:
    plain, unet = make(), make()
    layout = {name: (p.shape, p.stride(), p.dtype, p.device) for name, p in unet.named_parameters()}
    objects = [id(parameter) for parameter in unet.parameters()]
    streamed = stream(unet)
    for step in (1, 2):
        for model in (plain, unet):
            if step == 1:
                learn_in_backward(model)
            predict(model, step).square().mean().backward()
        with streamed.host_values():
            assert_same(values(unet), values(plain))
            assert {name: (p.shape, p.stride(), p.dtype, p.device) for name, p in unet.named_parameters()} == layout
        assert [id(parameter) for parameter in unet.parameters()] == objects


class BrokenError(Exception):
    """Stands for whatever breaks a pass off: out of memory, Ctrl-C."""


@contextmanager
def broken(unet: nn.Module) -> Iterator[None]:
    """Inside, the middle block breaks every forward pass off, or the recomputed one when it is entered between the two."""

    def breaks(*_: object) -> None:
        raise BrokenError

    hook = unet.get_submodule("mid_block.resnets.1").register_forward_pre_hook(breaks)
    yield
    hook.remove()


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_a_pass_that_is_broken_off_harms_nothing(make: Model, predict: Loss, when: str) -> None:
    plain, unet = make(), make()
    streamed = stream(unet)
    for model in (plain, unet):
        learn_in_backward(model)
        if when == "forward":
            with broken(model), pytest.raises(BrokenError):
                predict(model)
        else:
            loss = predict(model).square().mean()
            with broken(model), pytest.raises(BrokenError):
                loss.backward()
    assert not all_are_released(unet)
    with streamed.host_values():
        assert_same(values(unet), values(plain))


def test_the_next_pass_goes_on_after_one_that_was_broken_off(make: Model, predict: Loss) -> None:
    plain, unet = make(), make()
    stays = bytes_that_stay(unet)
    streamed = stream(unet)
    with broken(unet), pytest.raises(BrokenError):
        predict(unet)
    watch = Watch(unet)
    for model in (plain, unet):
        learn_in_backward(model)
        predict(model).square().mean().backward()
    assert watch.peak_bytes <= largest_block_bytes(streamed) + stays
    with streamed.host_values():
        assert_same(values(unet), values(plain))


def test_frozen_weights_of_a_block_leave_with_the_next_block(make: Model, predict: Loss) -> None:
    plain, unet = make(), make()
    for model in (plain, unet):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("norm" in name)
    streamed = stream(unet)
    for model in (plain, unet):
        predict(model).square().mean().backward()
    for parameter, expected in zip(unet.parameters(), plain.parameters(), strict=True):
        assert (parameter.grad is None) == (expected.grad is None)
        assert parameter.grad is None or expected.grad is None or torch.equal(parameter.grad, expected.grad)
    loaded = [all(p.numel() == 0 for p in block.parameters()) for block in unet_blocks(unet)]
    assert loaded == [False] + [True] * (len(loaded) - 1)
    with streamed.host_values():
        assert_same(values(unet), values(plain))


def test_a_parameter_of_two_blocks_is_refused() -> None:
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    two.weight = one.weight
    with pytest.raises(AssertionError, match="two blocks"):
        StreamedBlocks((one, two), CPU).attach()
