"""The subjects on which a run is scored, and the record of a step's scores.

A run has one model for all its subjects, so one number must select it: the mean of the subjects' balances. The lowest balance
would be the fairer choice if balances were exact. With a dozen images for each subject they are not, and the lowest of several
noisy numbers mostly shows which subject was unlucky at this step. Every subject's balance is recorded beside the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dreambooth.data.captions import named_settings, words_for
from dreambooth.data.file_name_captions import Words
from dreambooth.data.settings import SubjectSettings
from dreambooth.evaluation.evaluator import Evaluator, Measured
from dreambooth.evaluation.photo_squares import photo_squares
from dreambooth.evaluation.prompt_sets import class_prompt_of, subject_prompt_set
from dreambooth.evaluation.subjects import name_of
from dreambooth.measures.balance import Balance
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.sampling.records import Picture

if TYPE_CHECKING:
    from dreambooth.trainer.ready import Ready

__all__ = ["ScoredSubject", "SubjectScores", "all_pictures", "scored_subjects", "scores_record", "scores_texts"]

_PARTS = ("fidelity", "prompt", "prior")


@dataclass(frozen=True)
class ScoredSubject:
    """A subject with its prompts and photos."""

    name: str
    """As a prompt names it: `sks dog`."""
    evaluator: Evaluator


@dataclass(frozen=True)
class SubjectScores:
    """One subject's scores at a step."""

    balance: Balance
    measured: Measured


def scored_subjects(ready: Ready, *, is_toybox: bool, seed: int, say: Callable[[str], None]) -> tuple[ScoredSubject, ...]:
    """Every subject that the photos show, in the order of the photos. The run must have encoders."""
    learned, side = ready.learned, ready.size.shorter_side
    assert ready.measured.encoders is not None, "only a scored run has them"
    encoders = replace(ready.measured.encoders, say=say)
    photos, num_images = [one.photo for one in learned.photos], ready.measured.selection.evaluation_images

    def scored(one: SubjectSettings) -> ScoredSubject:
        class_prompt = class_prompt_of(one, learned.prior)
        prompts = subject_prompt_set(one, EvaluationSettings(), class_prompt=class_prompt, is_toybox=is_toybox)
        words = Words(one.token, one.class_word)
        own = [photo for photo in photos if words_for(photo, learned.subject) == words]
        squares = photo_squares(own, background=learned.views.background, side=side)
        return ScoredSubject(name_of(one), Evaluator(prompts.fewer(num_images), squares, encoders, seed))

    return tuple(scored(one) for one in named_settings(photos, learned.subject))


def all_pictures(subjects: Sequence[ScoredSubject]) -> list[Picture]:
    """The images of all subjects, each once: subjects of one class share its images."""
    return list(dict.fromkeys(picture for one in subjects for picture in one.evaluator.prompt_set.pictures()))


def scores_record(found: Mapping[str, SubjectScores]) -> dict[str, Any]:
    """A step's scores for the run's events: balance, its parts, scores with intervals, and the share of copies if measured.

    For several subjects these are means over the subjects that have the value, without intervals, and `subjects` holds the
    record of each, by name.
    """
    records = {name: _record(one) for name, one in found.items()}
    if len(records) == 1:
        return next(iter(records.values()))
    each = list(records.values())
    parts = {part: _mean(one[part] for one in each) for part in ("balance", *_PARTS)}
    names = dict.fromkeys(name for one in each for name in one["scores"])
    scores = {name: _mean(one["scores"].get(name) for one in each) for name in names}
    copies = _mean(one.get("copies") for one in each)
    return {**parts, "scores": scores, **({} if copies is None else {"copies": copies}), "subjects": records}


def scores_texts(record: Mapping[str, Any]) -> Iterator[str]:
    """A sentence about the scores of a step, and one for each of several subjects."""
    subjects: Mapping[str, Mapping[str, Any]] = record.get("subjects", {})
    what = f"mean balance of {len(subjects)} subjects" if subjects else "balance"
    yield f"{what} {_numbers(record)}"
    for name, one in subjects.items():
        yield f"{name}: balance {_numbers(one)}"


def _numbers(record: Mapping[str, Any]) -> str:
    each = ", ".join(f"{name} {value:.3f}" for name, value in record["scores"].items())
    return f"{record['balance']:.3f} ({each})"


def _record(found: SubjectScores) -> dict[str, Any]:
    parts = {part: getattr(found.balance, part) for part in _PARTS}
    copying = found.measured.copying
    copies = {} if copying is None else {"copies": copying.share}
    intervals = {name: [one.low, one.high] for name, one in found.measured.scores.items() if one.low is not None}
    return {"balance": found.balance.value, **parts, "scores": found.measured.values, "intervals": intervals, **copies}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
