"""Every link inside the documentation leads somewhere, code fits a terminal, and generated pages are current."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import yaml

from dreambooth.estimate.choice import USABLE
from experiments.settings_page import PAGE, settings_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "benchmarks/README.md")),
    *DOCS.rglob("*.md"),
]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]*`|^    .*$", "", text, flags=re.DOTALL | re.MULTILINE)


def _anchors(page: Path) -> set[str]:
    """What a heading is reached by, as GitHub and mkdocs write it: small letters, dashes for blanks, no other signs."""
    titles = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M), re.M
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_inside_leads_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(_without_code(page.read_text(encoding="utf-8"))) if "://" not in link]
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_index_and_in_the_navigation() -> None:
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    index = set(_LINK.findall((DOCS / "index.md").read_text(encoding="utf-8")))
    assert sorted(pages - index - {"index.md"}) == []
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(_leaves(settings["nav"])) == sorted(pages)


def test_every_test_that_the_page_on_trust_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / "trust.md").read_text(encoding="utf-8"))
    assert len(named) > 40
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")]
    assert missing == []


def _leaves(tree: object) -> list[str]:
    if isinstance(tree, str):
        return [tree]
    children = tree.values() if isinstance(tree, dict) else tree
    assert not isinstance(children, str)
    return [leaf for child in children for leaf in _leaves(child)]  # type: ignore[attr-defined]


def test_code_in_the_readme_fits_eighty_columns() -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    assert [line for block in blocks for line in block.splitlines() if len(line) > 80] == []


def test_the_readme_installs_the_torch_of_the_constraints() -> None:
    pinned = re.findall(r"^torch==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    for page, num in (("README.md", 3), ("docs/how-to/install.md", 1)):
        installed = re.findall(r"pip install .*?(torch==\S+) --index-url", (ROOT / page).read_text(encoding="utf-8"))
        assert installed == pinned * num


def test_the_free_memory_of_the_readme_is_what_auto_needs() -> None:
    """The first tenth of a GiB at which `auto` takes the preset: 10.7 GiB once stood for 12gb, which needs 10.73."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d.]+) GiB \| .* \| `(\w+)` \| ([\d.]+) GiB \|$", text, re.MULTILINE)
    assert [preset for _, preset, _ in rows] == ["fast", "12gb", "8gb", "6gb"]
    assert [free for free, _, _ in rows] == [f"{math.ceil(10 * float(peak) / USABLE) / 10:.1f}" for _, _, peak in rows]
    rented = (DOCS / "how-to" / "rented-gpu.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| ([\d.]+) \| .* \| `(\w+)` \|$", rented, re.MULTILINE)
    assert table == [(free, preset) for free, preset, _ in rows]


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 122


def test_the_settings_page_is_current() -> None:
    is_current = PAGE.read_text(encoding="utf-8") == settings_page()
    assert is_current, "a setting changed; type: python -m experiments.settings_page"
