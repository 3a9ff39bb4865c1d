"""The pages of the documentation are found, and so is what they point at."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
CODE = re.compile(r"^```.*?^```", re.M | re.S)
READS = re.compile(r"""env\.(?:text|words|apps|flag|path|url|database|mail)\(\s*"([A-Z_]+)\"""")


def anchors(page: Path) -> set[str]:
    """Give the names that links into a page may use, as a forge makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", page.read_text()), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", one.strip().lower()).replace(" ", "-") for one in headings}


def broken_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", page.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = Path(os.path.normpath(page.parent / path)) if path else page
        is_there = there.exists() and not path.startswith("/")
        if not is_there or (anchor and anchor not in anchors(there)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_to_pages_and_headings_that_are_there(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_every_page_but_the_decisions_is_in_the_table_of_contents() -> None:
    contents = (DOCS / "README.md").read_text()
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    listed = set(re.findall(r"\]\(([^)#]+\.md)\)", contents))
    assert {page for page in pages if not page.startswith("adr/")} - listed == set()


def test_every_variable_that_the_settings_read_is_in_the_reference() -> None:
    source = (ROOT / "config" / "settings.py").read_text()
    page = (DOCS / "reference" / "environment.md").read_text()
    read = {*READS.findall(source), "SECRET_KEY"}
    assert len(read) > 12
    assert [name for name in sorted(read) if f"| `{name}` |" not in page] == []
