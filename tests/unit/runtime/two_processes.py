"""What two processes do together, run by each of them: `two_processes.py checks`, or `raise` or `kill` for a sad end.

Whatever is not as it should be ends in a traceback; nothing is printed otherwise.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

warnings.simplefilter("error")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from dreambooth.errors import RunError  # noqa: E402
from dreambooth.runtime.distributed import DistributedProcesses, start_processes  # noqa: E402
from dreambooth.runtime.shards import distribute, full_tensor, gather_on_host, local_part, shard, with_local_part  # noqa: E402

EXAMPLES_NCHW = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, hidden_BCHW: Tensor) -> Tensor:
        return hidden_BCHW + torch.tanh(self.convolution(hidden_BCHW))


class Net(nn.Module):
    _no_split_modules = ("Block",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.last = nn.Conv2d(3, 5, 1)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, hidden_BCHW: Tensor) -> Tensor:
        for block in self.blocks:
            hidden_BCHW = block(hidden_BCHW)
        return self.last(hidden_BCHW)


def train(net: Net, micro_batches: Sequence[Tensor], after_backward: Callable[[], None] = lambda: None) -> None:
    """Five updates; the loss is the mean over all four examples, whoever has them."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(5):
        for batch_BCHW in micro_batches:
            loss_B = (net(batch_BCHW) - 1).square().mean(dim=(1, 2, 3))
            (loss_B / len(EXAMPLES_NCHW)).sum().backward()
        after_backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()


def trained_alone() -> Net:
    net = Net()
    train(net, [EXAMPLES_NCHW])
    return net


def refused(block: Callable[[], None], text: str) -> None:
    try:
        block()
    except RunError as error:
        assert text in str(error), str(error)
    else:
        raise AssertionError("no RunError")


def check_places(processes: DistributedProcesses) -> None:
    assert processes.count == 2
    assert processes.is_main == (processes.rank == 0)
    assert processes.device(None) == torch.device("cpu")
    assert processes.share(range(5)) == (range(2), range(2, 5))[processes.rank]


def check_sum_gather_and_any(processes: DistributedProcesses) -> None:
    mine = torch.tensor([1.0, 10.0]) * (processes.rank + 1)
    assert processes.sum(mine).tolist() == [3.0, 30.0]
    assert mine.tolist() == [1.0 * (processes.rank + 1), 10.0 * (processes.rank + 1)]
    assert processes.gather(torch.tensor([[7, 8, 9], []][processes.rank], dtype=torch.int64)).tolist() == [7, 8, 9]
    assert processes.gather(torch.tensor([[True], [False, True]][processes.rank])).tolist() == [True, False, True]
    assert processes.gather(torch.zeros(0)).shape == (0,)
    for who, answer in (({0}, True), ({1}, True), ({0, 1}, True), (set(), False)):
        assert processes.any(processes.rank in who) is answer


def check_gradients_of_every_kind(processes: DistributedProcesses) -> None:
    shapes = {"large": (4_000_000,), "larger": (3_000_000,), "image": (2, 3, 4, 5), "half": (6,), "one": (3,), "none": (2,)}
    parameters = {name: nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    parameters["half"] = nn.Parameter(torch.zeros(6, dtype=torch.bfloat16))
    values = {}
    for number, name in enumerate(("large", "larger", "image", "half")):
        parameter = parameters[name]
        values[name] = torch.arange(parameter.numel(), dtype=parameter.dtype).view(parameter.shape).remainder(100) + number
        parameter.grad = values[name] * (processes.rank + 1)
    parameters["image"].grad = parameters["image"].grad.contiguous(memory_format=torch.channels_last)
    if processes.rank == 1:
        parameters["one"].grad = torch.tensor([1.0, 2.0, 3.0])
    processes.sum_gradients(list(parameters.values()))
    for name, value in values.items():
        torch.testing.assert_close(parameters[name].grad, 3 * value, rtol=0, atol=0)
    assert parameters["one"].grad.tolist() == [1.0, 2.0, 3.0]
    assert parameters["none"].grad is None
    processes.sum_gradients([parameters["none"]])
    processes.sum_gradients([])


def check_training_equals_one_process(processes: DistributedProcesses) -> None:
    net = Net()
    train(net, [processes.share(EXAMPLES_NCHW)], lambda: processes.sum_gradients(list(net.parameters())))
    alone = trained_alone()
    assert (net.last.weight - Net().last.weight).abs().max() > 0.02
    for (name, mine), other in zip(net.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6, msg=name)
        both = processes.gather(mine.flatten()).view(2, -1)
        assert torch.equal(both[0], both[1]), name


def check_sharded_training_equals_one_process(processes: DistributedProcesses) -> None:
    net = Net()
    shard(net, processes, torch.device("cpu"))
    whole = Net()
    whole(EXAMPLES_NCHW).square().sum().backward()
    net(processes.share(EXAMPLES_NCHW)).square().sum().backward()
    for name in ("last.weight", "blocks.1.convolution.weight"):
        gradient = full_tensor(net.get_parameter(name).grad)
        torch.testing.assert_close(gradient, whole.get_parameter(name).grad, rtol=1e-5, atol=1e-5, msg=name)
    net.zero_grad()
    local = sum(parameter.to_local().numel() for parameter in net.parameters())
    assert processes.sum(torch.tensor(local)).item() == sum(parameter.numel() for parameter in Net().parameters())
    train(net, processes.share(EXAMPLES_NCHW).split(1), lambda: processes.sum_gradients(list(net.parameters())))
    for (name, mine), other in zip(net.named_parameters(), trained_alone().parameters(), strict=True):
        full = full_tensor(mine)
        torch.testing.assert_close(full, other.detach(), rtol=0, atol=1e-6, msg=name)
        again = distribute(full, mine)
        assert torch.equal(again.to_local(), mine.to_local()), name
        assert torch.equal(full_tensor(again), full), name
        assert local_part(mine).data_ptr() == mine.to_local().data_ptr(), name
        doubled = full_tensor(with_local_part(2 * local_part(mine), mine))
        assert torch.equal(doubled, 2 * full), name
    plain = torch.ones(2)
    on_host = gather_on_host({**dict(net.named_parameters()), "plain": plain}, keeps=processes.is_main)
    last = full_tensor(net.last.weight)
    assert torch.equal(on_host.get("last.weight", last), last)
    assert (on_host.get("plain") is plain) == processes.is_main
    assert len(on_host) == (len(list(net.parameters())) + 1 if processes.is_main else 0)
    assert local_part(plain) is plain
    assert with_local_part(plain, plain) is plain
    assert full_tensor(plain) is plain
    assert torch.equal(distribute(plain, nn.Parameter(torch.zeros(2))), plain)


def check_a_pass_without_a_backward_pass_leaves_no_old_weights(processes: DistributedProcesses) -> None:
    net, whole = Net(), Net()
    shard(net, processes, torch.device("cpu"))
    spread = list(net.parameters())  # those that an optimizer holds
    with torch.no_grad():
        net(EXAMPLES_NCHW)
        for parameter in spread:
            local_part(parameter).mul_(2)
        for parameter in whole.parameters():
            parameter.mul_(2)
        torch.testing.assert_close(net(EXAMPLES_NCHW), whole(EXAMPLES_NCHW), rtol=0, atol=0)


def check_main_first(processes: DistributedProcesses) -> None:
    path = Path(os.environ["TWO_PROCESSES_FOLDER"]) / "made"
    with processes.main_first():
        if processes.is_main:
            time.sleep(0.2)
            path.write_text("whole")
        assert path.read_text() == "whole"
    began = []

    def fails(who: int) -> None:
        with processes.main_first():
            began.append(processes.rank)
            if processes.rank == who:
                raise RunError("a disk is full")

    for who in (0, 1):
        began.clear()
        words = "a disk is full" if processes.rank == who else f"process {1 - who} stops because process {who} of 2 did"
        refused(lambda who=who: fails(who), words)
        assert began == ([] if who == 0 and processes.rank == 1 else [processes.rank])
    processes.wait()


def check_together(processes: DistributedProcesses) -> None:
    with processes.together():
        pass

    def fails() -> None:
        with processes.together():
            if processes.rank == 1:
                raise RunError("a photo is damaged")

    refused(fails, "a photo is damaged" if processes.rank == 1 else "process 0 stops because process 1 of 2 did")

    def fails_inside() -> None:
        with processes.together(), processes.main_first():
            if processes.rank == 0:
                raise RunError("a disk is full")

    refused(fails_inside, "a disk is full" if processes.rank == 0 else "process 1 stops because process 0 of 2 did")
    processes.wait()


def check_waiting(processes: DistributedProcesses) -> None:
    start = time.monotonic()
    if processes.is_main:
        time.sleep(0.3)
    processes.wait()
    assert time.monotonic() - start > 0.25


def run_checks() -> None:
    with start_processes("cpu") as processes:
        assert isinstance(processes, DistributedProcesses)
        for name, check in list(globals().items()):
            if name.startswith("check_"):
                check(processes)
        processes.wait()
        start = time.monotonic()
        if processes.is_main:
            time.sleep(0.3)
    assert time.monotonic() - start > 0.25  # nobody leaves before all do


def end_sadly(mode: str) -> None:
    with start_processes("cpu") as processes:
        processes.wait()
        if processes.rank == 1 and mode == "raise":
            raise RunError("out of paper")
        if processes.rank == 1 and mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        weight = nn.Parameter(torch.zeros(3))
        weight.grad = torch.ones(3)
        processes.sum_gradients([weight])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("TWO_PROCESSES_FOLDER", folder)
        run_checks() if sys.argv[1] == "checks" else end_sadly(sys.argv[1])
