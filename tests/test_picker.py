"""The picker: its data are the errors, its page is small and offline, a choice changes text and structure."""
import base64
import json
import re
import shutil
from dataclasses import FrozenInstanceError
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from axe_core_python.selenium import Axe
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from browser import chromium, errors, inside, pixels, requests
from esgap import figures, picker, views
from esgap.validation import Errors

CELL = [[7.0, 0, 0], [1.5, 6.5, 0], [-1.0, 0.7, 8.0]]
TETRAHEDRON = 2.05 / np.sqrt(3) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
NGL = Path(__file__).parents[1] / "_vendor" / "ngl"


def labelled(centre, rng, name=None, copies=1):
    """PS4 and Li with random DFT forces."""
    atoms = Atoms("PS4Li", [centre, *(np.asarray(centre) + TETRAHEDRON), (-1.0, 3.0, 4.0)], cell=CELL, pbc=True)
    atoms = atoms.repeat((copies, 1, 1))
    atoms.wrap()
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=rng.normal(size=(len(atoms), 3)))
    if name:
        atoms.info["name"] = name
    return atoms


def errors_of(frames, model):
    """What `held_out_errors` returns, as far as forces of all atoms go."""
    return Errors({}, {}, len(frames), {}, np.zeros((1, 1), int),
                  {"all": np.concatenate([a.get_forces() for a in frames])}, {"all": np.asarray(model)})


@pytest.fixture
def example():
    """Three frames, one twice as large and one without a name; errors with a clear outlier, S 2 of the last frame."""
    rng = np.random.default_rng(1)
    frames = [labelled((0.2, 0.1, 7.9), rng, "first"), labelled((3, 3, 4), rng, "large", copies=2),
              labelled((2, 3, 4), rng)]
    model = np.concatenate([a.get_forces() for a in frames]) + rng.normal(scale=0.1, size=(24, 3))
    model[18 + 2] += (0, 3, 0)
    return errors_of(frames, model), frames


def data_of(view):
    return json.loads(re.search(r"const parity = (.*);\n", view.page).group(1))


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_points_are_the_errors_of_all_atoms_largest_first(example):
    errors, frames = example
    data = data_of(picker.parity(errors, frames, "Errors"))
    points = floats(data["points"]).reshape(24, 9)
    sizes = np.linalg.norm(points[:, 6:] - points[:, 3:6], axis=1)
    assert np.all(np.diff(sizes) <= 0)
    np.testing.assert_array_equal(points[:, 2], np.arange(24))
    start = np.cumsum([0, 6, 12])
    rows = start[points[:, 0].astype(int)] + points[:, 1].astype(int)
    assert sorted(rows) == list(range(24))
    np.testing.assert_allclose(points[:, 3:6], errors.reference["all"][rows], atol=1e-6)
    np.testing.assert_allclose(points[:, 6:], errors.model["all"][rows], atol=1e-6)
    assert points[0, :2].tolist() == [2, 2]


def test_structures_are_whole_units_with_their_bonds(example):
    errors, frames = example
    data = data_of(picker.parity(errors, frames, "Errors"))
    whole = [views.whole_units(a) for a in frames]
    positions = np.concatenate([x for x, _ in whole])
    np.testing.assert_allclose(floats(data["positions"]).reshape(-1, 3), positions, atol=1e-5)
    assert [f["bonds"] for f in data["frames"]] == [bonds.tolist() for _, bonds in whole]
    assert [data["kinds"][f["kind"]] for f in data["frames"]] == [list(a.symbols) for a in frames]
    assert [f["name"] for f in data["frames"]] == ["first", "large", "frame 2"]
    assert data["colours"] == {s: figures.COLOURS[s] for s in ("Li", "P", "S")}
    assert data["markers"] == {s: figures.MARKERS[s] for s in ("Li", "P", "S")}


def test_large_sets_make_small_pages_that_hold_the_largest_errors():
    rng = np.random.default_rng(2)
    frames = [labelled((3, 3, 4), rng, f"frame-{k}", copies=10) for k in range(1500)]
    model = errors_of(frames, np.zeros((90_000, 3)))
    view = picker.parity(model, frames, "Many")
    assert len(view.html) < 1.5e6
    order = np.argsort(-np.linalg.norm(model.reference["all"], axis=1))[:picker.N_WORST]
    np.testing.assert_array_equal(view.points[:picker.N_WORST], np.column_stack([order // 60, order % 60]))
    assert len(view.points) == 3000
    assert len(np.unique(view.points, axis=0)) == 3000
    data = data_of(view)
    points = floats(data["points"]).reshape(3000, 9)
    assert len(data["frames"]) == points[:, 0].max() + 1 < 1500  # those with a point, no others
    ranks = points[:, 2].astype(int)
    sizes = np.sort(np.linalg.norm(model.reference["all"], axis=1))[::-1]
    np.testing.assert_allclose(np.linalg.norm(points[:, 3:6], axis=1), sizes[ranks], atol=1e-5)


def test_shows_itself_offline_and_frozen(example):
    title = '</script><b>"x" & y'
    view = picker.parity(*example, title, caption="Click", model="GAP")
    assert 'title="&lt;/script&gt;&lt;b&gt;&quot;x&quot; &amp; y"' in view._repr_html_()
    assert "<figcaption>Click</figcaption>" in view._repr_html_()
    assert view.page.count("</script>") == 1
    assert "://" not in view.page
    assert "largest error 3." in view.alt
    assert "of atom 2 (S) of frame 2" in repr(view)
    assert data_of(view)["arrowColours"]["model"] == figures.MODEL_COLOURS["GAP"]
    with pytest.raises(FrozenInstanceError):
        view.title = "other"


def without_label(frames):
    bare = frames[1].copy()
    return [frames[0], bare, frames[2]]


@pytest.mark.parametrize(("change", "arguments", "message"), [
    (lambda f: [], {}, "`frames` is empty; give the labelled frames"),
    (lambda f: f, {"title": " "}, "`title` is ' '; the figure needs one"),
    (lambda f: f, {"title": None}, "`title` is None; the figure needs one"),
    (lambda f: f, {"n_points": 14}, "n_points is 14; the 15 largest errors are always drawn"),
    (lambda f: f[:2], {}, "`errors` is of 3 frames with 24 atoms, `frames` are 2 with 18"),
    (lambda f: [f[0], f[0], f[2]], {}, "3 frames with 24 atoms, `frames` are 3 with 18"),
    (lambda f: [f[2], f[1], f[0]], {}, "the DFT forces of frame 0 are not those in `errors`; give the frames in the"),
    (without_label, {}, "large carries no DFT forces; give labelled frames"),
])
def test_refusals(example, change, arguments, message):
    errors, frames = example
    with pytest.raises(ValueError, match=re.escape(message)):
        picker.parity(errors, change(frames), **{"title": "Title", **arguments})


def test_refuses_forces_that_are_not_finite(example):
    errors, frames = example
    errors.model["all"][3, 1] = np.nan
    with pytest.raises(ValueError, match="model forces that are not finite; look for the frame"):
        picker.parity(errors, frames, "Title")


def place_of(driver, k):
    """Offset of point k from the middle of the plot, pixels."""
    script = "const s = scales(), p = points[arguments[0]]; return [s.x(p.x) - s.w / 2, s.y(p.y) - s.h / 2]"
    return driver.execute_script(script, k)


def nearest_neighbours(atoms, i):
    distances = sorted((d, s) for d, s, j in zip(atoms.get_distances(i, range(len(atoms)), mic=True), atoms.symbols,
                                                 range(len(atoms)), strict=True) if j != i)
    return "nearest: " + ", ".join(f"{s} {d:.2f} Å" for d, s in distances if d < 3.5)


@pytest.mark.browser
def test_choice_changes_text_and_structure(example, tmp_path):
    errors_, frames = example
    view = picker.parity(errors_, frames, "Errors", model="GAP")
    shutil.copytree(NGL, tmp_path / "_static" / "ngl")
    (tmp_path / "chapters").mkdir()
    page = tmp_path / "chapters" / "page.html"
    page.write_text(f'<!doctype html><html lang="en" data-content_root="../"><meta name="viewport" '
                    f'content="width=device-width"><title>t</title>{view.html}')
    with chromium() as driver:
        driver.get(page.as_uri())
        with inside(driver, driver.find_element(By.TAG_NAME, "iframe")):
            canvas, worst, said, drawn = (driver.find_element(By.ID, name)
                                          for name in ("points", "worst", "said", "view"))
            assert said.text.startswith("S, atom 2 of frame 2: error 3.")
            assert "rank 1 of 24" in said.text
            pictures = [pixels(drawn)]
            assert np.mean(np.any(pictures[0] < 240, axis=2)) > 0.02

            k = next(k for k, (number, _) in enumerate(view.points) if k > 14 and number == 0)  # by mouse
            ActionChains(driver).move_to_element_with_offset(canvas, *map(round, place_of(driver, k))).click().perform()
            i = view.points[k, 1]
            dft, ours = errors_.reference["all"][i], errors_.model["all"][i]
            assert said.text.replace("\u2212", "-").split("\n")[:3] == [
                f"{frames[0].symbols[i]}, atom {i} of first: error {np.linalg.norm(ours - dft):.2f} eV/Å, "
                f"rank {k + 1} of 24",
                f"DFT: {np.linalg.norm(dft):.2f} eV/Å, components {', '.join(f'{c:.2f}' for c in dft)}",
                f"GAP: {np.linalg.norm(ours):.2f} eV/Å, components {', '.join(f'{c:.2f}' for c in ours)}"]
            assert Select(worst).first_selected_option.text == "chosen in the plot"
            pictures.append(pixels(drawn))

            assert len(Select(worst).options) == 1 + picker.N_WORST  # by keyboard
            worst.send_keys(Keys.HOME)
            assert "rank 1 of 24" in said.text
            worst.send_keys(Keys.ARROW_DOWN)
            assert "rank 2 of 24" in said.text
            pictures.append(pixels(drawn))
            driver.find_element(By.ID, "smaller").send_keys(Keys.ENTER)
            assert "rank 3 of 24" in said.text
            driver.find_element(By.ID, "larger").send_keys(Keys.SPACE)
            assert "rank 2 of 24" in said.text
            assert all(np.abs(a - b).max() > 50 for a, b in pairwise(pictures))
            assert violations(driver) == []
        assert errors(driver) == []
        assert [url for url in requests(driver) if not url.startswith(tmp_path.as_uri())] == []


def violations(driver):
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
    return [rule["id"] for rule in Axe().run(driver, options=options)["violations"]]


@pytest.mark.browser
def test_neighbours_in_other_cells_and_a_phone(example, tmp_path):
    view = picker.parity(*example, "Errors")
    shutil.copytree(NGL, tmp_path / "_static" / "ngl")
    page = tmp_path / "page.html"
    page.write_text(f'<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">'
                    f"<title>t</title>{view.html}")
    with chromium() as driver:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                               {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True})
        driver.get(page.as_uri())
        frame = driver.find_element(By.TAG_NAME, "iframe")
        with inside(driver, frame):
            for k, (number, i) in enumerate(view.points[:6]):
                driver.execute_script("choose(arguments[0])", k)
                last = driver.find_element(By.ID, "said").text.split("\n")[-1]
                assert last == nearest_neighbours(example[1][number], int(i))[:len(last)]
            plot, structure = (driver.find_element(By.ID, name).rect for name in ("plot", "view"))
            assert structure["y"] >= plot["y"] + plot["height"]
            assert min(plot["height"], structure["height"]) > 200
            assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert frame.size["height"] > view.height
        assert errors(driver) == []
