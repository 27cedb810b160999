"""Progress: a bar where somebody watches, and lines for a log where nobody does."""

import re

import pytest
from checkout import ROOT
from terminal import shown_by

from lm_jax import progress
from lm_jax.progress import Progress

COUNT = """
import time
from lm_jax import progress
progress.DELAY = 0.0
for _ in progress.over(range(30), "counting", "things"):
    time.sleep(0.02)
"""


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_a_terminal_shows_a_bar_with_the_time_left():
    """On a pseudo-terminal the line is drawn again and again, and ends at 100%."""
    text = shown_by(COUNT)
    assert text.count("\r") > 3
    assert "counting: 100%" in text and "30/30" in text
    assert re.search(r"\d\d:\d\d<\d\d:\d\d", text), "elapsed < left"


def test_elsewhere_a_line_comes_every_ten_seconds(clock, capfd):
    """Nine seconds are silent; the time left is judged without the first unit."""
    with Progress("counting", 20, "things") as shown:
        clock[0] += 5.0
        shown.advance()  # compiles
        for _ in range(4):
            clock[0] += 1.0
            shown.advance()
        assert capfd.readouterr().err == ""
        clock[0] += 1.0
        shown.advance()
    assert capfd.readouterr().err == "counting: 6 of 20 things, 00:14 left\n"


def test_a_text_has_a_line_of_its_own(clock, capfd):
    with Progress("ar", None, "steps", done=7) as shown:
        shown.advance()
        shown.say("2.3 nats")
    assert capfd.readouterr().err == "ar: 8 steps: 2.3 nats\n"


def test_items_pass_unchanged(capfd):
    """With and without a length, and nothing is said of what is over at once."""
    assert list(progress.over(range(5), "counting", "things")) == list(range(5))
    assert list(progress.over(iter("abc"), "reading", "letters")) == list("abc")
    assert capfd.readouterr().err == ""


def test_only_progress_asks_about_the_terminal():
    """One file knows bars and terminals; all others tell it what they do."""
    sources = [*ROOT.glob("lm_jax/**/*.py"), *ROOT.glob("*_jax/*.py")]
    sources += ROOT.glob("experiments/**/*.py")
    asking = {
        path.relative_to(ROOT).as_posix()
        for path in sources
        if re.search(r"isatty|\btqdm\b", path.read_text())
    }
    assert asking == {"lm_jax/progress.py"}
