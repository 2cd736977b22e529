"""HTML from templates, here and of a room above; every value is escaped unless it is markup already."""

from __future__ import annotations

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["Markup", "render", "render_part", "template_text"]

_OWN = "dreambooth.pages"


def render(template: str, *, package: str = _OWN, **values: object) -> Markup:
    """A file of the `templates/` of a package, filled with `values`. Raises UndefinedError for a value that is missing."""
    return Markup(_environment(package).get_template(template).render(**values))


def render_part(template: str, part: str, *values: object, package: str = _OWN, **named: object) -> Markup:
    """One macro of a template, called with the values."""
    macro = getattr(_environment(package).get_template(template).module, part)
    return Markup(macro(*values, **named))


def template_text(template: str) -> str:
    """A file of `templates/` as it stands: the style sheet, for a page that may hold no style of its own."""
    environment = _environment(_OWN)
    assert environment.loader is not None
    return environment.loader.get_source(environment, template)[0]


@cache
def _environment(package: str) -> Environment:
    """The templates of a package find those of this room, too."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, _OWN))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
