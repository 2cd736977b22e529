"""Reads evaluation prompts from a file, and reports all their problems at once by line number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dreambooth.data.captions import fill, without_gaps
from dreambooth.data.settings import SubjectSettings
from dreambooth.errors import SettingsError
from dreambooth.reading import check_template, read_text, shown_value
from dreambooth.sampling.prompts import read_prompts

__all__ = ["SubjectPrompt", "read_subject_prompts", "subject_prompt"]

_CLASS = "\ue000"  # placeholder for the class word while searching for the token; occurs in no text and in no word
_IN_WORDS = rf"(?:[^\W_]|{_CLASS})"
_HINT = "Write one prompt per line, each only once and naming the subject: photo of a {token} {class_word} in fresh snow"


@dataclass(frozen=True)
class SubjectPrompt:
    """A prompt of the subject, for the model and for CLIP."""

    prompt: str
    description: str
    """Without the token, even where it is spelled out, since CLIP does not know it."""
    names_subject: bool


def subject_prompt(template: str, subject: SubjectSettings) -> SubjectPrompt:
    """A template filled in with the subject's words; it must be valid, see `check_template`."""
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
    """The prompts of a text file, one per line. Raises SettingsError with every problem and its line number."""
    read_prompts(path, name="prompts")  # reports problems of the file as a whole
    lines = read_text(path, encoding="utf-8-sig").splitlines()
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
        prompt = shown_value(one.prompt)
        if not one.names_subject:
            yield f"line {number}: {prompt} does not name the subject; write {{token}} where it belongs, as a word"
        elif not re.search(r"\w", one.description):
            yield f"line {number}: {prompt} contains only the token, which CLIP does not know; CLIP-T needs more words"


def _repeated(found: Mapping[int, SubjectPrompt]) -> Iterator[str]:
    """A repeated prompt yields the same images twice, which makes scores look more certain than they are."""
    lines: dict[str, list[int]] = {}
    for number, one in found.items():
        lines.setdefault(without_gaps(one.prompt).casefold(), []).append(number)
    for numbers in lines.values():
        if len(numbers) > 1:
            listed = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
            times = f"its images would count {len(numbers)} times"
            yield f"lines {listed}: the same prompt, {shown_value(found[numbers[0]].prompt)}; {times}"
