"""The comparison as tables in Markdown; intervals come from drawing other subjects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.keeping.table import difference_table, table
from experiments.lora.measure import BASE, FULL
from experiments.results.looking import over_subjects
from experiments.results.tables import confusion_table, pair_table

__all__ = ["as_markdown"]

Numbers = Mapping[str, Any]


def as_markdown(found: Numbers) -> str:
    """All tables of `measure_all`, one after another."""
    scores = {(variant, name): one for variant, by_name in found["scores"].items() for name, one in by_name.items()}
    variants = [variant for variant in found["scores"] if variant not in (BASE, FULL)]
    parts = [
        ("Learning rate", _rates(found["rates"])),
        ("Time and size", _costs(found)),
        ("Scores", table(scores)),
        ("Differences from full training", difference_table(scores, [(variant, FULL) for variant in variants])),
        ("How much of the subject survives", _survival(found["scores"], variants)),
        *((" and ".join(pair["pair"]), pair_table(pair)) for pair in found["pairs"]),
        *((f"{' and '.join(pair['pair'])}: identified as", confusion_table(pair)) for pair in found["pairs"]),
    ]
    return "\n".join(f"## {title}\n\n{text.rstrip()}\n" for title, text in parts)


def _rates(rates: Numbers) -> str:
    names = ("DINO", "place by the judge", "drift")
    rows = [
        (f"{rate:g}" + (" (chosen)" if rate == rates["chosen"] else ""), *(f"{one[name]['value']:.2f}" for name in names))
        for rate, one in ((float(rate), one) for rate, one in rates["scores"].items())
    ]
    return _markdown(("learning rate", "DINO", "places", "drift"), rows)


def _costs(found: Numbers) -> str:
    """Each kind of training: what a step takes, how many there were, how long they took all in all, and the file's size."""
    speed, rows = found["speed"], []
    trained = [(variant, by_name) for variant, by_name in found["scores"].items() if "seconds" in next(iter(by_name.values()))]
    for kind, (variant, by_name) in zip(speed["steps"], trained, strict=True):
        seconds, num_bytes = (_mean([one[what] for one in by_name.values()]) for what in ("seconds", "bytes"))
        step = f"{speed['seconds a step'][kind] * 1000:.0f} ms"
        rows.append((variant, step, str(speed["steps"][kind]), f"{seconds:.0f} s", f"{num_bytes / 1e6:.1f} MB"))
    return _markdown(("training", "a step", "steps", "a run", "file"), rows)


def _survival(scores: Mapping[str, Mapping[str, Numbers]], variants: Sequence[str]) -> str:
    """The gain in DINO over the base model's class as a share of the gain of full training, and the change kept by part."""
    rows = []
    for variant in variants:
        shares = [{"value": _share(scores, variant, name)} for name in scores[variant]]
        survived = over_subjects(shares, f"{variant} survival")
        cells = [_percent(survived), f"{_mean([one['bytes'] for one in scores[variant].values()]) / 1e6:.1f} MB"]
        kept = [one["kept of the change"] for one in scores[variant].values() if "kept of the change" in one]
        cells.append(", ".join(f"{part} {_mean([one[part] for one in kept]):.0%}" for part in kept[0]) if kept else "")
        rows.append((variant, *cells))
    return _markdown(("", "of the gain in DINO", "file", "kept of the change"), rows)


def _share(scores: Mapping[str, Mapping[str, Numbers]], variant: str, name: str) -> float:
    base, full, other = (scores[which][name]["DINO"]["value"] for which in (BASE, FULL, variant))
    share: float = (other - base) / (full - base)
    return share


def _percent(score: Mapping[str, float | None]) -> str:
    value, low, high = score["value"], score["low"], score["high"]
    assert value is not None
    return f"{value:.0%}" if low is None or high is None else f"{value:.0%} [{low:.0%}, {high:.0%}]"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, ("---",) * len(titles), *rows))
