"""The examples of the documentation are programs, and they run."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

from experiments import families
from experiments.report import format
from lm_jax.data import corpora
from mdlm_jax import sampling, schedule

PACKAGES = ("lm_jax", "ar_jax", "mdlm_jax", "experiments")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
SAID_BY_THE_MODULE = {"main", "get_config"}
PAGES = sorted((ROOT / "docs").glob("*.md"))
LONG = {"adding_a_family"}  # trains three families


def blocks(page: Path) -> list[str]:
    """The Python blocks, each on its own lines, so that an error names its line."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M)
    return ["\n" * text.count("\n", 0, m.start(1)) + m[1] for m in found]


@pytest.fixture
def registries() -> Iterator[None]:
    """What a guide registers is forgotten when its test ends."""
    tables = (
        families.FAMILIES,
        corpora.CORPORA,
        format.VARIETY,
        sampling.POLICIES,
        schedule.SCHEDULES,
    )
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)  # pyright: ignore[reportCallIssue, reportArgumentType]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=[pytest.mark.slow] if p.stem in LONG else [], id=p.stem)
        for p in PAGES
        if p.stem.startswith("adding_")
    ],
)
def test_every_guide_is_a_program(page, registries, monkeypatch):
    """All blocks of a page, one after another, run from the root of the project."""
    monkeypatch.chdir(ROOT)
    namespace = {"__name__": "__main__"}
    code = blocks(page)
    assert len(code) >= 3
    for block in code:
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_the_documentation_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_index_lists_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert not [page.name for page in PAGES if page.name not in index + "index.md"]
