"""How a list is cut among processes, and the one process that has everything."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dreambooth.runtime.processes import OneProcess, Processes, share_of


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 64])
def test_every_item_is_in_exactly_one_part_and_parts_are_alike_in_length(count: int) -> None:
    for length in [*range(40), 999, 1000]:
        items = list(range(length))
        parts = [share_of(items, rank=rank, count=count) for rank in range(count)]
        assert [item for part in parts for item in part] == items
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_has_everything() -> None:
    processes: Processes = OneProcess()
    assert (processes.rank, processes.count, processes.is_main) == (0, 1, True)
    assert processes.device("cpu") == torch.device("cpu")
    items = ["a", "b"]
    assert processes.share(items) is items
    vector = torch.ones(3)
    assert processes.sum(vector) is vector
    assert processes.gather(vector) is vector
    assert processes.any(True) is True
    assert processes.any(False) is False


def test_one_process_waits_for_nobody_and_changes_nothing() -> None:
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    weights[0].grad = torch.tensor([1.0, 2.0])
    with OneProcess() as processes:
        processes.sum_gradients(weights)
        processes.wait()
        with processes.together(), processes.main_first():
            pass
    assert weights[0].grad.tolist() == [1.0, 2.0]
    assert weights[1].grad is None


def test_an_error_in_one_process_is_its_own() -> None:
    with (
        pytest.raises(ZeroDivisionError),
        OneProcess() as processes,
        processes.together(),
        processes.main_first(),
    ):
        raise ZeroDivisionError
