"""The built book in headless Chromium: offline, without errors, views that draw and play, usable by everybody."""
import base64
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from axe_core_python.selenium import Axe
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from browser import chromium, errors, inside, pixels, plays, requests, require, served

HTML = Path(__file__).parents[1] / "_build" / "html"
PAGES = sorted(str(path.relative_to(HTML)) for path in HTML.rglob("*.html") if "_static" not in path.parts)
CHAPTERS = [page for page in PAGES if page.startswith("chapters/")]
KNOWN = {  # rule: elements; violations in what Sphinx itself writes for a bibliography
    "aria-required-children": ".citation-list",
    "aria-roles": ".citation-list .citation",
}

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def driver():
    require(CHAPTERS, "no built book: make book")
    with chromium() as chrome:
        yield chrome


@pytest.fixture(scope="module")
def site():
    with served(HTML) as url:
        yield url


def opened(driver, url):
    """Load a page with all its views; returns its iframes."""
    requests(driver), errors(driver)  # forget the page before
    driver.get(url)
    WebDriverWait(driver, 30).until(lambda d: d.execute_script("return document.readyState") == "complete")
    return driver.find_elements(By.CSS_SELECTOR, "figure.structure-view iframe")


def test_the_book_is_there():
    require(CHAPTERS, "no built book: make book")
    assert (HTML / "index.html").exists()
    assert (HTML / "favicon.ico").exists()  # asked for where a page names no icon; index.html does not


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_page_is_offline_and_without_errors_and_its_views_draw(driver, site, page, scheme):
    base = site if scheme == "http" else HTML.as_uri()
    for frame in opened(driver, f"{base}/{page}"):
        assert frame.get_attribute("title")
        with inside(driver, frame):
            picture = pixels(driver.find_element(By.ID, "view"))
            assert np.mean(np.any(picture < 240, axis=2)) > 0.02, "the view is blank"
            if any(button.is_displayed() for button in driver.find_elements(By.ID, "play")):
                assert plays(driver)
    assert [url for url in requests(driver) if not url.startswith(base + "/")] == []
    assert errors(driver) == []


@pytest.mark.parametrize("page", CHAPTERS)
def test_formulas_and_figures(driver, site, page):
    opened(driver, f"{site}/{page}")
    formulas = driver.find_elements(By.CSS_SELECTOR, "span.math, div.math")
    WebDriverWait(driver, 20).until(
        lambda d: len(d.find_elements(By.CSS_SELECTOR, "mjx-container")) >= len(formulas), "formulas are not typeset")
    for image in driver.find_elements(By.CSS_SELECTOR, ".bd-article img"):
        alt = image.get_attribute("alt")
        assert alt, f"{image.get_attribute('src')} has no alt text"
        assert not alt.endswith((".png", ".svg")), f"alt text {alt} is a file name"
        assert driver.execute_script("return arguments[0].naturalWidth", image) > 0


@pytest.mark.parametrize("page", CHAPTERS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility(driver, site, page, theme):
    frames = opened(driver, f"{site}/{page}")
    still = "const s = document.createElement('style'); s.textContent = '* {transition: none !important}';"
    driver.execute_script(still + "document.head.append(s)")  # colours are judged as they end, not on their way
    driver.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    found = violations(driver, {"exclude": [["iframe"]]})
    for frame in frames if theme == "light" else []:  # views look alike in both
        with inside(driver, frame):
            found += violations(driver)
    assert found == []


def violations(driver, context=None):
    driver.execute_script(Axe().axe_script)
    run = "const done = arguments[2]; axe.run(arguments[0] || document, arguments[1]).then(done)"
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "iframes": False}
    report = driver.execute_async_script(run, context, options)
    found = [(rule["id"], node["target"][0]) for rule in report["violations"] for node in rule["nodes"]]
    matches = "return document.querySelector(arguments[0]).matches(arguments[1])"
    return [(rule, element) for rule, element in found
            if not (rule in KNOWN and driver.execute_script(matches, element, KNOWN[rule]))]


def test_pages_fit_a_phone(driver, site):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True})
    try:
        for page in CHAPTERS:
            opened(driver, f"{site}/{page}")
            width = driver.execute_script("return document.documentElement.scrollWidth")
            assert width <= 390, f"{page} is {width} pixels wide"
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_keyboard_reaches_views_and_turns_pages(driver, site):
    opened(driver, f"{site}/{CHAPTERS[0]}")
    links = driver.find_elements(By.CSS_SELECTOR, "a.right-next")
    if not links:
        pytest.skip("the book has one page")
    target, reached = links[0].get_attribute("href"), []
    for _ in range(200):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        reached.append(driver.switch_to.active_element)
        if reached[-1] == links[0]:
            break
    kinds = {element.tag_name for element in reached}
    assert {"a", "button"} <= kinds
    assert "iframe" in kinds or not driver.find_elements(By.TAG_NAME, "iframe")
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    WebDriverWait(driver, 10).until(lambda d: d.current_url.split("#")[0] == target)


def test_search_finds_what_is_there_and_nothing_else(driver, site):
    results = "return [...document.querySelectorAll('#search-results li a')].map(a => a.href)"
    opened(driver, f"{site}/search.html?q=Madelung")
    WebDriverWait(driver, 20).until(
        lambda d: any("01-electrostatic-baseline" in url for url in d.execute_script(results)))
    opened(driver, f"{site}/search.html?q=Brontosaurus")
    WebDriverWait(driver, 20).until(lambda d: "did not match any" in d.find_element(By.ID, "search-results").text)
    assert driver.execute_script(results) == []


def test_the_button_for_the_theme_goes_round(driver, site):
    opened(driver, f"{site}/{CHAPTERS[0]}")
    look = "return [document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor]"
    (button, *_) = [b for b in driver.find_elements(By.CSS_SELECTOR, "button.theme-switch-button") if b.is_displayed()]
    seen = []
    for _ in range(3):  # light, dark, as the system has it
        button.click()
        seen.append(tuple(driver.execute_script(look)))
    assert {theme for theme, _ in seen} == {"light", "dark"}
    assert len({colour for _, colour in seen}) == 2


def test_citations_tell_what_they_cite():
    require(CHAPTERS, "no built book: make book")
    found = [(page, tag) for page in CHAPTERS for span in re.findall(
        r'<span class="bibtex-citation".*?</span>', (HTML / page).read_text(encoding="utf-8"), re.DOTALL)
        for tag in re.findall(r"<a [^>]*>", span)]
    assert len(found) >= 10
    assert [entry for entry in found if not re.search(r'title="[^"]{20,}, (18|19|20)\d\d[^"]*"', entry[1])] == []


def test_every_chapter_can_be_opened_in_binder():
    """Of the address that `_config.yml` gives the repository, notebooks are where the button looks for them."""
    require(CHAPTERS, "no built book: make book")
    root = HTML.parents[1]
    address = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    start = address.replace("https://github.com/", "https://mybinder.org/v2/gh/") + "/main?urlpath=lab/tree/"
    for notebook in sorted((root / "chapters").glob("*.ipynb")):
        page = (HTML / "chapters" / f"{notebook.stem}.html").read_text(encoding="utf-8")
        (target,) = set(re.findall(rf'href="{re.escape(start)}([^"]+)"', page))
        assert (root / target).resolve() == notebook.resolve()


def test_the_book_holds_a_trajectory():
    require(CHAPTERS, "no built book: make book")
    pages = [html.unescape((HTML / page).read_text(encoding="utf-8")) for page in CHAPTERS]
    views = [json.loads(data) for page in pages for data in re.findall(r"const data = (\{.*\});\n", page)]
    n_frames = [len(base64.b64decode(view["positions"])) // (12 * len(view["symbols"])) for view in views]
    assert max(n_frames, default=0) > 1
