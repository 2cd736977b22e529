"""How reliable CLIP and the judge are: their accuracy on new renderings, whose contents are known.

CLIP is used as elsewhere: it picks the text nearest to an image. The judge classifies directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreambooth.evaluation.evaluator import Encoders
from dreambooth.measures.metrics import cosines
from dreambooth.toybox.captions import describe
from dreambooth.toybox.files import JUDGE_FILE
from dreambooth.toybox.judge import ATTRIBUTES, SIDE, load_judge
from dreambooth.toybox.render import render
from dreambooth.toybox.world import ORDINARY_PATTERNS, PLACES, Look, Scene, random_scene
from experiments.results.looking import judges_in, number
from experiments.results.runs import Place, Scale
from experiments.toybox.count import answers_about

__all__ = ["QUESTIONS", "Question", "measure_judges"]

_SEED = 271828


@dataclass(frozen=True)
class Question:
    """An attribute to classify, and a text per possible answer for a scene; the rest of each text is true."""

    attribute: str
    """Name of the attribute in the judge."""
    answers: Sequence[str]
    text: Callable[[Scene, str], str]
    truth: Callable[[Scene], str]
    is_asked: Callable[[Scene], bool]


def _is_plain(scene: Scene) -> bool:
    return scene.look.pattern == "plain"


def _patterned(look: Look, pattern: str) -> str:
    return describe(replace(look, pattern=pattern), num_colors=2, has_pattern=True)


QUESTIONS: Mapping[str, Question] = {
    "class": Question(
        "class", ATTRIBUTES["class"], lambda scene, word: f"photo of a {word}", lambda scene: scene.look.class_word, bool
    ),
    "colour of plain objects": Question(
        "primary",
        ATTRIBUTES["primary"],
        lambda scene, word: f"photo of a {word} {scene.look.class_word}",
        lambda scene: scene.look.primary,
        _is_plain,
    ),
    "pattern of others": Question(
        "pattern",
        tuple(name for name in ORDINARY_PATTERNS if name != "plain"),
        lambda scene, word: f"photo of a {_patterned(scene.look, word)}",
        lambda scene: scene.look.pattern,
        lambda scene: not _is_plain(scene),
    ),
    "place": Question(
        "place",
        ATTRIBUTES["place"],
        lambda scene, word: f"photo of a {scene.look.class_word} {PLACES[word]}",
        lambda scene: scene.place,
        bool,
    ),
}
"""The attributes classified in every image, by their recorded names."""


def measure_judges(place: Place, scale: Scale) -> dict[str, Any]:
    """The share of right answers by CLIP and by the judge for each attribute, and the share expected by chance."""
    scenes = [random_scene(np.random.default_rng([_SEED, index])) for index in range(scale.num_renderings)]
    pixels_NCHW = torch.stack([torch.from_numpy(render(scene, SIDE)).permute(2, 0, 1).float() / 255 for scene in scenes])
    encoders = judges_in(place.output / "features")
    record = {}
    for name, question in QUESTIONS.items():
        rows = [row for row, scene in enumerate(scenes) if question.is_asked(scene)]
        chosen, pictures = [scenes[row] for row in rows], pixels_NCHW[rows]
        record[name] = {
            "CLIP": _share(question, chosen, _by_clip(encoders, question, chosen, pictures), name),
            "judge": _share(question, chosen, _by_the_judge(question, pictures), name),
            "luck": 1 / len(question.answers),
            "pictures": len(rows),
        }
    return record


def _by_clip(encoders: Encoders, question: Question, scenes: Sequence[Scene], pixels_NCHW: Tensor) -> list[str]:
    images_ND = encoders.features(encoders.clip, pixels_NCHW)
    read = []
    for scene, image_D in zip(scenes, images_ND, strict=True):
        texts_KD = encoders.clip.encode_text([question.text(scene, word) for word in question.answers])
        read.append(question.answers[int(cosines(image_D[None], texts_KD).argmax())])
    return read


def _by_the_judge(question: Question, pixels_NCHW: Tensor) -> list[str]:
    words = ATTRIBUTES[question.attribute]
    columns = [words.index(word) for word in question.answers]
    answers_NK = answers_about(load_judge(JUDGE_FILE), pixels_NCHW)[question.attribute][:, columns]
    return [question.answers[index] for index in answers_NK.argmax(dim=1).tolist()]


def _share(question: Question, scenes: Sequence[Scene], read: Sequence[str], key: str) -> dict[str, float | None]:
    right = [answer == question.truth(scene) for scene, answer in zip(scenes, read, strict=True)]
    return number(torch.tensor(right, dtype=torch.float64)[:, None], key)
