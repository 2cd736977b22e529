"""HTML from the templates beside this file; every value is escaped unless it is markup already."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["Markup", "render", "render_part"]


def render(template: str, **values: object) -> Markup:
    """A file of `templates/`, filled with `values`. Raises UndefinedError for a value that is missing."""
    return Markup(_environment().get_template(template).render(**values))


def render_part(template: str, part: str, *values: object, **named: object) -> Markup:
    """One macro of a template, called with the values."""
    macro = getattr(_environment().get_template(template).module, part)
    return Markup(macro(*values, **named))


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("dreambooth.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
