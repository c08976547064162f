"""The live face of a view in JupyterLab: NGL draws it, another frame is another picture, and a density a surface; and
every chapter runs there from its first to its last cell, with its views drawn."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import nbformat
import numpy as np
import pytest
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from browser import chromium, pixels

CHAPTERS = sorted((Path(__file__).parents[1] / "chapters").glob("*.ipynb"))

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

CODE = """import numpy as np
from ase import Atoms
from esgap import views
P, S = np.array([6.0, 6.0, 6.0]), 1.2 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
frames = [Atoms("PS4Li", [P, *(P + S), (2.0 + 2.0 * k, 2, 2)], cell=3 * [12.0], pbc=True) for k in range(5)]
view = views.structure(frames, "Lithium on its way")
view"""
MOVE = "view.widget.children[0].frame = 4"
DENSITY = """from esgap.density import Density
x, y, z = np.meshgrid(*3 * [np.arange(24) / 2], indexing="ij")
peak = np.exp(-((x - 2) ** 2 + (y - 2) ** 2 + (z - 2) ** 2) / 4)
views.structure(frames[0][:5], "Lithium on its place", density=Density(peak, 12 * np.eye(3)))"""


@pytest.fixture
def notebook(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in (CODE, MOVE, DENSITY)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {
        "name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}), tmp_path / "view.ipynb")
    return tmp_path / "view.ipynb"


@contextmanager
def jupyterlab(folder):
    """URL of a JupyterLab that serves `folder` on a free port of the loopback interface."""
    home = folder / ".home"  # nobody's own settings, kernels or workspaces
    settings = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    # all cells are in the page, those out of sight, too
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}), encoding="utf-8")
    places = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    package = str(Path(__file__).parents[1] / "lib")
    environment = os.environ | places | {"HOME": str(home), "PYTHONPATH": package}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root",
               "--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}",
               "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
               "--LabApp.expose_app_in_browser=True"]
    with open(folder / "lab.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield _address(server, folder / "lab.log")
    finally:
        server.terminate()  # it stops its kernels first
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture
def lab(notebook):
    with jupyterlab(notebook.parent) as url:
        yield url


@pytest.fixture(scope="module")
def chapters_lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    for path in CHAPTERS:
        shutil.copy(path, folder)
    with jupyterlab(folder) as url:
        yield url


def _address(server, log, seconds=120):
    for _ in range(2 * seconds):
        found = re.search(r"(http://127\.0\.0\.1:[1-9]\d*)/lab", log.read_text(encoding="utf-8"))
        assert server.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        if found:
            with urlopen(found.group(1) + "/api") as answer:
                assert answer.status == 200
            return found.group(1)
        time.sleep(0.5)
    raise TimeoutError(f"JupyterLab did not start in {seconds} s:\n{log.read_text(encoding='utf-8')[-3000:]}")


def until(driver, condition, seconds=180):
    try:
        return WebDriverWait(driver, seconds).until(lambda d: condition())
    except TimeoutException:
        driver.save_screenshot(Path(tempfile.gettempdir()) / "live-widget-failed.png")
        raise


def drawn(picture):
    """Share of the pixels that differ from the corner, which is background."""
    return np.mean(np.abs(picture - picture[2, 2]).max(axis=2) > 40)


def lithium_at(picture):
    """Mean column of the blue pixels; only Li is blue."""
    red, green, blue = np.moveaxis(picture, 2, 0)
    return np.nonzero((blue > 150) & (green > 100) & (red < 120))[1].mean()


def blueish(picture):
    """Share of the pixels of a translucent blue surface; P, S and their bonds are not blue at all."""
    return np.mean(picture[..., 2] - picture[..., 0] > 25)


def kernel_is_ready(driver):
    """True once the notebook's kernel is idle; a question which kernel to take is answered with the one proposed."""
    for button in driver.find_elements(By.CSS_SELECTOR, ".jp-Dialog button.jp-mod-accept"):
        button.click()
        time.sleep(2)
    return driver.find_elements(By.CSS_SELECTOR, ".jp-Notebook-ExecutionIndicator[data-status='idle']")


def run_cell(driver, n):
    """Run cell n (from 1) with Shift+Enter, pressed again if a busy page has lost it; return when it has finished."""
    def prompt():
        script = "return [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent)"
        return driver.execute_script(script)[n - 1]

    def started():
        if prompt() == "[ ]:":
            driver.execute_script(f"document.querySelectorAll('.jp-CodeCell .cm-content')[{n - 1}].focus()")
            ActionChains(driver).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
            time.sleep(5)
        return prompt() != "[ ]:"

    until(driver, lambda: kernel_is_ready(driver))
    until(driver, started)
    until(driver, lambda: kernel_is_ready(driver) and re.fullmatch(r"\[\d+\]:", prompt()))


def run_all(driver, n_cells):
    """Run all cells, asked for again if a busy page has lost it; return when all have finished."""
    def finished():
        kernel_is_ready(driver)
        script = "return [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent)"
        prompts = driver.execute_script(script)
        if len(prompts) < n_cells:  # the page is still being made
            return False
        if all(p == "[ ]:" for p in prompts):
            driver.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
            time.sleep(5)
        return all(re.fullmatch(r"\[\d+\]:", p) for p in prompts)

    until(driver, finished, 400)


def test_view_in_jupyterlab(lab, tmp_path):
    with chromium() as driver:
        driver.get(f"{lab}/lab/tree/view.ipynb?reset")
        until(driver, lambda: driver.find_elements(By.CSS_SELECTOR, ".jp-CodeCell .cm-content"))
        run_cell(driver, 1)
        (canvas,) = until(driver, lambda: driver.find_elements(By.CSS_SELECTOR, ".jp-OutputArea canvas"))
        driver.save_screenshot(tmp_path / "drawn.png")
        until(driver, lambda: drawn(pixels(canvas)) > 0.01)
        assert "Lithium on its way" in driver.find_element(By.CSS_SELECTOR, ".jp-OutputArea").text
        assert driver.find_elements(By.CSS_SELECTOR, ".jp-OutputArea iframe") == []  # one face, not both
        time.sleep(1)
        before = pixels(canvas)
        assert np.abs(pixels(canvas) - before).max() < 40  # it stands still by itself
        run_cell(driver, 2)
        until(driver, lambda: abs(lithium_at(pixels(canvas)) - lithium_at(before)) > 50)  # the slider alone is not blue
        driver.save_screenshot(tmp_path / "moved.png")
        run_cell(driver, 3)
        canvas = until(driver, lambda: driver.find_elements(By.CSS_SELECTOR, ".jp-OutputArea canvas")[1:])[0]
        until(driver, lambda: blueish(pixels(canvas)) > 0.01)
        driver.save_screenshot(tmp_path / "density.png")


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_in_jupyterlab(chapters_lab, tmp_path, chapter):
    cells = [c for c in nbformat.read(chapter, 4).cells if c.cell_type == "code"]
    with chromium() as driver:
        driver.get(f"{chapters_lab}/lab/tree/{chapter.name}?reset")
        until(driver, lambda: driver.find_elements(By.CSS_SELECTOR, ".jp-CodeCell .cm-content"))
        until(driver, lambda: kernel_is_ready(driver))
        run_all(driver, len(cells))
        failed = driver.find_elements(By.CSS_SELECTOR, "[data-mime-type='application/vnd.jupyter.error'], "
                                                       "[data-mime-type='application/vnd.jupyter.stderr']")
        assert [e.text[-600:] for e in failed] == []
        views = sum(bool(re.search(r"views\.structure\(|frenkel_view\.played\(", c.source)) for c in cells)
        canvases = until(driver, lambda: len(found := driver.find_elements(By.CSS_SELECTOR, ".jp-OutputArea canvas"))
                         >= views and (found or [None]))
        for canvas in canvases[:views] if views else ():
            driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
            until(driver, lambda canvas=canvas: drawn(pixels(canvas)) > 0.01, 60)
        driver.save_screenshot(tmp_path / "chapter.png")
