"""A model spread over all processes (FSDP2), for what does not fit on one device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dreambooth.runtime.processes import Processes

__all__ = ["distribute", "full_tensor", "is_sharded", "shard"]


def shard(module: nn.Module, processes: Processes, device: torch.device) -> None:
    """Spread the parameters of `module` over all processes (FSDP2); each block is put together while it calculates.

    Blocks are those that the module's library says not to cut. The parameters are new objects afterwards: shard before a
    trainee or an optimiser takes hold of them. Gradients are summed in the backward pass, which every process must therefore
    run equally often in a step.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes.count,))
    names = getattr(module, "_no_split_modules", None) or ()
    parts = [part for part in module.modules() if part is module or type(part).__name__ in names]
    for part in reversed(parts):  # the inner ones first: each takes what is not taken yet
        sharded = fully_shard(part, mesh=mesh)
        sharded.set_gradient_divide_factor(1.0)  # the sum, where the default is the mean
        sharded.set_force_sum_reduction_for_comms(True)  # Gloo cannot scale on the way, even by 1


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor that `shard` spread; all processes ask for it together. Any other tensor is returned itself."""
    if not is_sharded(tensor):
        return tensor
    return tensor.detach().full_tensor()  # type: ignore[attr-defined, no-any-return]


def distribute(full: Tensor, like: Tensor) -> Tensor:
    """`full`, which every process has, cut and placed as `like` is: the other way of `full_tensor`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    placed = full.to(like.device)
    if not isinstance(like, DTensor):
        return placed
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def is_sharded(tensor: Tensor) -> bool:
    """Whether `shard` spread it."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
