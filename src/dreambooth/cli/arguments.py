"""Arguments to values: which flag each word belongs to, and a message for each word that belongs to none.

A mistake costs only its own flag: everything else on the command line is still read, so that all mistakes are reported together
and no correct flag is called missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from dreambooth.cli.surplus import has_pattern, pattern_problem, surplus_problem, value_types
from dreambooth.cli.synonyms import advice_for
from dreambooth.cli.verbs import Verb
from dreambooth.config import nearest
from dreambooth.schema.leaves import Leaf

__all__ = ["Given", "read_words"]

_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-(inf|nan)", re.IGNORECASE)
_LONG_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212"  # word processors and web pages turn -- into one of these
_TRUE, _FALSE = ("true", "yes", "y", "t", "1", "on"), ("false", "no", "n", "f", "0", "off")


@dataclass(frozen=True)
class Given:
    """The parsed command line."""

    values: Mapping[str, Any]
    """Dotted path to text, list of texts, or bool for a switch; only flags that were given."""
    extra: Mapping[str, str]
    """Flags of `Verb.extra` that were given."""
    problems: tuple[str, ...] = ()
    """Messages about arguments that this verb does not accept."""
    broken: frozenset[str] = frozenset()
    """Dotted paths of flags that `problems` are about: given in a wrong way, or meant by another name. They are not missing."""
    typed: Mapping[str, str] = field(default_factory=dict)
    """Dotted path to the flag as it was typed, where that is a former name of it."""
    is_answered: bool = False
    """Whether help was requested and shown, so that nothing is left to do."""


@dataclass
class _Group:
    """A flag as it was typed ("" for the words before the first flag), and the words up to the next flag."""

    flag: str
    attached: str | None = None
    """The value after an equals sign."""
    words: list[str] = field(default_factory=list)


def read_words(verb: Verb, flags: Sequence[Leaf], arguments: Sequence[str]) -> Given:
    """Give every word to its flag. Values stay text."""
    reader = _Reader(verb, flags)
    for group in _groups(arguments, reader.names):
        reader.take(group)
    reader.place_positional()
    return Given(reader.values, reader.extra, (*reader.problems, *reader.unknown), frozenset(reader.broken), reader.typed)


def _groups(arguments: Sequence[str], names: Mapping[str, Any]) -> Iterator[_Group]:
    group = _Group("")
    for index, word in enumerate(arguments):
        if word == "--":
            yield group
            yield _Group("", words=list(arguments[index + 1 :]))
            return
        if _is_flag(word, names):
            yield group
            flag, has_value, value = word.partition("=")
            group = _Group(flag, value if has_value else None)
        else:
            group.words.append(word)
    yield group


def _is_flag(word: str, names: Mapping[str, Any]) -> bool:
    if word[:1] in _LONG_DASHES and word:
        return _bare(word.partition("=")[0]) in names
    return word.startswith("-") and len(word) > 1 and _NUMBER.fullmatch(word) is None


def _bare(flag: str) -> str:
    return flag.lstrip("-" + _LONG_DASHES).replace("_", "-")


class _Reader:
    """Collects the values, and the problems in the order of the command line."""

    def __init__(self, verb: Verb, flags: Sequence[Leaf]) -> None:
        self.verb = verb
        self.names: dict[str, tuple[Leaf | str, bool]] = {name: (name, True) for name in verb.extra}
        """Name without dashes to its leaf (or the name of an extra flag), and False for the negative of a switch."""
        for leaf in flags:
            self.names[leaf.flag.lstrip("-")] = (leaf, True)
            if leaf.is_switch:
                self.names[f"no-{leaf.flag.lstrip('-')}"] = (leaf, False)
        self.former = {former.replace("_", "-"): name.replace("_", "-") for former, name in verb.former_names.items()}
        self.names |= {former: self.names[name] for former, name in self.former.items()}
        self.slots = [leaf for name in verb.positional for leaf in flags if leaf.name == name]
        self.values: dict[str, Any] = {}
        self.extra: dict[str, str] = {}
        self.problems: list[str] = []
        """Messages about flags that the verb has."""
        self.unknown: list[str] = []
        """Messages about words that belong to no flag."""
        self.broken: set[str] = set()
        self.typed: dict[str, str] = {}
        self.positional: list[str] = []

    def take(self, group: _Group) -> None:
        """Read one flag with its words."""
        leaf, is_positive = self.names.get(_bare(group.flag), (None, True)) if group.flag.startswith("--") else (None, True)
        if not group.flag:
            self._take_stray(group.words)
        elif leaf is None:
            self._take_unknown(group)
        elif isinstance(leaf, Leaf) and leaf.is_switch:
            self._take_switch(leaf, group, is_positive=is_positive)
        elif isinstance(leaf, Leaf) and leaf.is_list:
            self._take_list(leaf, group)
        else:
            self._take_text(leaf, group)

    def _take_stray(self, words: Sequence[str], advice: str = "") -> None:
        if self.slots:
            self.positional += words
        else:
            self.unknown += [f"unexpected argument {word!r}{advice}" for word in words]

    def _take_unknown(self, group: _Group) -> None:
        words = ([] if group.attached is None else [group.attached]) + group.words
        advice, near = advice_for(_bare(group.flag), self.names), None
        if advice is None and (near := nearest(_bare(group.flag), self.names)) is not None:
            advice = f"did you mean --{near}?"
            if group.flag[0] in _LONG_DASHES:
                advice = f"it starts with a long dash instead of two hyphens; {advice}"
        self.unknown.append(f"unknown option {group.flag}" + (f"; {advice}" if advice is not None else ""))
        if near is None and advice is not None and (meant := re.search(r"--([a-z0-9-]+)", advice)):
            near = meant[1]
        leaf = self.names.get(near or "", (None, True))[0]
        if isinstance(leaf, Leaf):  # what was meant is known: it is not missing, and other rules may rely on it
            self.broken.add(leaf.path)
            if words and _is_free_text(leaf):
                self.values.setdefault(leaf.path, words if leaf.is_list else words[0])
        if self.slots:
            self.positional += words[1:]
            self.broken.update(slot.path for slot in self.slots if words)  # it may have been a switch

    def _take_switch(self, leaf: Leaf, group: _Group, *, is_positive: bool) -> None:
        text = None if group.attached is None else group.attached.lower()
        if text is not None and (not is_positive or text not in (*_TRUE, *_FALSE)):
            expected = "true or false" if is_positive else "no value"
            self.problems.append(f"{group.flag} is {group.attached!r}: expected {expected}")
            self.broken.add(leaf.path)
        else:
            self._set(leaf, group.flag, is_positive and text not in _FALSE)
        self._take_stray(group.words, f"; {leaf.flag} takes no value: write {leaf.flag} or --no-{leaf.flag.lstrip('-')}")

    def _take_list(self, leaf: Leaf, group: _Group) -> None:
        texts = ([] if group.attached is None else [group.attached]) + group.words
        if self.slots:
            end = next((place for place, text in enumerate(texts) if place and _is_place(text)), len(texts))
            self.positional += texts[end:]
            texts = texts[:end]
        if not texts:
            self._needs_value(leaf, group.flag)
        else:
            self.values.setdefault(leaf.path, []).extend(texts)

    def _take_text(self, leaf: Leaf | str, group: _Group) -> None:
        words = list(group.words)
        if group.attached == "" and words and not self.slots:
            self.problems.append(f"{group.flag}= is followed by a space; write {group.flag} {words[0]}")
            self._set(leaf, group.flag, words[0])
            return
        if group.attached is None and not words:
            self._needs_value(leaf, group.flag)
            return
        value = words.pop(0) if group.attached is None else group.attached
        if has_pattern(leaf, value):
            self.problems.append(pattern_problem(leaf, group.flag, value))
        if words and self.slots:
            self.positional += words
        elif words:
            self.problems.append(surplus_problem(leaf, group.flag, [value, *words]))
            self.broken |= {leaf.path} if isinstance(leaf, Leaf) else set()
        self._set(leaf, group.flag, value)

    def _needs_value(self, leaf: Leaf | str, flag: str) -> None:
        choices = _choices(leaf)
        rest = f": {', '.join(choices)}" if choices else f"; if the value starts with a dash, write {flag}=VALUE"
        self.problems.append(f"{flag} needs a value{rest}")
        if isinstance(leaf, Leaf):
            self.broken.add(leaf.path)

    def _set(self, leaf: Leaf | str, flag: str, value: Any) -> None:
        values, key = (self.extra, leaf) if isinstance(leaf, str) else (self.values, leaf.path)
        if key in values:
            problem = f"{flag} was given more than once"
            self.problems += [problem] if problem not in self.problems else []
        else:
            values[key] = value
            if isinstance(leaf, Leaf) and _bare(flag) in self.former:
                self.typed[key] = f"--{_bare(flag)}"

    def place_positional(self) -> None:
        """Give the words without a flag to the verb's arguments that are still free."""
        free = [leaf for leaf in self.slots if leaf.path not in self.values]
        surplus = self.positional[len(free) :]
        self.values |= {leaf.path: word for leaf, word in zip(free, self.positional, strict=False)}
        if surplus and len(self.positional) > 1 and all(Path(word).exists() for word in self.positional[:-1]):
            names = " ".join(leaf.name.upper() for leaf in self.slots)
            self.problems.append(
                f"{self.verb.command} takes {names}, but {len(self.positional)} names were given, from {self.positional[0]} "
                f"to {self.positional[-1]}; the shell replaces a pattern such as *.ckpt by all matching names: name one file"
            )
        else:
            self.unknown += [f"unexpected argument {word!r}" for word in surplus]


def _is_place(word: str) -> bool:
    """Whether a word after a list is a model rather than one more entry: after `--token sks`, `toybox` or `rex.ckpt` is."""
    return word == "toybox" or "/" in word or "\\" in word or bool(Path(word).suffix) or Path(word).exists()


def _is_free_text(leaf: Leaf) -> bool:
    return not value_types(leaf).isdisjoint({str, Path})


def _choices(leaf: Leaf | str) -> tuple[str, ...]:
    if isinstance(leaf, str):
        return ()
    for kind in (leaf.annotation, *get_args(leaf.annotation)):
        if get_origin(kind) is Literal:
            return tuple(str(choice) for choice in get_args(kind))
    return ()
