"""`python -m experiments.settings_page`: writes docs/reference/settings.md from the settings of every verb."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dreambooth.cli.verbs import DREAMBOOTH, LORA, TOYBOX, Verb
from dreambooth.data.settings import NamedSubject
from dreambooth.schema.leaves import Leaf, leaves
from dreambooth.schema.presets import preset_names

__all__ = ["PAGE", "settings_page"]

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
_HEAD = """\
# Settings

Every setting of every verb. A flag and a YAML key have the same name: `--class-word` on the command line is `class_word`
in a file, inside the section that stands in brackets. Precedence: defaults, then `--preset`, then flags.

`python -m experiments.settings_page` writes this page from the program's own settings; do not edit it by hand.
"""


def settings_page() -> str:
    """The whole page, as Markdown."""
    verbs = [*DREAMBOOTH.verbs.values(), *LORA.verbs.values(), *TOYBOX.verbs.values()]
    return _HEAD + "".join(_verb(verb) for verb in verbs)


def _verb(verb: Verb) -> str:
    shown = [leaf for leaf in leaves(verb.record()) if leaf.name not in verb.without]
    sections: dict[tuple[str, str], list[Leaf]] = {}
    for leaf in shown:
        sections.setdefault((leaf.path.rpartition(".")[0], leaf.section), []).append(leaf)
    text = f"\n## {verb.command}\n\n{verb.sentence}\n"
    for (key, sentence), members in sections.items():
        title = f"\n### {sentence.rstrip('.')} (`{key}`)\n" if key else ""
        rows = "".join(_row(leaf, is_positional=leaf.name in verb.positional) for leaf in members)
        text += f"{title}\n| setting | values | default | meaning |\n|---|---|---|---|\n{rows}"
    if verb.extra:
        lines = (
            f"- `--{name}`: {sentence.format(presets=', '.join(preset_names()))}\n" for name, sentence in verb.extra.items()
        )
        text += "\nNot settings:\n\n" + "".join(lines)
    return text


def _row(leaf: Leaf, *, is_positional: bool) -> str:
    name = leaf.name.upper() if is_positional else leaf.flag
    default = "required" if leaf.is_required else _default(leaf.default)
    return f"| `{name}` | {_values(leaf.annotation)} | {default} | {leaf.sentence.replace('|', chr(92) + '|')} |\n"


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(f"`{item}`" for item in value)
    return f"`{value}`"


def _values(annotation: Any) -> str:
    """The values that an annotation allows, in words: its choices, or its type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _values(get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if origin in (Union, UnionType):
        return " or ".join(_values(part) for part in get_args(annotation) if part is not type(None))
    if origin is tuple and get_args(annotation)[0] is NamedSubject:
        return "YAML file"
    if origin is tuple:
        return f"{_values(get_args(annotation)[0])}, several"
    return {bool: "on, off", int: "whole number", float: "number", str: "text", Path: "path"}[annotation]


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8", newline="\n")
