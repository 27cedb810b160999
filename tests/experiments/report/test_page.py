"""The page in a browser: it plays, filters, fits, and asks nobody for anything."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_results import HOSTILE, drop_metrics, make_results

from experiments.report.html import to_html
from experiments.report.overlay import overlay_html
from experiments.report.player import player_page

# Elements that stick out of the window, or whose text is cut off. What may be wider
# than the window scrolls by itself, as wide tables do.
OUTSIDE = """
const scrolls = (e) => e.closest(".scroll, svg, .unseen, .skip");
return [...document.querySelectorAll("body *")].filter((e) => {
  if (scrolls(e) && !e.matches(".scroll, svg")) return false;
  const box = e.getBoundingClientRect();
  const style = getComputedStyle(e);
  const cut = style.overflowX === "hidden" && e.scrollWidth > e.clientWidth + 1;
  return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1 || cut)
    && !e.matches(".unseen, .skip");
}).map((e) => e.tagName + "#" + e.id + "." + e.className);
"""
# Labels of a figure that stick out of it, or lie on each other.
BAD_LABELS = """
const found = [];
for (const svg of document.querySelectorAll("figure svg")) {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")]
    .map((e) => [e, e.getBoundingClientRect()]);
  texts.forEach(([e, a], i) => {
    if (a.left < frame.left - 1 || a.right > frame.right + 1
        || a.top < frame.top - 1 || a.bottom > frame.bottom + 1)
      found.push("outside: " + e.textContent);
    for (const [other, b] of texts.slice(i + 1)) {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 0.35 * Math.min(a.height, b.height))
        found.push("overlap: " + e.textContent + " / " + other.textContent);
    }
  });
}
return found;
"""


@pytest.fixture(scope="session")
def browser() -> Iterator:
    chromium, chromedriver = map(shutil.which, ("chromium", "chromedriver"))
    if chromium is None or chromedriver is None:
        pytest.skip("needs chromium and chromedriver (apt-get install chromium-driver)")
    if importlib.util.find_spec("selenium") is None:
        pytest.skip("needs selenium (pip install -e '.[test]')")
    from browser import Browser

    found = Browser(chromium, chromedriver)
    yield found
    found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A full report, one of a run of which little is known, an overlay and a player."""
    directory = tmp_path_factory.mktemp("pages")
    results = make_results()
    other = json.loads(json.dumps(results).replace('"seed": 0', '"seed": 1'))
    texts = {
        "full": to_html(results),
        "empty": to_html(drop_metrics(make_results())),
        "overlay": overlay_html({"runs/long name of a run": results, "b": other}),
        "player": player_page(results),
    }
    for name, text in texts.items():
        (directory / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: directory / f"{name}.html" for name in texts}


def panels(browser) -> list[str]:
    """What stands in the player, panel by panel."""
    script = "return [...document.querySelectorAll('.panel p')].map(p => p.textContent)"
    return browser.run(script)


def story(text: str) -> str:
    """The text up to the mark of its end."""
    return text.partition(" ■")[0]


def set_scrub(browser, calls: int) -> None:
    browser.run(
        "scrub.value = arguments[0]; scrub.dispatchEvent(new Event('input'))", calls
    )


def choose_scene(browser, name: str) -> None:
    browser.run(
        "scene.value = arguments[0]; scene.dispatchEvent(new Event('input'))", name
    )


# Tables that are wider than their box.
SCROLLED = """
return [...document.querySelectorAll(".scroll")]
  .filter((e) => e.scrollWidth > e.clientWidth + 1)
  .map((e) => [e.querySelector("table").id, getComputedStyle(e).backgroundImage]);
"""


@pytest.mark.parametrize("width", [360, 768, 1024, 1440])
@pytest.mark.parametrize("name", ["full", "empty"])
def test_no_table_is_cut(browser, pages, name, width):
    """On a phone the two widest tables scroll, and a shadow says so."""
    browser.open(pages[name], width=width)
    browser.run("document.querySelectorAll('details').forEach((e) => e.open = true)")
    scrolled = dict(browser.run(SCROLLED))
    on_a_phone = {"table-frontier", "table-verdicts"} if width == 360 else set()
    assert scrolled.keys() <= on_a_phone
    assert all("linear-gradient" in image for image in scrolled.values())


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("name", ["full", "empty", "overlay", "player"])
def test_pages_load_fit_and_ask_for_nothing(browser, pages, name, width):
    """No complaint, no request but the file's own, nothing outside the window."""
    browser.open(pages[name], width=width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run(OUTSIDE) == []
    assert browser.run(BAD_LABELS) == []
    assert browser.complaints() == []
    asked = browser.requests()
    assert [url for url in asked if not url.startswith("data:")] == [
        pages[name].as_uri()
    ]


def test_figures_follow_the_colours_of_the_reader(browser, pages):
    """Dark where the reader's system is dark: the paper, the text and every curve."""
    seen = []
    for dark in (False, True):
        browser.open(pages["full"], dark=dark)
        seen.append(
            browser.run("""
            const color = (e, name) => getComputedStyle(e)[name];
            const svg = document.querySelector("#figure-learning_curves_step svg");
            const lines = [...svg.querySelectorAll("[id*=line2d] path")]
              .map((e) => color(e, "stroke")).filter((stroke) => stroke !== "none");
            return [color(document.body, "backgroundColor"),
              color(svg.querySelector("text"), "fill"), ...new Set(lines)];
        """)
        )
    light, night = seen
    assert len(light) == len(night) > 4
    assert "rgb(0, 114, 178)" in light and "rgb(86, 168, 224)" in night
    assert len(set(light) & set(night)) <= 1  # the grid, which both can see


def test_no_section_of_a_page_is_empty(browser, pages):
    """Where nothing was measured: no heading, no link, no panel, no bare table."""
    empty = """
    return [...document.querySelectorAll("section, .grid, .grid > div, #panels, tbody")]
      .filter((e) => e.textContent.trim().length < 8).map((e) => e.outerHTML)
    """
    lost = """
    return [...document.querySelectorAll("nav a")].map((e) => e.getAttribute("href"))
      .filter((href) => !document.querySelector(href))
    """
    for name in ("full", "empty", "overlay"):
        browser.open(pages[name])
        assert browser.run(empty) == []
        assert browser.run(lost) == []
    browser.open(pages["empty"])
    for name in ("player", "curves", "openings", "fluency", "order", "samples"):
        assert not browser.run("return document.getElementById(arguments[0])", name)


def test_player_plays_to_the_end_and_ends_with_the_story(browser, pages):
    """From the first call to the last; then every panel holds its sample."""
    browser.open(pages["full"])
    set_scrub(browser, 0)
    assert not any(text.strip() for text in panels(browser))
    browser.run("pace.value = '40'; play.click()")
    browser.driver.set_script_timeout(20)
    browser.driver.execute_async_script("""
        const done = arguments[arguments.length - 1];
        const wait = () => play.textContent === "Play" ? done() : setTimeout(wait, 20);
        wait();
    """)
    assert browser.run("return scrub.value === scrub.max")
    assert [story(text) for text in panels(browser)] == [HOSTILE, HOSTILE]
    assert browser.run("return document.getElementById('status').textContent")
    assert (
        browser.run(
            "return document.querySelectorAll('.panel .mask, .panel .blank').length"
        )
        == 0
    )


def test_player_shows_masks_new_tokens_and_calls(browser, pages):
    """MDLM's last word is sampled, masked again and resampled; AR's follows later."""
    browser.open(pages["full"])
    calls = make_results()["families"]["mdlm"]["traces"][0]["nfe"]
    expected = {
        2: ("foes", "new"),
        calls - 1: ("", "mask again"),
        calls: ("friends", "new"),
    }
    for number, cell in expected.items():
        set_scrub(browser, number)
        found = browser.run("""
            const [, mdlm] = document.querySelectorAll(".panel");
            const spans = mdlm.querySelectorAll("p span");
            const span = spans[spans.length - 2];
            return [span.textContent, span.className];
        """)
        assert tuple(found) == cell
        counts = browser.run(
            "return document.querySelectorAll('.panel header span')[1].textContent"
        )
        assert counts.startswith(f"{number} of {calls} network calls")
    set_scrub(browser, 2)
    kinds = "return [...new Set([...panels.children].map((e) => e.querySelector"
    assert browser.run(f"{kinds}('.blank') !== null))]") == [True, False]
    assert browser.run(f"{kinds}('.mask') !== null))]") == [False, True]


def test_given_words_stand_still_while_the_gap_fills(browser, pages):
    """Not one pixel: a mask is as wide as what will stand there."""
    browser.open(pages["full"])
    choose_scene(browser, "Infilling by MDLM")
    places, texts = [], []
    for calls in range(5):
        set_scrub(browser, calls)
        places.append(
            browser.run("""
            return [...document.querySelectorAll(".panel p span")].map((e) => {
              const box = e.getBoundingClientRect();
              return [box.left, box.top, box.width];
            });
        """)
        )
        texts.append(panels(browser)[0])
    assert texts[0].split() == ["Tom", "a", ".", "■"]
    assert story(texts[-1]) == "Tom saw a dog."
    assert all(place == places[0] for place in places)
    assert (
        browser.run("return document.querySelectorAll('.panel .given').length") == 2 * 4
    )
    assert browser.run(
        "return [...document.querySelectorAll('.panel .rest')].map(e => e.textContent)"
    )[:2] == ["One", "day"]


def test_player_is_played_by_keyboard(browser, pages):
    """Tab reaches the controls in order; space plays and pauses; arrows scrub."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["player"])
    reached = []
    for _ in range(6):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.run("return document.activeElement.id"))
    assert reached == ["play", "back", "forward", "scrub", "pace", "scene"]
    before = int(browser.run("return scrub.value"))
    browser.driver.find_element(By.ID, "scrub").send_keys(Keys.RIGHT)
    assert browser.run("return scrub.getAttribute('aria-valuetext')").startswith(
        f"{before + 1} of"
    )
    browser.driver.find_element(By.ID, "play").send_keys(Keys.SPACE)
    assert browser.run("return play.textContent") == "Pause"
    browser.driver.find_element(By.ID, "play").send_keys(Keys.SPACE)
    assert browser.run("return play.textContent") == "Play"


def test_stories_are_found_by_source_sampler_and_words(browser, pages):
    """Each filter alone and together; text of the corpus has no sampler."""
    browser.open(pages["full"])
    total = browser.run("return stories.children.length")
    assert total == 3 * 20 + 3 + 5  # samples, and the settings of both families

    def shown(script: str) -> list[tuple[str, str]]:
        browser.run(f"{script}; controls.dispatchEvent(new Event('input'))")
        first = browser.run(
            "return stories.querySelectorAll(':scope > :not([hidden])').length"
        )
        browser.run("more.click()")
        found = browser.run("""
            return [...stories.children].filter((e) => !e.hidden)
              .map((e) => [e.dataset.source, e.dataset.sampler]);
        """)
        num_sources = browser.run("return controls.querySelectorAll(':checked').length")
        assert first == min(3 * (num_sources - 1), len(found))  # one is the sampler's
        words = browser.run("return count.textContent")
        assert words == f"{len(found)} of {total} texts, {len(found)} shown"
        return [tuple(row) for row in found]

    assert len(shown("")) == total
    toggle = "document.querySelector('input[value=ar]').click()"
    assert {source for source, _ in shown(toggle)} == {"mdlm", "human"}
    own, colder = "the run's own", "temperature=0.7"
    assert set(shown(f"sampler.value = '{colder}'")) == {
        ("mdlm", colder),
        ("human", ""),
    }
    shown(toggle)
    assert sorted(shown("query.value = ' a COLDER story '")) == (
        [("ar", colder)] * 3 + [("mdlm", colder)] * 5
    )
    assert shown(f'sampler.value = "{own}"') == []
    assert shown("query.value = '<script>alert(1)</script> & friends'") == [("ar", own)]


def test_a_story_that_is_a_script_is_shown_as_text(browser, pages):
    """In the list and in the player: nothing runs, and every character can be read."""
    browser.open(pages["full"])
    set_scrub(browser, 99)
    shown = browser.run("""
        const card = stories.querySelector("article p");
        const panel = document.querySelector(".panel p");
        return [card.textContent, panel.textContent, document.scripts.length];
    """)
    assert shown[0] == HOSTILE and story(shown[1]) == HOSTILE
    assert shown[2] == 2  # the data and the one script
    assert not browser.run("return stories.querySelector('script')")


def test_page_is_read_without_its_script(browser, pages, tmp_path):
    """The policy admits one script: changed by a byte, it is refused."""
    broken = tmp_path / "page.html"
    text = pages["full"].read_text(encoding="utf-8")
    broken.write_text(text.replace('"use strict";', '"use strict" ;'), encoding="utf-8")
    browser.open(broken)
    (complaint,) = browser.complaints()
    assert "Content Security Policy" in complaint
    assert browser.run("return document.getElementById('player').offsetHeight") == 0
    visible = "return [...stories.children].filter((e) => e.offsetHeight > 0).length"
    assert browser.run(visible) == 68


@pytest.mark.parametrize("name", ["full", "overlay"])
def test_page_prints(browser, pages, name):
    """On white, without what only a screen can do."""
    browser.open(pages[name], width=760, dark=True, print_=True)
    script = "return getComputedStyle(document.body).backgroundColor"
    assert browser.run(script) == "rgb(255, 255, 255)"
    hidden = "nav, .controls, #player"
    script = (
        f"return [...document.querySelectorAll('{hidden}')].map(e => e.offsetHeight)"
    )
    assert not any(browser.run(script))
