"""The numbers that README shows are those of the runs that it names."""

from pathlib import Path

from experiments.readme_table import table
from experiments.report import read_results

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "experiments" / "results" / "tinystories_cpu"


def test_readme_shows_the_table_of_the_run():
    """Line for line what experiments.readme_table prints from results.json."""
    assert table(read_results(RUN)) in (ROOT / "README.md").read_text()


def test_no_story_of_the_corpus_is_in_the_results():
    """The corpus is not part of this project: held-out stories are not among them."""
    assert not read_results(RUN)["human"].get("samples")
