"""A model spread over all processes (FSDP2), for what does not fit on one device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dreambooth.runtime.processes import Processes

__all__ = ["distribute", "full_tensor", "gather_on_host", "is_sharded", "local_part", "shard", "with_local_part"]


def shard(module: nn.Module, processes: Processes, device: torch.device) -> None:
    """Spread the parameters of `module` over all processes (FSDP2); each block is put together while it calculates.

    Blocks are those that the module's library says not to cut. The parameters are new objects afterwards: shard before a
    trainee or an optimizer takes hold of them. Gradients are summed in the backward pass, which every process must therefore
    run equally often in a step.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes.count,))
    names = getattr(module, "_no_split_modules", None) or ()
    parts = [part for part in module.modules() if part is module or type(part).__name__ in names]
    for part in reversed(parts):  # the inner ones first: each takes what is not taken yet
        # The default would keep the outermost parameters whole after a forward pass, for the backward pass to come. After a
        # pass without one, such as a preview's, they would be old values in the next.
        sharded = fully_shard(part, mesh=mesh, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)  # the sum, where the default is the mean
        sharded.set_force_sum_reduction_for_comms(True)  # Gloo cannot scale on the way, even by 1


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor that `shard` spread; all processes ask for it together. Any other tensor is returned itself."""
    if not is_sharded(tensor):
        return tensor
    return tensor.detach().full_tensor()  # type: ignore[attr-defined, no-any-return]


def gather_on_host(tensors: Mapping[str, Tensor], *, keeps: bool) -> dict[str, Tensor]:
    """Named tensors with those that `shard` spread made whole, in host memory; the others are as they were.

    All processes ask for the same ones together, and one tensor at a time is whole on the device. Without `keeps` this
    process only gives its parts, and the result is empty.
    """
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = full_tensor(tensor)
        if keeps:
            whole[name] = full.cpu() if is_sharded(tensor) else tensor
    return whole


def distribute(full: Tensor, like: Tensor) -> Tensor:
    """`full`, which every process has, cut and placed as `like` is: the other way of `full_tensor`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    placed = full.to(like.device)
    if not isinstance(like, DTensor):
        return placed
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def local_part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor that `shard` spread, in the same memory. Any other tensor is returned itself."""
    if not is_sharded(tensor):
        return tensor
    return tensor.detach().to_local()  # type: ignore[attr-defined, no-any-return]


def with_local_part(part: Tensor, like: Tensor) -> Tensor:
    """The tensor, cut as `like` is, of which this process has `part`: the other way of `local_part`."""
    from torch.distributed.tensor import DTensor

    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())


def is_sharded(tensor: Tensor) -> bool:
    """Whether `shard` spread it."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
