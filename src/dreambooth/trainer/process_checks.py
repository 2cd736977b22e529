"""Checks of a run that several processes share."""

from __future__ import annotations

import math

from dreambooth.data.settings import PriorSettings
from dreambooth.errors import SettingsError
from dreambooth.memory.settings import MemorySettings
from dreambooth.runtime.processes import Processes
from dreambooth.training.settings import LoopSettings, OptimizerSettings

__all__ = ["check_all_have_work", "check_can_shard"]


def check_can_shard(
    processes: Processes, *, memory: MemorySettings, loop: LoopSettings, optimizer: OptimizerSettings, prior: PriorSettings
) -> None:
    """Raise SettingsError when processes cannot share the weights.

    Sharded weights are gathered in every pass, so all processes must run the same passes.
    """
    if not memory.shard:
        return
    problems, hints = [], []
    if processes.count == 1:
        problems.append("shard distributes the weights over several processes, but there is only one")
        hints.append("Start several: torchrun --nproc-per-node N -m dreambooth train ..., or use --no-shard.")
    per_batch = _num_roles(prior) * loop.gradient_accumulation
    num_examples = per_batch * loop.batch_size
    if num_examples > processes.count and num_examples % processes.count != 0:
        unit = processes.count // math.gcd(per_batch, processes.count)
        batch_size = unit * math.ceil(loop.batch_size / unit)
        problems.append(
            f"shard needs the same number of examples in every process, but the {num_examples} examples of a step do not "
            f"divide evenly over {processes.count} processes"
        )
        hints.append(f"Use --batch-size {batch_size} (a step then sees more), another number of processes, or --no-shard.")
    if optimizer.optimizer == "adafactor":
        problems.append("optimizer is adafactor, but shard supports only adamw")
        hints.append("Use --optimizer adamw or --no-shard.")
    if loop.compile in ("blocks", "full"):
        problems.append(f"compile is {loop.compile}, which does not work with shard: weights move between the blocks")
        hints.append("Use --compile off or --no-shard.")
    if problems:
        raise SettingsError(problems, hint="\n".join(hints))


def _num_roles(prior: PriorSettings) -> int:
    return 1 if prior.prior_weight == 0 else 2


def check_all_have_work(processes: Processes, *, loop: LoopSettings, prior: PriorSettings) -> None:
    """Raise SettingsError when a step has fewer examples than there are processes."""
    roles = _num_roles(prior)
    num_examples = roles * loop.examples_per_step
    if num_examples < processes.count:
        raise SettingsError(
            f"{processes.count} processes for the {num_examples} examples of a step: some would have nothing to do",
            hint=f"Use --batch-size {math.ceil(processes.count / roles)} or more (a step then sees more), or fewer processes.",
        )
