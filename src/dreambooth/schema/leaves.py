"""The leaves of a settings record: each is one flag, one YAML key and one help text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_origin

from dreambooth.config import Settings, field_sentence, section_default, section_of

__all__ = ["Leaf", "leaves"]


@dataclass(frozen=True)
class Leaf:
    """One value in a settings tree, exposed as a flag."""

    path: str
    sentence: str
    section: str
    """Docstring of its section; empty for a record without sections."""
    annotation: Any
    default: Any
    is_required: bool

    @property
    def name(self) -> str:
        """The field's name, the last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def flag(self) -> str:
        """The name with dashes: --class-word."""
        return "--" + self.name.replace("_", "-")

    @property
    def is_list(self) -> bool:
        """Whether the flag takes several values."""
        return get_origin(self.annotation) is tuple

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value: --flag or --no-flag."""
        return self.annotation in (bool, bool | None)


def leaves(settings: type[Settings], prefix: str = "", section: str = "", defaults: Settings | None = None) -> Iterator[Leaf]:
    """Yield every leaf of a settings tree in source order. `defaults` overrides the fields' own defaults."""
    for name, info in settings.model_fields.items():
        sentence = field_sentence(settings, name)
        if (inner := section_of(settings, name)) is not None:
            yield from leaves(inner, f"{prefix}{name}.", sentence, section_default(settings, name))
        else:
            default = getattr(defaults, name) if defaults is not None else info.get_default(call_default_factory=True)
            yield Leaf(f"{prefix}{name}", sentence, section, info.annotation, default, info.is_required() and defaults is None)
