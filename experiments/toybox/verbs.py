"""The table of verbs of `python -m experiments.toybox`."""

from __future__ import annotations

from dreambooth.cli.verbs import Program, Verb

__all__ = ["PROGRAM"]

_NAME = "python -m experiments.toybox"
_VERBS = (
    Verb(
        name="train",
        sentence="Train the bundled model, its judge and its eye from scratch on rendered images.",
        settings="experiments.toybox.settings:PretrainSettings",
        recipe="experiments.toybox.train:pretrain",
        usage=("--output FOLDER",),
        examples=(f"{_NAME} train --output runs/toybox",),
        program=_NAME,
    ),
    Verb(
        name="count",
        sentence="Count with the judge how many of a model's images match their prompts.",
        settings="experiments.toybox.settings:CountSettings",
        recipe="experiments.toybox.count:count",
        usage=("--model MODEL",),
        examples=(f"{_NAME} count --model toybox",),
        program=_NAME,
    ),
    Verb(
        name="subjects",
        sentence="Train the bundled model on ten subjects with and without class images; the judge measures the results.",
        settings="experiments.toybox.settings:SubjectsSettings",
        recipe="experiments.toybox.subjects:measure_subjects",
        usage=("--output FOLDER",),
        examples=(f"{_NAME} subjects --output runs/subjects",),
        program=_NAME,
    ),
)

PROGRAM = Program(
    _NAME,
    "Make the bundled model, and test how well its images match their prompts.",
    {verb.name: verb for verb in _VERBS},
)
