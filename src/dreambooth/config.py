"""The base class of all settings records, and reading and writing them as YAML.

The records live next to their owners (`data/settings.py`, `training/settings.py`, ...) and are composed in `schema/verbs.py`.
One schema defines the command line, the YAML file and the reference page: the string under a field is its help text in
all three. Nothing here, nor in any `settings.py`, loads torch.
"""

from __future__ import annotations

import ast
import difflib
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator

from dreambooth.errors import SettingsError
from dreambooth.files import write_text
from dreambooth.reading import SeveralProblemsError, WrongFileError, read_text, shown_value, without_controls
from dreambooth.yaml_reading import MOST_YAML_BYTES, GivenTwiceError, parse_yaml

__all__ = [
    "NamedModel",
    "Settings",
    "Text",
    "effective_values",
    "field_sentence",
    "flat_fields",
    "is_text",
    "nearest",
    "parse_settings",
    "read_yaml",
    "section_default",
    "section_of",
    "without_silenced",
    "write_yaml",
    "yaml_text",
    "yaml_value",
]

SettingsType = TypeVar("SettingsType", bound="Settings")


def is_text(text: str) -> bool:
    """Whether it is valid text: the odd bytes of an argument or a name that is not UTF-8 arrive as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _check_text(text: str) -> str:
    if not is_text(text):
        raise ValueError(f"{text!r} is not text in UTF-8; type it again, or save the file it comes from as UTF-8")
    return text


Text = Annotated[str, AfterValidator(_check_text)]
"""Text that a model reads. Unlike a path it must be valid: bytes that are not UTF-8 mean nothing to a tokenizer."""


def _check_not_empty(text: str) -> str:
    if not text:
        raise ValueError("expected a name, found empty text")
    return text


NamedModel = Annotated[str, AfterValidator(_check_not_empty)]
"""A file, folder or hub id. Like a path it may hold bytes that are not UTF-8, which pydantic's own limit of length refuses."""


class Settings(BaseModel):
    """A frozen settings record: unknown keys are rejected, and every field has its help text below it.

    Validators are built on first use, which keeps `--help` fast; for the same reason a section's default is written as
    `Field(default_factory=Section)`, and `field_sentence` reads help texts from the source only when they are shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False, defer_build=True)

    off_switches: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Maps a field that 0 turns off, or `field=value`, to the fields that then have no effect."""

    replaces: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Maps a field to the fields (`name`, or `section.name`) that have no effect when it is given."""

    def is_changed(self, *names: str) -> tuple[str, ...]:
        """Return the named fields that differ from their default: an option without effect is an error, a default is not."""
        fields = type(self).model_fields
        return tuple(name for name in names if getattr(self, name) != fields[name].get_default(call_default_factory=True))

    @field_validator("*", mode="after")
    @classmethod
    def _no_name_holds_nul(cls, value: Any) -> Any:
        texts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(text, str | Path) and "\0" in str(text) for text in texts):
            raise ValueError("contains a NUL character, which no file name and no text may have")
        return value

    displaces: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Maps a field to the fields that leave a lower layer when it is given: `--photos` stands for a preset's `subjects`."""

    silences: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Like `off_switches`, also between sections (`section.name`), for what the record's own rules refuse in other words."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_value_means_another_by_chance(cls, value: object, info: ValidationInfo) -> object:
        # Python counts with true, so `preview_steps: true` would be 1 step; an empty path would be the working directory,
        # and it comes from a variable of the shell that is not set.
        types = (annotation := cls.model_fields[info.field_name or ""].annotation, *get_args(annotation))
        if isinstance(value, bool) and bool not in types:
            hint = "; put a word such as yes or no in quotes" * any(one is str or isinstance(one, str) for one in types)
            raise ValueError(f"expected a value, not {str(value).lower()}{hint}")
        if value == "" and Path in types:
            raise ValueError("expected a path, found empty text")
        return value

    @model_validator(mode="after")
    def _nothing_is_set_that_is_off(self: SettingsType) -> SettingsType:
        for switch, silenced in self.off_switches.items():
            field, value = _switch(switch)
            if str(getattr(self, field)) in value and (useless := self.is_changed(*silenced)):
                raise ValueError(f"{field} is {value[0]}, so {', '.join(useless)} would have no effect; use only one of them")
        return self


def without_silenced(settings: type[Settings], low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lower layer without the values that the upper layer makes ineffective and does not set itself.

    So `--preset toybox --prior-weight 0` and `--preset toybox --prior-images FOLDER` are accepted, although the preset says how
    to generate class images.
    """
    kept = dict(low)
    for name, above in high.items():
        section = section_of(settings, name) if name in settings.model_fields else None
        if section is not None and isinstance(above, Mapping) and isinstance(kept.get(name), Mapping):
            kept[name] = without_silenced(section, kept[name], above)
    above_all = (*settings.replaces.items(), *settings.displaces.items())
    replaced = [path for field, others in above_all if high.get(field) is not None for path in others]
    for path in (*_switched_off(settings, high), *replaced):
        place, _, name = path.rpartition(".")
        values, above = (kept.get(place), high.get(place, {})) if place else (kept, high)
        if isinstance(values, Mapping) and name in values and name not in above:
            values = {other: value for other, value in values.items() if other != name}
            kept = {**kept, place: values} if place else values
    return kept


def _switched_off(settings: type[Settings], values: Mapping[str, Any]) -> Iterator[str]:
    """What switches among the values turn off: `name`, or `section.name`."""
    for switch, silenced in (*settings.off_switches.items(), *settings.silences.items()):
        path, off = _switch(switch)
        place, _, field = path.rpartition(".")
        section = values.get(place) if place else values
        if isinstance(section, Mapping) and str(section.get(field)) in off:
            yield from silenced


def _switch(switch: str) -> tuple[str, tuple[str, ...]]:
    """The field of a switch, and the texts of the values that turn it off."""
    field, _, value = switch.partition("=")
    return field, (value,) if value else ("0", "0.0")


def section_of(settings: type[Settings], name: str) -> type[Settings] | None:
    """Return the record class of a field that is a section, or None for a value."""
    annotation = settings.model_fields[name].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None


def section_default(settings: type[Settings], name: str) -> Settings | None:
    """Return a section's default in this record, or None if the section's own defaults apply."""
    section, factory = section_of(settings, name), settings.model_fields[name].default_factory
    if section is None or factory is None or factory is section:
        return None
    made: Settings = settings.model_fields[name].get_default(call_default_factory=True)
    return made


def flat_fields(settings: type[Settings], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of a settings tree as (dotted path, field name); the flag has the field's name."""
    for name in settings.model_fields:
        if (section := section_of(settings, name)) is not None:
            yield from flat_fields(section, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", name


def field_sentence(settings: type[Settings], name: str) -> str:
    """Return the help text below a field in the source, or an empty string."""
    owners = (owner for owner in settings.__mro__ if issubclass(owner, Settings))
    found = (_sentences(owner.__module__).get((owner.__name__, name)) for owner in owners)
    return next((sentence for sentence in found if sentence is not None), "")


@cache
def _sentences(module: str) -> dict[tuple[str, str], str]:
    # Much faster than pydantic's use_attribute_docstrings, which parses the source once per class.
    source = sys.modules[module].__file__
    assert source is not None
    records = (node for node in ast.parse(Path(source).read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef))
    sentences = {}
    for record in records:
        for field, below in itertools.pairwise(record.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(sentence))):
                    sentences[record.name, name] = " ".join(sentence.split())
    return sentences


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name most similar to `name`, or the only one that starts with it; None if there is none."""
    known = list(valid)
    if found := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return found[0]
    longer = [candidate for candidate in known if len(name) > 2 and candidate.startswith(name)]
    return longer[0] if len(longer) == 1 else None


def parse_settings(
    settings: type[SettingsType], values: Mapping[str, Any], *, where: str, names: Mapping[str, str] | None = None
) -> SettingsType:
    """Build a settings record from plain values; numbers may be given as text.

    `where` says where the values come from ("runs/dog/config.yaml"); `names` maps dotted paths to the names used in messages,
    such as flags. Raises SettingsError listing every problem: unknown keys with the nearest valid name, missing keys, wrong
    types and ranges, and conflicts between fields.
    """
    try:
        return settings.model_validate(_with_sections(settings, values))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        told = [text for problem in problems[:_MOST_PROBLEMS] for text in _told(problem, settings, where, names)]
        if (more := len(problems) - _MOST_PROBLEMS) > 0:
            told.append(f"{where}: {more} more problems")
        raise SettingsError(told) from error


_MOST_PROBLEMS, _MOST_NAMED = 100, 8


def _with_sections(settings: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    # Replace a missing required section by an empty one, so that each missing value is reported, not the section.
    required = (name for name, field in settings.model_fields.items() if field.is_required() and section_of(settings, name))
    return {**{name: {} for name in required}, **values}


def _told(problem: Any, settings: type[Settings], where: str, names: Mapping[str, str] | None) -> tuple[str, ...]:
    context = problem.get("ctx", {})
    mistake = context.get("error")
    if isinstance(mistake, WrongFileError):
        return mistake.problems
    each = mistake.problems if isinstance(mistake, SeveralProblemsError) else (mistake,)
    return tuple(_describe({**problem, "ctx": {**context, "error": one}}, settings, where, names) for one in each)


def _describe(problem: Any, settings: type[Settings], where: str, names: Mapping[str, str] | None) -> str:
    path = ".".join(part for part in problem["loc"] if isinstance(part, str))
    places = "".join(f" of number {part + 1}" for part in problem["loc"][:-1] if isinstance(part, int))  # in a list of records
    name = (names or {}).get(path, f"{where}: '{path}'") + places
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return (names or {}).get(path, f"{where}: unknown setting '{path}'") + places + _did_you_mean(path, settings)
    if kind == "missing":
        return f"{name} is missing: {_sentence_at(path, settings)}"
    if kind == "value_error":  # our own rules; those between fields name the fields themselves, which may have several sources
        is_between = path not in dict(flat_fields(settings))
        place = name if not is_between else where if names is None else ""
        return f"{place}: {context['error']}".removeprefix(": ")
    if kind == "literal_error":
        choices = context["expected"].replace("'", "")
        near = nearest(str(problem["input"]), choices.replace(" or ", ", ").split(", "))
        return f"{name} is {shown_value(problem['input'])}: expected {choices}" + (f"; did you mean '{near}'?" if near else "")
    template = _EXPECTED.get(kind)
    limits = {limit: f"{value:g}" if isinstance(value, float) else value for limit, value in context.items()}
    message = f"expected {template.format(**limits)}" if template is not None else problem["msg"]
    shown = "empty" if problem["input"] is None else shown_value(problem["input"])
    return f"{name} is {shown}: {message}"


_EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_type": "text; put a number, or a word such as yes, in quotes",
    "string_unicode": "text in UTF-8",
    "string_too_short": "text that is not empty",
    "too_short": "text that is not empty",
    "path_type": "a path",
    "tuple_type": "a list",
    "model_type": "a mapping of settings",
}


def _did_you_mean(path: str, settings: type[Settings]) -> str:
    section, _, name = path.rpartition(".")
    siblings = {name: f"{section}.{name}".lstrip(".") for name in _record_at(section, settings).model_fields}
    anywhere = {name: dotted for dotted, name in flat_fields(settings)}
    for known in (siblings, anywhere):
        if (near := nearest(name, known)) is not None:
            return f"; did you mean '{known[near]}'?"
    return f"; expected {', '.join(siblings)}" if len(siblings) <= _MOST_NAMED else ""


def _record_at(path: str, settings: type[Settings]) -> type[Settings]:
    for name in path.split(".") if path else ():
        if name not in settings.model_fields:  # a key of the file may itself hold a dot
            break
        of_list = get_args(settings.model_fields[name].annotation)[:1]
        records = [one for one in of_list if isinstance(one, type) and issubclass(one, Settings)]
        settings = section_of(settings, name) or next(iter(records), settings)
    return settings


def _sentence_at(path: str, settings: type[Settings]) -> str:
    section, _, name = path.rpartition(".")
    sentence = field_sentence(_record_at(section, settings), name)
    return sentence if sentence[1:2].isupper() else f"{sentence[:1].lower()}{sentence[1:]}"


def read_yaml(path: Path, *, expected: str = "a mapping of settings") -> dict[str, Any]:
    """Read the mapping in a YAML file, which messages call `expected`.

    Raises SettingsError if the file is missing, is not YAML (see `parse_yaml`), has a duplicate key or is not a mapping.
    """
    try:
        values = parse_yaml(read_text(path, most_bytes=MOST_YAML_BYTES))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such settings file", hint="Give an existing YAML file.") from error
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}", hint="Give a readable YAML file.") from error
    except ValueError as error:
        raise SettingsError(f"{path}: {'' if isinstance(error, GivenTwiceError) else 'not a YAML file: '}{error}") from error
    if not isinstance(values, dict):
        found = "an empty file" if values is None else f"a {type(values).__name__}"
        raise SettingsError(f"{path}: expected {expected}, found {found}")
    if odd := [key for key in values if not isinstance(key, str)]:
        raise SettingsError(f"{path}: expected names of settings, found {shown_value(odd[0])}")
    return values


def yaml_value(text: str) -> Any:
    """Parse a value as YAML; text that is not YAML stays text."""
    try:
        return parse_yaml(text)
    except ValueError:
        return text


_SEPARATORS = frozenset("\x85\u2028\u2029\ufeff")


def yaml_text(values: Mapping[str, Any]) -> str:
    """Format plain values as YAML, in their order."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes texts with odd line separators, which the library reads back as blanks otherwise."""

        def represent_str(self, text: str) -> yaml.ScalarNode:
            style = '"' if _SEPARATORS.intersection(text) else None
            return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, Dumper.represent_str)
    return str(yaml.dump(dict(values), Dumper=Dumper, sort_keys=False, allow_unicode=True))


def write_yaml(path: Path, settings: Settings, *, comment: str) -> None:
    """Write a settings record below a comment; `read_yaml` and `parse_settings` return an equal record.

    What a switch turns off is left out: if a later version changed its default, the file would be refused.
    """
    head = "".join(f"# {line}\n" for line in without_controls(comment).splitlines())
    write_text(path, head + yaml_text(effective_values(settings)))


def effective_values(settings: Settings) -> dict[str, Any]:
    """The plain values of a record, by section, without those that a switch turns off."""
    values = settings.model_dump(mode="json")
    replaced = [path for field, others in settings.replaces.items() if settings.is_changed(field) for path in others]
    silent = {*_switched_off(type(settings), values), *replaced}
    for name in values:
        if isinstance(section := getattr(settings, name), Settings):
            values[name] = effective_values(section)
    for path in silent:
        section, _, name = path.rpartition(".")
        (values[section] if section else values).pop(name, None)
    return values
