"""The slider shows one figure at a time, by mouse or keyboard, from a file."""
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import chromium, errors, requests
from esgap.slider import figure_slider


def coloured(colours):
    figures = []
    for colour in colours:
        figures.append(plt.figure(figsize=(1, 1), facecolor=colour))
    return figures


def test_pictures_are_the_figures_and_are_closed():
    slider = figure_slider(coloured(["red", "blue"]), ["5 Å", "6 Å"], "Cutoff", "Map at {label}", start=1)
    red, blue = (np.asarray(Image.open(io.BytesIO(p)).convert("RGB")) for p in slider.pictures)
    assert (red == [255, 0, 0]).all()
    assert (blue == [0, 0, 255]).all()
    assert slider.alts == ("Map at 5 Å", "Map at 6 Å")
    assert plt.get_fignums() == []
    text = slider._repr_html_()
    assert text.count(" hidden>") == 1
    assert "://" not in text


def test_the_data_of_all_figures_go_along():
    figures = [plt.figure() for _ in range(2)]
    for k, figure in enumerate(figures):
        figure.add_subplot(title=f"map {k}").plot([1], [k], label="a")
    slider = figure_slider(figures, ["0", "1"], "Which", "Figure {label}")
    data, metadata = DisplayFormatter().format(slider)
    assert data["text/html"] == slider._repr_html_()
    assert metadata["text/html"]["csv"].splitlines()[1:] == ["1 map 0,,,a,1,0,,", "1 map 1,,,a,1,1,,"]


@pytest.mark.browser
def test_moves_in_the_browser(tmp_path):
    slider = figure_slider(coloured(["red", "lime", "blue"]), ["a", "b & <c>", "d"], "Which", "Figure {label}")
    page = tmp_path / "page.html"
    page.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title>{slider._repr_html_()}')
    with chromium() as driver:
        driver.get(page.as_uri())
        images, control = driver.find_elements(By.TAG_NAME, "img"), driver.find_element(By.TAG_NAME, "input")
        assert [i.is_displayed() for i in images] == [True, False, False]
        control.send_keys(Keys.ARROW_RIGHT)
        assert [i.is_displayed() for i in images] == [False, True, False]
        assert driver.find_element(By.TAG_NAME, "output").text == "b & <c>"
        assert control.get_attribute("aria-valuetext") == "b & <c>"
        control.send_keys(Keys.END)
        assert [i.is_displayed() for i in images] == [False, False, True]
        assert errors(driver) == []
        assert [url for url in requests(driver) if url != page.as_uri()] == []


def test_refusals():
    with pytest.raises(ValueError, match="0 figures and 1 labels"):
        figure_slider([], ["a"], "t", "x")
    with pytest.raises(ValueError, match=r"contain '\|'"):
        figure_slider(coloured(["red"]), ["a|b"], "t", "x")
    with pytest.raises(ValueError, match="start is 1; there are figures 0 to 0"):
        figure_slider(coloured(["red"]), ["a"], "t", "x", start=1)
    plt.close("all")
