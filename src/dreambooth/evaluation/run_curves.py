"""The records of a run as curves by step: the balance that selected its model, and the losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dreambooth.evaluation.report import Curve
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder

__all__ = ["run_curves"]

_MOST_POINTS = 40
_BALANCE = ("balance", "fidelity", "prompt", "prior")
_ABOUT_BALANCE = (
    "Scores from fewer images, measured during training, each from 0 to 1, higher is better: fidelity, prompt and prior, and "
    "their balance, which selects the best step."
)
_ABOUT_SUBJECTS = "A subject whose balance falls while that of others still rises is shown too often, or has too few photos."


def run_curves(run: Path, *, step: int) -> list[Curve]:
    """The curves of a run whose model is from `step`; without the balance if the run was not scored."""
    events = read_events(RunFolder(run).events)
    return [*_balance(events, step), *_losses(events)]


def _balance(events: Sequence[Mapping[str, Any]], step: int) -> list[Curve]:
    scored = [event for event in events if event["event"] == "evaluation"]
    lines = {part: {one["step"]: one[part] for one in scored if one[part] is not None} for part in _BALANCE}
    drawn = {part: values for part, values in lines.items() if values}
    sentence = " ".join([_ABOUT_BALANCE, *_choice(events, step)])
    subjects = dict.fromkeys(name for event in scored for name in event.get("subjects", {}))
    if not subjects:
        return [Curve("Balance by step", sentence, drawn)] if drawn else []
    each = {
        name: {one["step"]: _balance_of(one, name) for one in scored if name in one.get("subjects", {})} for name in subjects
    }
    mean = Curve("Mean balance of the subjects by step", sentence, drawn)
    return [mean, Curve("Balance of each subject by step", _ABOUT_SUBJECTS, each)]


def _balance_of(event: Mapping[str, Any], subject: str) -> float:
    return float(event["subjects"][subject]["balance"])


def _choice(events: Sequence[Mapping[str, Any]], step: int) -> list[str]:
    """Which step was selected and why, as recorded by the run; empty if none was selected yet.

    A finished run resumed with another --select may have another model than its last record says: then tell which one.
    """
    chosen = [event for event in events if event["event"] == "selection" and "text" in event]
    if not chosen:
        return []
    last = chosen[-1]
    if last["chosen"] == step:
        return [f"{last['text']}."]
    return [f"The final model is from step {step}. The best of {len(last['balances'])} scored steps is {last['best']}."]


def _losses(events: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """The losses; training losses are averaged over neighboring steps, since single steps are mostly noise."""
    names = {"photos": "instance_loss", "class images": "prior_loss"}

    def lines(kind: str) -> dict[str, dict[int, float]]:
        mine = [event for event in events if event["event"] == kind]
        found = {title: {event["step"]: event[name] for event in mine if name in event} for title, name in names.items()}
        return {title: _thinned(values) for title, values in found.items() if values}

    about = "A rising loss on the photos means that the model is memorizing them."
    return [
        Curve("Loss on fixed noise and held-out views", about, lines("validation")),
        Curve("Training loss", "Means over neighboring steps.", lines("step")),
    ]


def _thinned(values: Mapping[int, float]) -> dict[int, float]:
    steps = sorted(values)
    width = max(1, math.ceil(len(steps) / _MOST_POINTS))
    groups = [steps[start : start + width] for start in range(0, len(steps), width)]
    return {group[-1]: sum(values[step] for step in group) / len(group) for group in groups}
