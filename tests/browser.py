"""Headless Chromium and a local web server for the tests that look at pages."""
import io
import json
import os
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000",
         "--use-angle=swiftshader", "--enable-unsafe-swiftshader",  # WebGL without a graphics card
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


def require(found, reason):
    """Skip without `found`; fail instead where ESGAP_REQUIRE_BROWSER is set, as in continuous integration."""
    if not found:
        (pytest.fail if os.environ.get("ESGAP_REQUIRE_BROWSER") == "1" else pytest.skip)(reason)


@contextmanager
def chromium():
    """A selenium driver that logs every request and every message of the console."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    driver = shutil.which("chromedriver")
    require(browser and driver, "no Chromium with chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    chrome.set_script_timeout(180)  # s; axe reads every element of the appendix on the package, which is long
    try:
        yield chrome
    finally:
        chrome.quit()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def served(folder):
    """URL of `folder` on a free port of the loopback interface."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def requests(driver):
    """URLs asked for since the last call, pages inside pages included."""
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("data:", "blob:", "about:"))]


def errors(driver):
    """Errors in the console since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextmanager
def inside(driver, frame):
    """Work inside an iframe whose view has been drawn."""
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", frame)
    driver.switch_to.frame(frame)
    try:
        WebDriverWait(driver, 30).until(lambda d: d.execute_script("return document.body.dataset.drawn") == "true")
        yield
    finally:
        driver.switch_to.default_content()


def pixels(element):
    """Screenshot of an element as (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def plays(driver):
    """True if pressing Play in the current view moves the slider and changes the picture."""
    view, play, slider = (driver.find_element(By.ID, name) for name in ("view", "play", "slider"))
    before, start = pixels(view), slider.get_attribute("value")
    play.click()
    WebDriverWait(driver, 20).until(lambda d: slider.get_attribute("value") not in (start, None))
    play.click()
    return np.abs(pixels(view) - before).max() > 50
