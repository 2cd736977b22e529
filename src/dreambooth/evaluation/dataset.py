"""The subjects and prompts of a benchmark: a folder of the DreamBooth dataset, or five toybox subjects."""

from __future__ import annotations

import ast
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth.config import nearest
from dreambooth.data.listing import list_folder
from dreambooth.data.photos import MIN_PHOTOS
from dreambooth.display import counted
from dreambooth.errors import SettingsError
from dreambooth.reading import printable, read_text, reason_of
from dreambooth.toybox.subjects import SUBJECTS
from dreambooth.toybox.world import PLACES

__all__ = ["PROMPTS_FILE", "TOYBOX_COLOURS", "BenchmarkSubject", "chosen", "read_dataset", "toybox_dataset"]

PROMPTS_FILE = "prompts_and_classes.txt"

_NUM_SUBJECTS, _NUM_PROMPTS = 30, 25
_LIVE = frozenset({"cat", "dog"})
"""Classes of the dataset that are alive; they have prompts of their own."""

_HEADER = "subject_name,class"
_WORDS = {"unique_token": "{token}", "class_token": "{class_word}"}
_LISTS = re.compile(r"^(Object|Live Subject) Prompts\s+prompt_list = (\[.*?^\])", re.MULTILINE | re.DOTALL)
_HINT = f"Get the dataset from https://github.com/google/dreambooth and use the folder that contains {PROMPTS_FILE}."

TOYBOX_COLOURS = ("red", "yellow", "green", "blue")
"""Colors of the prompts that show the subject in another color."""


@dataclass(frozen=True)
class BenchmarkSubject:
    """A subject to train on, and its prompts."""

    name: str
    class_word: str
    is_live: bool
    photos: Path
    prompts: tuple[str, ...]
    """Templates with {token} and {class_word}."""


def read_dataset(folder: Path, names: Sequence[str] = ()) -> tuple[BenchmarkSubject, ...]:
    """The subjects of the DreamBooth dataset in the order of its table, or only those named.

    The file is parsed, never executed. Raises SettingsError with every problem: in the table, in the two lists of prompts,
    unknown names, and the folders of the selected subjects.
    """
    path = folder / PROMPTS_FILE
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {reason_of(error)}"
        raise SettingsError(f"{path}: {what}", hint=_HINT) from error
    problems: list[str] = []
    classes, prompts = _read_classes(text, problems), _read_prompts(text, problems)
    subjects = [
        BenchmarkSubject(name, word, word in _LIVE, folder / name, prompts.get(word in _LIVE, ()))
        for name, word in classes.items()
    ]
    unknown = _unknown(names, [*classes]) if classes else []
    wanted = [one for one in subjects if not names or one.name in names]
    of_file = [f"{path}: {problem}" for problem in problems]
    of_photos = [problem for one in wanted for problem in _photo_problems(one)]
    if problems := of_file + unknown + of_photos:
        raise SettingsError(problems, hint=_HINT if of_file or of_photos else None)
    return tuple(wanted)


def toybox_dataset(photos: Path) -> tuple[BenchmarkSubject, ...]:
    """Five fixed subjects with different classes and patterns, in every place and four colors; `photos` holds their folders."""
    prompts = [f"photo of a {{token}} {{class_word}} {place}" for place in PLACES.values()]
    prompts += [f"photo of a {colour} {{token}} {{class_word}}" for colour in TOYBOX_COLOURS]
    return tuple(
        BenchmarkSubject(name, SUBJECTS[name].class_word, is_live=False, photos=photos / name, prompts=tuple(prompts))
        for name in [*SUBJECTS][:5]
    )


def chosen(subjects: Sequence[BenchmarkSubject], names: Sequence[str]) -> tuple[BenchmarkSubject, ...]:
    """The subjects with these names, or all when none is named. Raises SettingsError for names that no subject has."""
    if unknown := _unknown(names, [one.name for one in subjects]):
        raise SettingsError(unknown)
    return tuple(one for one in subjects if not names or one.name in names)


def _unknown(names: Sequence[str], known: Sequence[str]) -> list[str]:
    problems, lower = [], {name.lower(): name for name in known}
    for name in names:
        if name not in known:
            near = nearest(name.lower(), lower)
            valid = f"; did you mean '{lower[near]}'?" if near else f"; expected one of {', '.join(known)}"
            problems.append(f"subjects: no subject is called {name!r}{valid}")
    return problems


def _read_classes(text: str, problems: list[str]) -> Mapping[str, str]:
    """Name of each subject to its class, from the table that ends at an empty line."""
    _, header, below = text.partition(f"{_HEADER}\n")
    if not header:
        problems.append(f"found no table that begins with {_HEADER}")
        return {}
    rows = [line.strip() for line in below.lstrip("\n").partition("\n\n")[0].splitlines()]
    pairs = [row.split(",") for row in rows]
    problems += [
        f"{row!r} in the table: expected a subject's folder and its class, separated by a comma"
        for row, pair in zip(rows, pairs, strict=True)
        if len(pair) != 2 or re.fullmatch(r"\w[\w.-]*", pair[0]) is None or not pair[1].strip()
    ]
    right = [(pair[0], pair[1].strip()) for pair in pairs if len(pair) == 2]
    problems += [
        f"{name} appears {count} times in the table" for name, count in Counter(name for name, _ in right).items() if count > 1
    ]
    if len(rows) != _NUM_SUBJECTS:
        problems.append(f"the table has {len(rows)} subjects; expected {_NUM_SUBJECTS}")
    return dict(right)


def _read_prompts(text: str, problems: list[str]) -> Mapping[bool, tuple[str, ...]]:
    """The prompts of objects (False) and of living subjects (True)."""
    lists = dict(_LISTS.findall(text))
    found = {}
    for is_live, title in ((False, "Object"), (True, "Live Subject")):
        if title not in lists:
            problems.append(f"found no list of prompts below '{title} Prompts'")
            continue
        try:
            prompts = tuple(_template(node) for node in _elements(lists[title]))
        except ValueError as error:
            problems.append(f"{title} Prompts: {error}")
            continue
        if len(prompts) != _NUM_PROMPTS:
            problems.append(f"{title} Prompts: {len(prompts)} prompts; expected {_NUM_PROMPTS}")
        found[is_live] = prompts
    return found


def _elements(source: str) -> Sequence[ast.expr]:
    try:
        node = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"not a list of Python strings: {error.msg}, line {error.lineno} of the list") from error
    except (MemoryError, RecursionError, ValueError) as error:  # nested too deeply, or with NUL characters
        raise ValueError(f"not a list of Python strings: {reason_of(error)}") from error
    if not isinstance(node, ast.List):
        raise ValueError("not a list of Python strings")
    return node.elts


def _template(node: ast.expr) -> str:
    """'a {0} {1}'.format(unique_token, class_token) as a template. Raises ValueError for anything else."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format"), args=arguments, keywords=[]):
            names = [one.id if isinstance(one, ast.Name) else "" for one in arguments]
        case _:
            names, text = [""], ""
    if any(name not in _WORDS for name in names):
        raise ValueError(f"expected '...'.format(unique_token, class_token), found {printable(ast.unparse(node))}")
    words = {str(number): _WORDS[name] for number, name in enumerate(names)}
    filled = ""
    try:
        for literal, field, form, conversion in string.Formatter().parse(text):
            filled += literal.replace("{", "{{").replace("}", "}}")
            if field is not None:
                filled += words[field if not (form or conversion) else ""]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{text!r} has placeholders other than {{0}} and {{1}}") from error
    return filled


def _photo_problems(subject: BenchmarkSubject) -> list[str]:
    if not subject.photos.is_dir():
        return [f"{subject.photos}: no such folder; expected the photos of {subject.name}"]
    num = len(list_folder(subject.photos).pictures)
    return [] if num >= MIN_PHOTOS else [f"{subject.photos}: {counted(num, 'photo')}; expected at least {MIN_PHOTOS}"]
