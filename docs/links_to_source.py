"""A hook of mkdocs: on the site, links that leave docs/ become the names of the files in the repository."""

from __future__ import annotations

import posixpath
import re
from typing import Any

__all__ = ["on_page_markdown"]

_RELATIVE_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page's text. `page.file.src_uri` is its path below docs/, such as how-to/memory.md."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def named(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        if target.startswith("docs/"):
            return link[0]
        return f"`{target}`" if target.endswith(link[1]) else f"{link[1]} (`{target}`)"

    return _RELATIVE_LINK.sub(named, markdown)
