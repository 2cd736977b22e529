"""The settings of a training as fields of a form, and the form's values as settings: both from the one schema."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dreambooth.config import Settings, parse_settings, section_of
from dreambooth.errors import SettingsError
from dreambooth.schema.layers import layered_settings
from dreambooth.schema.leaves import Leaf, leaves
from dreambooth.schema.presets import preset_names, read_preset
from dreambooth.schema.verbs import TrainSettings
from dreambooth.web.labels import LABELS
from dreambooth.web.projects import Project, ProjectNotes, Setting

__all__ = [
    "HIDDEN",
    "Field",
    "FormValues",
    "all_fields",
    "check_request",
    "checked_settings",
    "chosen_values",
    "fields_of",
    "named_settings",
    "posted_changes",
    "request_fields",
]

HIDDEN = frozenset({"subject.photos", "subject.subjects", "output.output", "output.file_layout", "prior.prior_folder"})
"""Leaves that the project sets by itself."""

FormValues = Mapping[str, Sequence[str]]
"""What a form posts: the values of each name."""

_NO_SETTINGS = ("shown", "preset", "screen")
"""What a form of settings posts beside them."""

_MOST_RADIOS = 4
_FLAG = re.compile(r"(--[a-z0-9-]+)(?= |:|$)")


@dataclass(frozen=True)
class Field:
    """One setting on a page."""

    path: str
    flag: str
    label: str
    sentence: str
    section: str
    kind: Literal["switch", "radio", "select", "number", "lines", "text"]
    choices: tuple[str, ...]
    """Values of a radio or select; the empty one is automatic."""
    limits: Mapping[str, str]
    """min, max and step of a number."""
    value: str
    is_number: bool
    """Whether a field for numbers can show it: what was typed by mistake stays."""
    default: str
    """What stands without a choice: the preset's value or the program's; empty for automatic."""
    is_changed: bool
    problems: tuple[str, ...]


def fields_of(project: Project, paths: Sequence[str]) -> list[dict[str, Any]]:
    """The fields of some settings, in this order, as plain values."""
    by_path = {field["path"]: field for field in all_fields(project)}
    return [by_path[path] for path in paths]


def all_fields(project: Project) -> list[dict[str, Any]]:
    """Every setting of a training but the hidden ones, as plain values, each with its own problems."""
    notes, problems = project.notes, dict[str, list[str]]()
    for path, problem in checked_settings(project)[1]:
        problems.setdefault(path, []).append(problem)
    below = _preset_values(notes.preset)
    return [asdict(_field(leaf, notes, below, tuple(problems.get(leaf.path, ())))) for leaf in _leaves()]


def request_fields(record: type[Settings], names: Sequence[str], values: Mapping[str, str]) -> list[dict[str, str]]:
    """Settings of a single request, such as pictures, as plain fields of text; those without a value hold their default."""
    by_name = {leaf.name: leaf for leaf in leaves(record)}
    return [
        {
            "name": name,
            "label": LABELS[name],
            "flag": by_name[name].flag,
            "sentence": by_name[name].sentence,
            "value": values.get(name, _as_text(by_name[name].default)),
        }
        for name in names
    ]


def check_request(record: type[Settings], values: Mapping[str, Any]) -> None:
    """Raise SettingsError with everything that is wrong with what a form asks of a command, by the names of flags."""
    parse_settings(record, values, where="the form", names={leaf.path: leaf.flag for leaf in leaves(record)})


def checked_settings(project: Project) -> tuple[TrainSettings | None, list[tuple[str, str]]]:
    """The settings of the next run, or None; and every problem with the path of its setting, in the command line's words.

    A problem that belongs to no single setting has an empty path.
    """
    notes = project.notes
    given = {**notes.settings, "subject.photos": str(project.photos), "output.output": str(project.next_run())}
    try:
        where, below = read_preset(notes.preset) if notes.preset else ("the project", {})
        return layered_settings(TrainSettings, given, below, where=where, name_of=lambda leaf: leaf.flag), []
    except SettingsError as error:
        by_flag = {leaf.flag: leaf.path for leaf in _leaves()}
        named = ((_FLAG.match(problem), problem) for problem in error.problems)
        return None, [(by_flag.get(match[1], "") if match else "", problem) for match, problem in named]


def chosen_values(settings: TrainSettings) -> dict[str, Setting]:
    """The settings of a run that differ from the program's defaults, as a project notes them."""
    found: dict[str, Setting] = {}
    for leaf in _leaves():
        value: Any = settings
        for name in leaf.path.split("."):
            value = getattr(value, name)
        if leaf.is_required or value != leaf.default:
            found[leaf.path] = value if isinstance(value, bool) else _lines(value) if leaf.is_list else _as_text(value)
    return found


def _lines(value: Any) -> list[str]:
    return [str(one) for one in value or ()]


def named_settings(values: FormValues) -> FormValues:
    """The values of a JSON object as the form that would post them: every setting that it names counts as `shown`.

    Raises SettingsError for a name that is no setting, and for several values of a setting that takes one.
    """
    by_path = {leaf.path: leaf for leaf in _leaves()}
    named = [name for name in values if name not in _NO_SETTINGS]
    problems = [f"unknown setting {name!r}" for name in named if name not in by_path]
    problems += [
        f"{name} takes one value, not a list of {len(values[name])}"
        for name in named
        if name in by_path and not by_path[name].is_list and len(values[name]) > 1
    ]
    if problems:
        raise SettingsError(problems, hint="Settings are named by their dotted path, such as loop.steps.")
    return {**values, "shown": tuple(dict.fromkeys((*values.get("shown", ()), *named)))}


def posted_changes(notes: ProjectNotes, form: FormValues) -> dict[str, Any]:
    """New values for the notes after a form was posted; `shown` lists the settings that it held, so others stay as they are.

    A value that equals the preset's or is empty leaves the notes. Wrong values are kept: nothing that was typed is lost.
    """
    changes: dict[str, Setting] = dict(notes.settings)
    preset = form["preset"][0] if "preset" in form else notes.preset
    if preset and preset not in preset_names():
        raise SettingsError(f"preset is {preset!r}: expected {', '.join(preset_names())}")
    below = _preset_values(preset)
    by_path = {leaf.path: leaf for leaf in _leaves()}
    for path in form.get("shown", ()):
        if path not in by_path:
            raise SettingsError(f"unknown setting {path!r}")
        leaf = by_path[path]
        value = _posted(leaf, form.get(path, ()))
        if _as_text(value) in ("", _below(leaf, below)) and not (value is False and _below(leaf, below) != "false"):
            changes.pop(path, None)
        else:
            changes[path] = value
    return {"settings": changes, "preset": preset}


def _posted(leaf: Leaf, values: Sequence[str]) -> Setting:
    if _kind(leaf) == "switch":
        return "true" in values
    if leaf.is_list:
        return [line.strip() for value in values for line in value.splitlines() if line.strip()]
    return values[-1].strip() if values else ""


@cache
def _leaves() -> tuple[Leaf, ...]:
    return tuple(leaf for leaf in leaves(TrainSettings) if leaf.path not in HIDDEN)


@cache
def _preset_values(preset: str) -> Mapping[str, Any]:
    return dict(_flat(read_preset(preset)[1])) if preset else {}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _below(leaf: Leaf, preset: Mapping[str, Any]) -> str:
    return _as_text(preset.get(leaf.path, None if leaf.is_required else leaf.default))


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "\n".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _field(leaf: Leaf, notes: ProjectNotes, below: Mapping[str, Any], problems: tuple[str, ...]) -> Field:
    default = _below(leaf, below)
    value = _as_text(notes.settings[leaf.path]) if leaf.path in notes.settings else default
    return Field(
        path=leaf.path,
        flag=leaf.flag,
        label=LABELS[leaf.name],
        sentence=leaf.sentence,
        section=leaf.section or "Settings",
        kind=_kind(leaf),
        choices=_choices(leaf),
        limits=_limits(leaf),
        value=value,
        is_number=_kind(leaf) == "number" and (not value or _is_number(value)),
        default=default,
        is_changed=leaf.path in notes.settings,
        problems=problems,
    )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _kind(leaf: Leaf) -> Literal["switch", "radio", "select", "number", "lines", "text"]:
    if leaf.annotation is bool:
        return "switch"
    if choices := _choices(leaf):
        return "radio" if len(choices) <= _MOST_RADIOS else "select"
    if leaf.is_list:
        return "lines"
    return "number" if {int, float} & set(_types(leaf.annotation)) else "text"


def _choices(leaf: Leaf) -> tuple[str, ...]:
    kinds = list(_types(leaf.annotation))
    automatic = ("",) if type(None) in kinds else ()
    if leaf.annotation == bool | None:
        return (*automatic, "true", "false")
    literals = [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    return (*automatic, *literals) if literals else ()


def _types(annotation: Any) -> Iterator[Any]:
    """The types that a value may have."""
    if get_origin(annotation) is Annotated:
        yield from _types(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _types(one)
    else:
        yield annotation


def _limits(leaf: Leaf) -> dict[str, str]:
    """What the browser can check by itself; the server checks everything again."""
    if _kind(leaf) != "number":
        return {}
    record: type[Settings] = TrainSettings
    *sections, name = leaf.path.split(".")
    for section in sections:
        record = section_of(record, section) or record
    info = record.model_fields[name]
    rules = [*info.metadata, *_rules(info.annotation)]
    found = {"step": "any" if float in set(_types(leaf.annotation)) else "1"}
    for rule in rules:
        for limit, attribute in (("ge", "min"), ("le", "max"), ("multiple_of", "step")):
            if (value := getattr(rule, limit, None)) is not None:
                found[attribute] = f"{value:g}" if isinstance(value, float) else str(value)
    return found


def _rules(annotation: Any) -> Iterator[Any]:
    """The constraints that stand inside an annotation, as in `Annotated[int, Field(ge=1)] | None`."""
    if get_origin(annotation) is Annotated:
        for rule in get_args(annotation)[1:]:
            yield rule
            yield from getattr(rule, "metadata", ())
    for one in get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ():
        yield from _rules(one)
