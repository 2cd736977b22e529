"""Several processes, one per device, started by `accelerate launch` or `torchrun`.

Two groups connect them. Numbers travel over NCCL between GPUs and over Gloo between CPUs; on this group the processes run in
step, and a process that does not respond for ten minutes counts as lost. Messages travel over a separate Gloo group, where one
process may wait up to a day for another, for example while that one generates class images or writes files. On Gloo, the death
of a process is noticed at once; on NCCL the launcher notices it and ends the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dreambooth.errors import RunError, SettingsError
from dreambooth.runtime.processes import OneProcess, Processes, share_of
from dreambooth.runtime.shards import is_sharded

__all__ = ["DistributedProcesses", "start_processes"]

T = TypeVar("T")

# A step takes seconds; the first one, which benchmarks kernels, a minute or two. A process later than this is gone.
_LONGEST_STEP = timedelta(minutes=10)
_LONGEST_TASK_OF_ONE = timedelta(hours=24)

_BUCKET_BYTES = 25 * 2**20  # large enough to make the overhead of a transfer negligible, small compared with device memory
_GO_ON = "Its own message says why. If a checkpoint was saved, resume with: dreambooth train --resume RUN_FOLDER"


def start_processes(device_name: str | None) -> Processes:
    """Join the processes that a launcher started, or run as the only process if there was no launcher.

    `device_name` is the user's choice: "cpu", "cuda", or None for GPUs if there are any, otherwise the CPU. Raises
    SettingsError for a device that several processes cannot use, RunError if the other processes cannot be reached.
    """
    launch = _read_launch()
    if launch.count == 1:
        return OneProcess()
    device = _device_of(launch, device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with _translated():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_LONGEST_STEP)
        messages = dist.new_group(backend="gloo", timeout=_LONGEST_TASK_OF_ONE)
    return DistributedProcesses(dist.get_rank(), dist.get_world_size(), device, messages)


class DistributedProcesses:
    """One process among several; created by `start_processes`."""

    def __init__(self, rank: int, count: int, device: torch.device, messages: dist.ProcessGroup) -> None:
        """`messages` is the group for messages between CPUs; numbers travel in the default group."""
        self.rank = rank
        self.count = count
        self._device = device
        self._messages: dist.ProcessGroup | None = messages

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def device(self, name: str | None) -> torch.device:
        """The device assigned at the start; `name` was taken into account then."""
        return self._device

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The share of `items` for this process, as divided by `share_of`."""
        return share_of(items, rank=self.rank, count=self.count)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes, in transfers of about 25 MB.

        Parameters that `shard` distributed are skipped: their gradients are summed during the backward pass.
        """
        whole = [parameter for parameter in parameters if not is_sharded(parameter)]
        is_used_N = torch.tensor([parameter.grad is not None for parameter in whole], dtype=torch.int32)
        with _translated():
            dist.all_reduce(is_used_N, dist.ReduceOp.MAX, self._messages)
        gradients = []
        for parameter, is_used in zip(whole, is_used_N.tolist(), strict=True):
            if is_used and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat_N = torch.cat([gradient.reshape(-1) for gradient in bucket])
            with _translated():
                dist.all_reduce(flat_N)
            for gradient, part in zip(bucket, torch.split(flat_N, [gradient.numel() for gradient in bucket]), strict=True):
                gradient.copy_(part.view(gradient.shape))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes of a small tensor that has the same shape in each."""
        total = tensor.detach().clone()
        with _translated():
            dist.all_reduce(total, group=self._group_for(total))
        return total

    def gather(self, tensor_N: Tensor) -> Tensor:
        """The vectors of all processes, concatenated by rank."""
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        with _translated():
            dist.all_gather(lengths, torch.tensor([len(tensor_N)]), self._messages)
        longest = max(int(length) for length in lengths)
        padded_M = tensor_N.new_zeros(longest)
        padded_M[: len(tensor_N)] = tensor_N.detach()
        parts = [torch.empty_like(padded_M) for _ in range(self.count)]
        with _translated():
            dist.all_gather(parts, padded_M, self._group_for(padded_M))
        return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in at least one process."""
        return self._first_with(flag) is not None

    def wait(self) -> None:
        """Block until all processes have called this."""
        self._agree_that_none_failed()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block first, then the others do."""
        if not self.is_main:
            self._agree_that_none_failed()
        with self.together():
            yield
        if self.is_main:
            self._agree_that_none_failed()

    @contextmanager
    def together(self) -> Iterator[None]:
        """If one process fails in the block, the others raise RunError at its end."""
        try:
            yield
        except BaseException:
            with suppress(RunError):  # no process left to inform; this process's own error is the one to show
                self._first_with(True)
            raise
        self._agree_that_none_failed()

    def __enter__(self) -> DistributedProcesses:
        """The groups already exist."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Wait for all processes and close the groups; after an error leave at once, since others may be waiting for this one.

        An orderly shutdown of NCCL would wait for pending transfers, so after an error it is left to the end of the process.
        The other processes notice broken connections, or the launcher ends them.
        """
        if exception[0] is None:
            self.wait()
        # If a Gloo thread is still releasing its last message while Python exits, the process aborts: observed in 2 of 50
        # runs on a busy machine. A group's threads have ended once nothing references the group.
        self._messages = None
        if exception[0] is None or self._device.type == "cpu":
            dist.destroy_process_group()

    def _group_for(self, tensor: Tensor) -> dist.ProcessGroup | None:
        """NCCL does not support CPU tensors; they use the group for messages."""
        return self._messages if tensor.device.type == "cpu" else None

    def _first_with(self, flag: bool) -> int | None:
        """The lowest rank whose flag is true. All short messages have this form, so that any two of them can be matched."""
        first = torch.tensor(self.rank if flag else self.count)
        with _translated():
            dist.all_reduce(first, dist.ReduceOp.MIN, self._messages)
        return None if int(first) == self.count else int(first)

    def _agree_that_none_failed(self) -> None:
        first = self._first_with(False)
        if first is not None:
            raise RunError(f"process {self.rank} stops because process {first} of {self.count} did", hint=_GO_ON)


@dataclass(frozen=True)
class _Launch:
    """The environment variables set by the launcher."""

    count: int
    local_rank: int
    """Rank of this process on its machine."""
    local_count: int


def _read_launch() -> _Launch:
    count = _number("WORLD_SIZE", 1)
    if count == 1:
        return _Launch(1, 0, 1)
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise SettingsError(
            f"the environment sets WORLD_SIZE={count}, that is, several processes, but not {', '.join(missing)}",
            hint="Start with accelerate launch or torchrun, or unset WORLD_SIZE to train in one process.",
        )
    local_rank = _number("LOCAL_RANK", 0)
    return _Launch(count, local_rank, _number("LOCAL_WORLD_SIZE", local_rank + 1))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise SettingsError(f"the environment sets {name}={text!r}: expected a number")
    return int(text)


def _device_of(launch: _Launch, name: str | None) -> torch.device:
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        raise SettingsError(
            "accelerate is configured for DeepSpeed, which is not supported", hint="Change it with: accelerate config"
        )
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise SettingsError(
            f"device is {name!r}, but {launch.count} processes were started, and each needs a device of its own",
            hint="Omit --device, or use --device cpu.",
        )
    if name == "cpu":
        return torch.device("cpu")
    gpus = torch.cuda.device_count()
    if launch.local_count > gpus:
        raise SettingsError(
            f"{launch.local_count} processes were started on this machine, which has {gpus} CUDA GPU{'' if gpus == 1 else 's'}",
            hint="Start one process per GPU: torchrun --nproc-per-node gpu -m dreambooth ..., or use --device cpu.",
        )
    return torch.device("cuda", launch.local_rank)


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in groups of one dtype and about `_BUCKET_BYTES`, in the same order in all processes."""
    open_buckets: dict[torch.dtype, list[Tensor]] = {}
    for gradient in gradients:
        bucket = open_buckets.setdefault(gradient.dtype, [])
        bucket.append(gradient)
        if sum(tensor.nbytes for tensor in bucket) >= _BUCKET_BYTES:
            yield open_buckets.pop(gradient.dtype)
    yield from open_buckets.values()


@contextmanager
def _translated() -> Iterator[None]:
    """Raise an understandable error when another process is gone; the libraries only mention sockets and ports."""
    try:
        yield
    except RuntimeError as error:
        if type(error) is not RuntimeError and not isinstance(error, dist.DistError):
            raise  # an error of this process itself, such as out of memory
        first_line = str(error).partition("\n")[0]
        error.__traceback__ = None  # it references the group, see `__exit__`
        raise RunError(f"another process of this run has ended or does not respond ({first_line})", hint=_GO_ON) from error
