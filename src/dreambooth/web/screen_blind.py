"""The blind test: pairs of previews whose steps are not shown. All of it is in the address, so the server keeps nothing."""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dreambooth.errors import RunError
from dreambooth.pages.thumbnails import picture_settings
from dreambooth.runs.saved_models import SavedModel, saved_models
from dreambooth.web.answers import Answer, Call, Page
from dreambooth.web.chosen import chosen_model
from dreambooth.web.screens import framed, project_of

__all__ = ["MOST_QUESTIONS", "Question", "blind", "blind_questions", "preferences"]

MOST_QUESTIONS = 10
_SEED = re.compile(r"[0-9a-f]{1,16}")


@dataclass(frozen=True)
class Question:
    """Two models, by their places among those that are compared, and the prompt whose previews are shown."""

    left: int
    right: int
    prompt: int


def blind_questions(seed: str, *, num_models: int, num_prompts: int) -> list[Question]:
    """At most ten pairs in an order and with sides that only the seed decides; no pair comes twice with the same prompt."""
    mixed = []
    for (one, other), prompt in itertools.product(itertools.combinations(range(num_models), 2), range(num_prompts)):
        digest = hashlib.sha256(f"{seed} {one} {other} {prompt}".encode()).digest()
        left, right = (other, one) if digest[0] & 1 else (one, other)
        mixed.append((digest[1:], Question(left, right, prompt)))
    return [question for _, question in sorted(mixed, key=lambda pair: pair[0])[:MOST_QUESTIONS]]


def preferences(questions: Sequence[Question], answers: str) -> dict[int, tuple[int, int]]:
    """How often each model was preferred, and how often it was shown; `answers` has an l or r for each question."""
    found: dict[int, tuple[int, int]] = {}
    for question, answer in zip(questions, answers, strict=False):
        for place, side in ((question.left, "l"), (question.right, "r")):
            preferred, shown = found.get(place, (0, 0))
            found[place] = (preferred + (answer == side), shown + 1)
    return found


def blind(call: Call) -> Answer:
    """Two previews without their steps; after the last pair, how often each step was preferred."""
    project = project_of(call)
    run = project.run_named(call.query["run"]) if call.query.get("run") else chosen_model(project).run
    models = [model for model in saved_models(run.path) if model.pictures]
    if len(models) < 2:
        raise RunError("fewer than two models have previews", hint="Train with --model-steps and --preview-steps.")
    seed, answers = call.query.get("seed") or secrets.token_hex(4), call.query.get("answers", "")
    if not _SEED.fullmatch(seed) or set(answers) - set("lr"):
        raise RunError("the address of this blind test is damaged", hint="Begin again.")
    questions = blind_questions(seed, num_models=len(models), num_prompts=min(len(model.pictures) for model in models))
    is_done = len(answers) >= len(questions)
    counts = preferences(questions, answers)
    best = sorted(counts, key=lambda place: (-counts[place][0] / counts[place][1], models[place].step))
    base = f"/projects/{project.name}/runs/{run.path.name}/previews"
    values = {
        "run": run.path.name,
        "seed": seed,
        "answers": answers,
        "number": len(answers) + 1,
        "num_questions": len(questions),
        "pair": {} if is_done else _pair(questions[len(answers)], models, base),
        "results": [
            {"step": models[place].step, "preferred": counts[place][0], "shown": counts[place][1]} for place in best if is_done
        ],
    }
    return Page("blind.html", framed(call, project, "choose", **values))


def _pair(question: Question, models: Sequence[SavedModel], base: str) -> dict[str, Any]:
    left, right = models[question.left], models[question.right]
    return {
        "prompt": str(picture_settings(left.pictures[question.prompt]).get("prompt", "")),
        "left": f"{base}/{left.step}/{question.prompt}",
        "right": f"{base}/{right.step}/{question.prompt}",
    }
