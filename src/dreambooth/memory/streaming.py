"""Blocks that live in host memory and are copied to the device one at a time, forward and backward, while all weights train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["StreamedBlocks"]


class StreamedBlocks:
    """Modules whose parameters are on the device only while they compute; otherwise their values are in a home tensor.

    A home is a tensor in host memory, pinned for a CUDA device. While a parameter is at home, it is an empty tensor on the
    device, so an operation that uses it by mistake raises an error instead of computing with an old value.

    - Forward: a block is loaded before its forward pass and released after it. Nothing is written home.
    - Backward: a block is loaded when the gradient of its first output is complete. Everything that a block computes leads to
      its first output (in a UNet the hidden state; the others go to skip connections), so by then no part of the block has
      run or been recomputed, and everything in the blocks behind it is finished.
    - As soon as the gradient of a parameter is complete, other hooks for that event run (an optimizer may change the values in
      place and drop the gradient); then the values are written home and the parameter is released. This is safe because a
      gradient is complete only after every operation that used the parameter is finished. A gradient that nobody drops stays
      on the device in full size.

    At most one block is loaded at a time, and the next pass discards whatever an interrupted pass left behind. This requires
    activations that are recomputed layer by layer inside the blocks, as diffusers does. Without that the results are the same,
    but a matrix product keeps its weight in memory until its backward pass; blocks that are recomputed as a whole cannot be
    streamed. Everything runs on the device's current stream; nothing is prefetched.
    """

    def __init__(self, blocks: Iterable[nn.Module], device: torch.device) -> None:
        """Nothing moves before `attach`; no blocks means that nothing is streamed."""
        self._blocks = tuple(blocks)
        self._device = device
        self._is_moving: Callable[[], bool] = lambda: True
        self._homes: dict[nn.Parameter, Tensor] = {}
        self._block_hooks: list[RemovableHandle] = []
        self._gradient_hooks: dict[nn.Parameter, RemovableHandle] = {}
        self._loaded: nn.Module | None = None
        self._is_host_mode = False

    def attach(self) -> None:
        """Move the blocks' weights home, one tensor after the other, from any device.

        Afterwards `.to(device)` on the whole model moves only the rest of it. Its dtype must not change any more.
        """
        assert not self._block_hooks, "the blocks are attached"
        for block in self._blocks:
            assert next(block.buffers(), None) is None, "buffers are not streamed"
            for parameter in block.parameters():
                assert parameter not in self._homes, "a parameter belongs to two blocks"
                home = parameter.data.cpu()
                self._homes[parameter] = home.pin_memory() if self._device.type == "cuda" else home
                self._release(parameter)
            self._block_hooks.append(block.register_forward_pre_hook(self._before_forward))
            self._block_hooks.append(block.register_forward_hook(self._after_forward))

    def write_home_while(self, is_moving: Callable[[], bool]) -> None:
        """Skip writing unchanged values home: write only while `is_moving()` is true. By default, always write."""
        self._is_moving = is_moving

    @contextmanager
    def host_values(self) -> Iterator[None]:
        """Inside, every streamed parameter is its home tensor: read it, save it, or change it in place. No passes inside."""
        assert not self._is_host_mode, "host_values is not nested"
        self._wait_for_copies()
        self._is_host_mode = True
        try:
            for parameter, home in self._homes.items():
                parameter.data = home
            yield
        finally:
            for parameter in self._homes:
                self._release(parameter)
            self._is_host_mode = False

    def _before_forward(self, block: nn.Module, _inputs: Any) -> None:
        self._load(block)

    def _after_forward(self, block: nn.Module, _inputs: Any, output: Tensor | tuple[Any, ...]) -> None:
        first = output if isinstance(output, Tensor) else output[0]
        if first.requires_grad:
            first.register_hook(partial(self._before_backward, block))
        self._release_loaded()
        torch.clear_autocast_cache()  # otherwise it keeps a 16-bit copy of every weight until the end of the forward pass

    def _before_backward(self, block: nn.Module, _gradient: Tensor) -> None:
        self._load(block)
        for parameter in block.parameters():
            if parameter.requires_grad:
                # Hooks run in the order of registration. Registered again in each pass, this one runs last.
                if parameter in self._gradient_hooks:
                    self._gradient_hooks[parameter].remove()
                self._gradient_hooks[parameter] = parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    self._after_gradient
                )

    def _after_gradient(self, parameter: nn.Parameter) -> None:
        home = self._homes[parameter]
        assert parameter.shape == home.shape, "a gradient was complete while its parameter was at home"
        if self._is_moving():
            # The host does not wait for the copy: the next load follows it on the same stream, and code that reads the value
            # on the host waits for it first.
            home.copy_(parameter.data, non_blocking=self._device.type == "cuda")
        self._release(parameter)

    def _load(self, block: nn.Module) -> None:
        assert not self._is_host_mode, "no forward or backward pass inside host_values"
        if block is not self._loaded:
            self._release_loaded()
            self._loaded = block
        for parameter in block.parameters():
            if parameter.numel() == 0:
                parameter.data = self._homes[parameter].to(self._device, non_blocking=True, copy=True)

    def _release_loaded(self) -> None:
        if self._loaded is not None:
            for parameter in self._loaded.parameters():
                self._release(parameter)
            self._loaded = None

    def _release(self, parameter: nn.Parameter) -> None:
        parameter.data = torch.empty(0, dtype=parameter.dtype, device=self._device)

    def _wait_for_copies(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
