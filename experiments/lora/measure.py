"""Every number of the comparison; what exists is not measured again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dreambooth.runs.folder import RunFolder
from dreambooth.toybox.files import EMBEDDED_MODEL
from experiments.keeping.measure import measure_model
from experiments.lora.runs import (
    LoraScale,
    Training,
    extract_from,
    learn_full,
    learn_lora,
    learn_second,
    measure_speed,
    merge_pair,
    step_seconds,
    with_lora,
)
from experiments.results.numbers import kept
from experiments.results.pairs import measure_models
from experiments.results.runs import Pair, Place

__all__ = ["ALONE", "BASE", "FULL", "MERGED", "extracted", "lora", "measure_all"]

BASE, FULL = "base model", "full"
ALONE, MERGED = "each alone", "merged"

Numbers = dict[str, Any]


def lora(rank: int) -> str:
    """The name of the variant that trains a LoRA."""
    return f"LoRA of rank {rank}"


def extracted(rank: int) -> str:
    """The name of the variant that extracts a LoRA from the full run."""
    return f"extracted, rank {rank}"


def measure_all(output: Path, scale: LoraScale) -> Numbers:
    """The speed, the scores by variant and subject, and the confusion of merged pairs."""
    place = Place(output)
    speed = kept(output, "speed", partial(measure_speed, place, scale))
    rates = kept(output, "rates", partial(_rates, place, scale, speed["steps"]))
    plan = {rank: Training(rank, rates["chosen"], speed["steps"][str(rank)]) for rank in scale.ranks}
    scores: dict[str, dict[str, Numbers]] = {}
    for name in scale.work.subjects:
        for variant, work in _of_subject(place, scale, name, plan).items():
            file_name = f"{variant.replace(',', '').replace(' ', '-')}-{name}"
            scores.setdefault(variant, {})[name] = kept(output, file_name, work)
    pairs = [
        kept(output, pair.name, partial(_of_pair, place, scale, pair, plan[scale.merged_rank])) for pair in scale.work.pairs
    ]
    return {"speed": speed, "rates": rates, "scores": scores, "pairs": pairs}


def _rates(place: Place, scale: LoraScale, steps: Mapping[str, int]) -> Numbers:
    """The scores of another subject at every rate, with a LoRA of the rank that is merged; and the best rate.

    Best by twice DINO, plus the share of places shown, minus the drift of the class: weighted as the balance of a run is.
    """
    name, scores = scale.rate_subject, {}
    for rate in scale.rates:
        training = Training(scale.merged_rank, rate, steps[str(scale.merged_rank)])
        scores[rate] = measure_model(place, scale.work, name, str(learn_lora(place, scale, name, training)))
    worth = {rate: _worth(found) for rate, found in scores.items()}
    return {"chosen": max(worth, key=worth.__getitem__), "worth": worth, "scores": scores}


def _worth(found: Numbers) -> float:
    dino, places, drift = (found[measure]["value"] for measure in ("DINO", "place by the judge", "drift"))
    worth: float = 2 * dino + places - drift
    return worth


def _of_subject(place: Place, scale: LoraScale, name: str, plan: Mapping[int, Training]) -> dict[str, Callable[[], Numbers]]:
    """What is measured of a subject, by variant; a full run precedes what is extracted from it."""
    measured: dict[str, Callable[[], Numbers]] = {
        BASE: partial(measure_model, place, scale.work, name, EMBEDDED_MODEL),
        FULL: lambda: _of_run(place, scale, name, learn_full(place, scale, name)),
    }
    for rank, training in plan.items():
        measured[lora(rank)] = partial(_of_lora, place, scale, name, training)
    for rank in scale.extracted_ranks:
        measured[extracted(rank)] = partial(_of_extracted, place, scale, name, rank)
    return measured


def _of_run(place: Place, scale: LoraScale, name: str, run: Path) -> Numbers:
    scores = measure_model(place, scale.work, name, str(run))
    return {**scores, "seconds": sum(step_seconds(run)), "bytes": RunFolder(run).final_model.stat().st_size}


def _of_lora(place: Place, scale: LoraScale, name: str, training: Training) -> Numbers:
    return _of_run(place, scale, name, learn_lora(place, scale, name, training))


def _of_extracted(place: Place, scale: LoraScale, name: str, rank: int) -> Numbers:
    file, shares = extract_from(place, learn_full(place, scale, name), name, rank=rank)
    model = with_lora(file)
    scores = measure_model(place, scale.work, name, str(model))
    model.unlink()  # as large as the base model; the LoRA stays
    return {**scores, "bytes": file.stat().st_size, "kept of the change": shares}


def _of_pair(place: Place, scale: LoraScale, pair: Pair, training: Training) -> Numbers:
    first = learn_lora(place, scale, pair.first, training)
    second = learn_second(place, scale, pair, training)
    model = with_lora(merge_pair(place, pair, (first, second)))
    scores = measure_models(place, scale.work, pair, {ALONE: (str(first), str(second)), MERGED: (str(model), str(model))})
    model.unlink()
    return scores
