"""The subjects that a model has learned, as its metadata lists them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dreambooth.config import is_text
from dreambooth.reading import parse_json
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["SUBJECTS", "LearnedSubject", "learned_subjects", "subjects_in", "subjects_text"]

SUBJECTS = "dreambooth.subjects"
"""Metadata key of the list; training on top of a model hands it on."""


@dataclass(frozen=True)
class LearnedSubject:
    """The words of one subject, and the prompt that its photos had."""

    token: str
    class_word: str
    prompt: str

    @property
    def name(self) -> str:
        """Token and class word."""
        return f"{self.token} {self.class_word}".strip()


def learned_subjects(model: ModelWeights) -> tuple[LearnedSubject, ...]:
    """The subjects of a model, in the order of their training; empty if its file names none."""
    return subjects_in(model.metadata)


def subjects_in(metadata: Mapping[str, str]) -> tuple[LearnedSubject, ...]:
    """The subjects that the metadata of a model file lists; empty if it lists none, or is damaged."""
    try:
        found = tuple(LearnedSubject(**one) for one in parse_json(metadata.get(SUBJECTS, "[]")))
    except (ValueError, TypeError):  # damaged, or of another program
        return ()
    texts = [text for one in found for text in (one.token, one.class_word, one.prompt)]
    return found if all(isinstance(text, str) and is_text(text) for text in texts) else ()


def subjects_text(earlier: Sequence[LearnedSubject], own: Sequence[LearnedSubject]) -> str:
    """The list for the metadata of a model that was trained on `own` subjects and knew the `earlier` ones."""
    named: dict[str, dict[str, Any]] = {one.name: asdict(one) for one in (*earlier, *own)}
    return json.dumps([*named.values()])
