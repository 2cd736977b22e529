"""Runs one stage of pretraining and shows its progress."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dreambooth.display import Display
from experiments.toybox.stages import Stage

__all__ = ["run_stage"]

_SAVE_EVERY = 500


def run_stage(
    what: str,
    stage: Stage,
    loss_at: Callable[[int], Tensor],
    display: Display,
    *,
    look: Callable[[int], None] | None = None,
) -> None:
    """Run the remaining steps of a stage; report the mean loss and call `look` at intervals."""
    left = stage.plan.steps - stage.step
    if left <= 0:
        display.say(f"{what}: already at its last step, {stage.step}")
        return
    with display.progress(what, left, "steps") as advance:
        losses: list[Tensor] = []
        for loss in stage.run(loss_at, save_every=_SAVE_EVERY):
            losses.append(loss)
            advance(1)
            if stage.step % _SAVE_EVERY == 0 or stage.step == stage.plan.steps:
                display.say(f"{what}: step {stage.step}, mean loss {float(torch.stack(losses).mean()):.4f}")
                losses.clear()
                if look is not None:
                    look(stage.step)
