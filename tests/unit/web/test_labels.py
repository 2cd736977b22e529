"""No field of a form is called by its identifier."""

from __future__ import annotations

import re
from collections import Counter

from dreambooth.measures.settings import EvaluationSettings
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.leaves import leaves
from dreambooth.schema.verbs import TrainSettings
from dreambooth.web import screen_scores, screen_try
from dreambooth.web.desk import Desk
from dreambooth.web.forms import HIDDEN, all_fields, request_fields
from dreambooth.web.labels import LABELS

RAW = re.compile(r"_|\b(num|dtype|lr|dir|every|beta\d|bool|str|int)\b", re.IGNORECASE)
"""Pieces of identifiers."""


def test_each_setting_has_words_of_its_own(desk: Desk) -> None:
    fields = all_fields(desk.projects.create("Rex"))
    requests = request_fields(SampleSettings, screen_try._FIELDS, {})
    requests += request_fields(EvaluationSettings, screen_scores._FIELDS, {})
    labels = [field["label"] for field in fields]
    assert [label for label, count in Counter(labels).items() if count > 1] == []
    for label in [*labels, *(field["label"] for field in requests)]:
        assert label[0].isupper() and not label.endswith(".") and len(label) < 56, label
        assert RAW.search(label) is None, label


def test_no_label_is_left_of_a_setting_that_is_gone() -> None:
    names = {leaf.name for leaf in leaves(TrainSettings) if leaf.path not in HIDDEN}
    assert set(LABELS) == names | set(screen_try._FIELDS) | set(screen_scores._FIELDS)


def test_words_that_stand_on_a_page_are_no_longer_identifiers() -> None:
    raw = {name for name, label in LABELS.items() if label == name.replace("_", " ").capitalize()}
    plain = {"class_word", "optimizer", "learning_rate", "warmup_steps", "weight_decay", "steps", "noise_offset", "device"}
    plain |= {"memory_preset", "preview_prompts", "guidance_scale", "sampler", "negative_prompt"}
    assert raw == plain, "of these the identifier is what a person would write"
