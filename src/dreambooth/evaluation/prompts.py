"""The prompts of a file that a model is measured by, and what is wrong with them: all of it at once, by its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dreambooth.data.captions import fill, without_gaps
from dreambooth.data.settings import SubjectSettings, check_template
from dreambooth.errors import SettingsError
from dreambooth.sampling.prompts import read_prompts

__all__ = ["SubjectPrompt", "read_subject_prompts", "subject_prompt"]

_CLASS = "\ue000"  # stands for the class word while the token is looked for; in no text, and no part of a word
_IN_WORDS = rf"(?:[^\W_]|{_CLASS})"
_HINT = "Write one prompt per line, each only once and naming the subject: photo of a {token} {class_word} in fresh snow"


@dataclass(frozen=True)
class SubjectPrompt:
    """A prompt of the subject, as the model is told and as CLIP is."""

    prompt: str
    description: str
    """Without the token, also where it is spelled out: CLIP has never heard that word."""
    names_subject: bool


def subject_prompt(template: str, subject: SubjectSettings) -> SubjectPrompt:
    """A template with the subject's words put in; it must be a good one, see `check_template`."""
    words = r"\s+".join(map(re.escape, subject.token.split()))
    token = f"(?<!{_IN_WORDS}){words}(?!{_IN_WORDS})"
    marked = template.format(token=subject.token, class_word=_CLASS)
    described, num_found = re.subn(token, "", marked, flags=re.IGNORECASE)
    return SubjectPrompt(
        prompt=fill(template, token=subject.token, class_word=subject.class_word),
        description=without_gaps(described.replace(_CLASS, subject.class_word)),
        names_subject=num_found > 0,
    )


def read_subject_prompts(path: Path, subject: SubjectSettings) -> tuple[SubjectPrompt, ...]:
    """Those of a text file, one a line. Raises SettingsError with everything that is wrong, by the numbers of the lines."""
    read_prompts(path, name="prompts")  # says what is wrong with the file as a whole
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    found, problems = dict[int, SubjectPrompt](), list[str]()
    for number, line in enumerate(lines, start=1):
        if template := line.strip():
            try:
                found[number] = subject_prompt(check_template(template, frozenset({"token", "class_word"})), subject)
            except ValueError as error:
                problems.append(f"line {number}: {error}")
    problems += [*_problems(found), *_repeated(found)]
    if problems:
        raise SettingsError([f"prompts is {path}: {problem}" for problem in problems], hint=_HINT)
    return tuple(found.values())


def _problems(found: Mapping[int, SubjectPrompt]) -> Iterator[str]:
    for number, one in found.items():
        if not one.names_subject:
            yield f"line {number}: {one.prompt!r} does not name the subject; write {{token}} where it belongs, as a word"
        elif not re.search(r"\w", one.description):
            yield f"line {number}: {one.prompt!r} contains only the token, which CLIP does not know; CLIP-T needs more words"


def _repeated(found: Mapping[int, SubjectPrompt]) -> Iterator[str]:
    """The same prompt twice is the same pictures twice, which makes scores look surer than they are."""
    lines: dict[str, list[int]] = {}
    for number, one in found.items():
        lines.setdefault(without_gaps(one.prompt).casefold(), []).append(number)
    for numbers in lines.values():
        if len(numbers) > 1:
            listed = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
            times = f"its images would count {len(numbers)} times"
            yield f"lines {listed}: the same prompt, {found[numbers[0]].prompt!r}; {times}"
