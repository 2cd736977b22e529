"""Checks whether a run can be scored during training, and chooses the encoders."""

from __future__ import annotations

import torch

from dreambooth.errors import SettingsError
from dreambooth.evaluation.choose_encoders import choose_encoders
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.measures.settings import EvaluationSettings, SelectionSettings
from dreambooth.runs.folder import RunFolder
from dreambooth.weights.bundled import draws_toybox
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["check_can_score", "encoders_of_run"]


def check_can_score(selection: SelectionSettings, *, num_steps: int, is_sharded: bool) -> None:
    """Raise SettingsError with every reason why a run cannot be scored during training."""
    every, problems, hints = selection.evaluate_every, [], []
    if every == 0:
        return
    if every > num_steps:
        problems.append(f"evaluate_every is {every} but steps is {num_steps}, so no step would be scored")
        hints.append(f"Use --evaluate-every {max(1, num_steps // 4)}, or more steps.")
    if is_sharded:
        problems.append("evaluate_every scores in one process, but with shard each process holds only part of the weights")
        hints.append("Use --no-shard, or --evaluate-every 0 and dreambooth evaluate afterwards.")
    if problems:
        raise SettingsError(problems, hint="\n".join(hints))


def encoders_of_run(selection: SelectionSettings, run: RunFolder, base: ModelWeights) -> Encoders | None:
    """The encoders of a run that trains `base` at its resolution, by `choose_encoders`; None when nothing is scored."""
    if selection.evaluate_every == 0:
        return None
    asked = EvaluationSettings(dino=selection.dino, clip=selection.clip)
    side, is_toybox = base.family.resolution, draws_toybox(base)
    return choose_encoders(asked, side=side, is_toybox=is_toybox, device=torch.device("cpu"), cache=run.scores / "features")
