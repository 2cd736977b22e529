"""Shards a model over all processes (FSDP2) if it does not fit on one device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dreambooth.runtime.processes import Processes

__all__ = ["distribute", "full_tensor", "gather_on_host", "is_sharded", "local_part", "shard", "with_local_part"]


def shard(module: nn.Module, processes: Processes, device: torch.device) -> None:
    """Shard the parameters of `module` over all processes (FSDP2); each block is gathered while it computes.

    Blocks are those that the module's library marks as indivisible. Parameters are new objects afterwards, so shard before
    creating a trainee or an optimizer. Gradients are summed in the backward pass, so every process must run it equally often
    in a step.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes.count,))
    names = getattr(module, "_no_split_modules", None) or ()
    parts = [part for part in module.modules() if part is module or type(part).__name__ in names]
    for part in reversed(parts):  # inner modules first: each takes the parameters that are not taken yet
        # By default the outermost parameters would stay gathered after a forward pass, ready for the backward pass. After a
        # forward pass without one, such as a preview's, the next pass would use outdated values.
        sharded = fully_shard(part, mesh=mesh, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)  # the sum, where the default is the mean
        sharded.set_force_sum_reduction_for_comms(True)  # Gloo cannot scale during a transfer, not even by 1


def full_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor, gathered; all processes must call this together. Other tensors are returned as they are."""
    if not is_sharded(tensor):
        return tensor
    return tensor.detach().full_tensor()  # type: ignore[attr-defined, no-any-return]


def gather_on_host(tensors: Mapping[str, Tensor], *, keeps: bool) -> dict[str, Tensor]:
    """Named tensors in host memory, with sharded ones gathered; the others are returned as they are.

    All processes must call this together for the same tensors; only one tensor at a time is gathered on the device. Without
    `keeps`, this process only contributes its shards, and the result is empty.
    """
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = full_tensor(tensor)
        if keeps:
            whole[name] = full.cpu() if is_sharded(tensor) else tensor
    return whole


def distribute(full: Tensor, like: Tensor) -> Tensor:
    """`full`, which every process has, sharded and placed like `like`: the inverse of `full_tensor`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    placed = full.to(like.device)
    if not isinstance(like, DTensor):
        return placed
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def local_part(tensor: Tensor) -> Tensor:
    """The local shard of a sharded tensor, sharing its memory. Other tensors are returned as they are."""
    if not is_sharded(tensor):
        return tensor
    return tensor.detach().to_local()  # type: ignore[attr-defined, no-any-return]


def with_local_part(part: Tensor, like: Tensor) -> Tensor:
    """The tensor, sharded like `like`, of which `part` is this process's shard: the inverse of `local_part`."""
    from torch.distributed.tensor import DTensor

    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())


def is_sharded(tensor: Tensor) -> bool:
    """Whether `shard` distributed the tensor."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
