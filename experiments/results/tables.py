"""The results, as the tables of docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.results.chosen import CHOOSING
from experiments.results.looking import over_subjects
from experiments.results.subject import BASE, WITH, WITHOUT

__all__ = ["as_markdown", "confusion_table", "pair_table"]

ModelScores = Mapping[str, Any]


_TITLES = {
    "colour by CLIP": "color by CLIP",
    "colour by the judge": "color by the judge",
    "colour of plain objects": "color of plain objects",
    "pattern of others": "pattern of other objects",
}
"""Table titles of measures whose recorded names differ; those also seed the bootstrap, so they stay as they are."""


def as_markdown(record: ModelScores) -> str:
    """All tables, one after another."""
    subjects, choices = record["subjects"], record["choices"]
    parts = [
        ("How reliable CLIP and the judge are", _encoders(record["judges"])),
        ("The subject is learned", _learned(subjects)),
        ("The class is kept", _kept(subjects)),
        ("Prompts still work", _edited(subjects)),
        *((f"The chosen checkpoint, {last} steps", _chosen(choices, last)) for last in record["budgets"]),
        ("Learning rate and steps", _rates(record["rates"])),
        *((" and ".join(pair["pair"]), pair_table(pair)) for pair in record["pairs"]),
        *((f"{' and '.join(pair['pair'])}: identified as", confusion_table(pair)) for pair in record["pairs"]),
    ]
    return "\n".join(f"## {title}\n\n{table}\n" for title, table in parts)


def _encoders(attributes: ModelScores) -> str:
    rows = [
        (
            _TITLES.get(name, name),
            str(attribute["pictures"]),
            *(_text(attribute[reader], is_share=True) for reader in ("CLIP", "judge")),
            f"{attribute['luck']:.0%}",
        )
        for name, attribute in attributes.items()
    ]
    return _table(("", "images", "CLIP", "judge", "chance"), rows)


def _learned(subjects: Sequence[ModelScores]) -> str:
    titles = ("", *(f"{name}, {whose}" for name in ("DINO", "CLIP-I") for whose in ("base", "learned", "gain", "photos")))
    rows = [(one["subject"], *_learned_cells(one)) for one in subjects]
    mean = []
    for name in ("DINO", "CLIP-I"):
        mean += [_mean(subjects, "measures", kind, name) for kind in (BASE, WITH)]
        mean += [_mean(subjects, "learned", name), f"{sum(one['photos'][name] for one in subjects) / len(subjects):.2f}"]
    return _table(titles, [*rows, (f"mean of {len(subjects)}", *mean)])


def _learned_cells(one: ModelScores) -> Iterable[str]:
    for name in ("DINO", "CLIP-I"):
        yield from (_plain(one["measures"][kind][name]) for kind in (BASE, WITH))
        yield _text(one["learned"][name])
        yield f"{one['photos'][name]:.2f}"


def _kept(subjects: Sequence[ModelScores]) -> str:
    titles = ("", *(f"{name}, {kind}" for name in ("PRES", "drift", "DIV") for kind in ("base", "1", "0", "1 minus 0")))
    rows = []
    for one in subjects:
        cells = []
        for name in ("PRES", "drift", "DIV"):
            cells += [_plain(one["measures"][kind][name]) for kind in (BASE, WITH, WITHOUT)]
            cells.append(_text(one["kept"][name]))
        rows.append((one["subject"], *cells))
    mean = []
    for name in ("PRES", "drift", "DIV"):
        mean += [_mean(subjects, "measures", kind, name) for kind in (BASE, WITH, WITHOUT)]
        mean.append(_mean(subjects, "kept", name))
    return _table(titles, [*rows, (f"mean of {len(subjects)}", *mean)])


def _edited(subjects: Sequence[ModelScores]) -> str:
    names = ("place by CLIP", "place by the judge", "colour by CLIP", "colour by the judge", "DINO in places")
    rows = [
        (kind, *(_mean(subjects, "measures", kind, name, is_share=name != "DINO in places") for name in names))
        for kind in (BASE, WITH, WITHOUT)
    ]
    rows += [
        (
            f"{one['subject']}, {WITH}",
            *(_text(one["measures"][WITH][name], is_share=name != "DINO in places") for name in names),
        )
        for one in subjects
    ]
    return _table(("", *(_TITLES.get(name, name) for name in names)), rows)


def _chosen(choices: Sequence[ModelScores], last: int) -> str:
    by = {f"by {num}": f"{num} per prompt" for num in CHOOSING}
    titles = (
        "",
        "last step",
        *(f"{title}: {what}" for title in by.values() for what in ("step", "balance", "minus last")),
        "early stop at",
    )
    rows = []
    for subject in choices:
        run = subject[str(last)]
        cells = [_text(run["last"])]
        for choice in (run[name] for name in by):
            cells += [str(choice["chosen"]), _text(choice["balance"]), _text(choice["gain"])]
        ended = run["would have ended at"]
        rows.append((subject["subject"], *cells, "" if ended is None else str(ended)))
    means = [_mean(choices, str(last), "last")]
    for name in by:
        means += ["", *(_mean(choices, str(last), name, what) for what in ("balance", "gain"))]
    rows.append((f"mean of {len(choices)}", *means, ""))
    return _table(titles, rows)


def _rates(rates: Mapping[str, Mapping[str, Mapping[int, float]]]) -> str:
    """The balance at every second scored step."""
    steps = sorted({step for values in rates["balance"].values() for step in values})[::2]
    rows = [(name, *(f"{values[step]:.2f}" for step in steps)) for name, values in rates["balance"].items()]
    return _table(("balance at step", *map(str, steps)), rows)


def pair_table(pair: ModelScores) -> str:
    """The scores of both subjects with every method; see `measure_models`."""
    names = ("DINO", "CLIP-I", "PRES")
    titles = ("", *(f"{name}, {subject}" for subject in pair["pair"] for name in names))
    rows = [
        (title, *(_text(pair["models"][title]["subjects"][subject][name]) for subject in pair["pair"] for name in names))
        for title in pair["models"]
    ]
    return _table(titles, rows)


def confusion_table(pair: ModelScores) -> str:
    """The share of images with each subject that resemble the photos of either, with every method."""
    rows = [
        (f"{title}: {subject}", *(f"{share:.0%}" for share in row))
        for title in pair["models"]
        for subject, row in zip(pair["pair"], pair["models"][title]["confusion"], strict=True)
    ]
    return _table(("", *pair["pair"]), rows)


def _mean(subjects: Sequence[ModelScores], *path: str, is_share: bool = False) -> str:
    values = []
    for subject in subjects:
        value: Any = subject
        for key in path:
            value = value[key]
        values.append(value)
    return _text(over_subjects(values, path[-1]), is_share=is_share)


def _plain(score: ModelScores) -> str:
    return _rounded(score["value"])


def _rounded(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # + 0.0: avoids -0.00 for a negative rounding error


def _text(score: ModelScores, *, is_share: bool = False) -> str:
    text = "{:.0%}".format if is_share else _rounded
    if score["low"] is None:
        return text(score["value"])
    return f"{text(score['value'])} [{text(score['low'])}, {text(score['high'])}]"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, ("---",) * len(titles), *rows))
