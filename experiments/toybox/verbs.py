"""The verbs of `python -m experiments.toybox` as a table."""

from __future__ import annotations

from dreambooth.cli.verbs import Program, Verb

__all__ = ["PROGRAM"]

_NAME = "python -m experiments.toybox"
_VERBS = (
    Verb(
        name="train",
        sentence="Train the embedded base model, its judge and its eye from nothing, on rendered pictures.",
        settings="experiments.toybox.settings:PretrainSettings",
        recipe="experiments.toybox.train:pretrain",
        usage=("--output FOLDER",),
        examples=(f"{_NAME} train --output runs/toybox",),
        program=_NAME,
    ),
    Verb(
        name="count",
        sentence="Let the judge count in how many pictures a model shows what its prompts ask for.",
        settings="experiments.toybox.settings:CountSettings",
        recipe="experiments.toybox.count:count",
        usage=("--model MODEL",),
        examples=(f"{_NAME} count --model toybox",),
        program=_NAME,
    ),
    Verb(
        name="subjects",
        sentence="Teach the model ten subjects, with class images and without, and let the judge count the outcome.",
        settings="experiments.toybox.settings:SubjectsSettings",
        recipe="experiments.toybox.subjects:measure_subjects",
        usage=("--output FOLDER",),
        examples=(f"{_NAME} subjects --output runs/subjects",),
        program=_NAME,
    ),
)

PROGRAM = Program(
    _NAME,
    "How the bundled model is made, and how well it does what its prompts ask for.",
    {verb.name: verb for verb in _VERBS},
)
