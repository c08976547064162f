"""Views: whole units, continuous paths, both faces, and refusals that say what to do."""
import base64
import io
import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.geometry import find_mic
from ase.io.cube import read_cube
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from browser import chromium, errors, inside, pixels, plays, requests
from esgap import views
from esgap.density import Density

CELL = [[7.0, 0, 0], [1.5, 6.5, 0], [-1.0, 0.7, 8.0]]
TETRAHEDRON = 2.05 / np.sqrt(3) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
NGL = Path(__file__).parents[1] / "_vendor" / "ngl"


def ps4(centre=(0.2, 0.1, 7.9)):
    """One PS4 across the cell boundary, and a Li outside the cell; positions as an MD code may leave them."""
    atoms = Atoms("PS4Li", [centre, *(np.asarray(centre) + TETRAHEDRON), (-1.0, 3.0, 4.0)], cell=CELL, pbc=True)
    atoms.wrap()
    atoms.positions[5] -= atoms.cell[0]
    return atoms


def data_of(view):
    return json.loads(re.search(r"const data = (.*);\n", view.page).group(1))


def drawn(view):
    data = data_of(view)
    return np.frombuffer(base64.b64decode(data["positions"]), "<f4").reshape(len(view.frames), -1, 3)


def peak(fractions, shape=(24, 20, 28), width=0.6):
    """A density with one round peak, whose images count."""
    points = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1)
    offsets = find_mic(((points - fractions) @ np.array(CELL)).reshape(-1, 3), CELL)[0]
    return Density(np.exp(-0.5 * (offsets**2).sum(1) / width**2).reshape(shape), np.array(CELL))


def test_unit_across_the_boundary_is_drawn_whole():
    atoms = ps4()
    positions, bonds = views.whole_units(atoms)
    assert np.abs(atoms.positions[1:5] - atoms.positions[0]).max() > 4  # it was in pieces
    np.testing.assert_allclose(np.linalg.norm(positions[1:5] - positions[0], axis=1), 2.05, atol=1e-12)
    assert sorted(map(tuple, bonds)) == [(0, 1), (0, 2), (0, 3), (0, 4)]
    moves = (positions - atoms.positions) @ np.linalg.inv(CELL)
    np.testing.assert_allclose(moves, np.round(moves), atol=1e-12)
    inside_cell = np.array([positions[:5].mean(axis=0), positions[5]]) @ np.linalg.inv(CELL)
    assert inside_cell.min() > -1e-6
    assert inside_cell.max() < 1 + 1e-6


def test_whole_units_do_not_depend_on_wrapping():
    atoms, rng = ps4(), np.random.default_rng(1)
    shifted = atoms.copy()
    shifted.positions += rng.integers(-2, 3, (len(atoms), 3)) @ atoms.cell.array
    np.testing.assert_allclose(views.whole_units(shifted)[0], views.whole_units(atoms)[0], atol=1e-9)


def test_endless_chain_is_cut_once():
    chain = Atoms("PS", [[0, 0, 0], [2.0, 0, 0]], cell=[4.0, 10, 10], pbc=True)
    positions, bonds = views.whole_units(chain)
    assert len(bonds) == 1
    assert np.linalg.norm(positions[1] - positions[0]) == pytest.approx(2.0)


def test_positions_as_given_on_request():
    atoms = ps4()
    view = views.structure(atoms, "As given", whole=False)
    np.testing.assert_allclose(drawn(view)[0], atoms.positions, atol=1e-6)
    assert len(data_of(view)["bonds"]) < 4


def test_wrapped_and_continuous_trajectories_look_alike():
    start, velocity = ps4(), np.random.default_rng(2).uniform(-0.4, 0.4, (6, 3))
    frames = []
    for step in range(30):
        frames.append(start.copy())
        frames[-1].positions += step * velocity
    wrapped = [frame.copy() for frame in frames]
    for frame in wrapped:
        frame.wrap()
    view = views.structure(wrapped, "Moving")
    np.testing.assert_allclose(drawn(view), drawn(views.structure(frames, "Moving")), atol=1e-5)
    np.testing.assert_allclose(np.diff(drawn(view), axis=0), np.broadcast_to(velocity, (29, 6, 3)), atol=1e-5)
    np.testing.assert_allclose(view.frames[-1].positions, drawn(view)[-1], atol=1e-5)


def test_tetrahedra_hang_on_phosphorus_with_four_sulphurs():
    data = data_of(views.structure(ps4(), "PS4"))
    assert [sorted(corners) for corners in data["tetrahedra"]] == [[1, 2, 3, 4]]
    assert data_of(views.structure(ps4()[:4], "PS3"))["tetrahedra"] == []


def test_elements_differ_in_colour_and_size():
    data = data_of(views.structure(ps4(), "PS4"))
    assert len(set(data["colours"].values())) == len(set(data["radii"].values())) == 3


def test_molecule_without_cell():
    data = data_of(views.structure(Atoms("PS", [[0, 0, 0], [2, 0, 0]]), "Molecule"))
    assert data["cell"] is None
    assert data["bonds"] == [[0, 1]]


def test_two_faces_and_frozen():
    view = views.structure([ps4(), ps4()], "Two faces", caption="Both")
    bundle = view._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert 'loading="lazy"' in bundle["text/html"]
    assert "<figcaption>Both</figcaption>" in bundle["text/html"]
    assert repr(view) == "StructureView('Two faces': LiPS4, 2 frame(s))"
    with pytest.raises(FrozenInstanceError):
        view.title = "other"


def test_a_density_travels_in_a_byte_a_point():
    density = peak((0.3, 0.6, 0.45))
    view = views.structure(ps4(), "Peak", density=density, share=0.7)
    sent = data_of(view)["density"]
    roots = np.frombuffer(base64.b64decode(sent["roots"]), np.uint8).reshape(sent["shape"], order="F")
    np.testing.assert_allclose(sent["highest"] * (roots / 255) ** 2, density.values, atol=0.004 * sent["highest"])
    assert sent["levels"][sent["percent"] - 1] == view.level == density.level(0.7)
    assert data_of(views.structure(ps4(), "None"))["density"] is None


def test_the_live_face_gets_the_density_as_a_cube_file_with_a_margin():
    density = peak((0.3, 0.6, 0.45))
    view = views.structure(ps4(), "Peak", density=density, share=0.7)
    load, surface = view.widget.children[0]._ngl_msg_archive[-2:]
    cube = read_cube(io.StringIO(load["args"][0]["data"]))
    np.testing.assert_allclose(cube["data"][1:-2, 1:-2, 1:-2], 255 * np.sqrt(density.values / density.values.max()),
                               atol=0.5)
    np.testing.assert_array_equal(cube["data"][[0, -2, -1]], cube["data"][[24, 1, 2]])
    steps = np.array(CELL) / np.array(density.values.shape)[:, None]
    np.testing.assert_allclose(cube["spacing"], steps, atol=1e-6)
    np.testing.assert_allclose(cube["origin"], -steps.sum(0), atol=1e-6)
    assert surface["component_index"] == 1
    assert surface["kwargs"]["isolevel"] == pytest.approx(255 * np.sqrt(density.level(0.7) / density.values.max()))


def test_titles_are_escaped_and_nothing_is_fetched_from_elsewhere():
    view = views.structure(ps4(), '</script><b>"x" & y', labels=["</script>"])
    assert 'title="&lt;/script&gt;&lt;b&gt;&quot;x&quot; &amp; y"' in view.html
    assert view.page.count("</script>") == 1
    assert "://" not in view.page


@pytest.mark.parametrize(("frames", "arguments", "message"), [
    ([], {}, "`frames` is empty"),
    ([ps4(), ps4()[:5]], {}, "frame 1 has 5 atoms, frame 0 has 6"),
    ([ps4(), ps4()[[1, 0, 2, 3, 4, 5]]], {}, "frame 1 has its species in another order"),
    ([ps4(), Atoms("PS4Li", np.zeros((6, 3)), cell=[9, 9, 9], pbc=True)], {}, "frame 1 has another cell"),
    (Atoms("Li", [[np.nan, 0, 0]]), {}, "frame 0 has positions that are not finite"),
    (ps4(), {"title": " "}, "`title` is ' '"),
    (ps4(), {"title": None}, "`title` is None"),
    (ps4(), {"labels": ["a", "b"]}, "2 texts for 1 frames"),
    (ps4(), {"highlight": [6]}, "names atom 6; indices run from 0 to 5"),
    (ps4(), {"groups": {"mine": ("#0072b2", [7])}}, "names atom 7; indices run from 0 to 5"),
    (ps4(), {"arrows": np.zeros((2, 2, 3)), "arrow_colours": ["#0072b2"]}, "1 colours for 2 arrows; give each one"),
    (ps4(), {"density": Density(np.ones((2, 2, 2)), np.eye(3))}, "`density` has another cell"),
    (ps4(), {"density": peak((0, 0, 0)), "share": 0.999}, "`share` is 0.999"),
])
def test_refusals(frames, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        views.structure(frames, **{"title": "Title", **arguments})


@contextmanager
def opened(view, folder):
    """A driver inside the view on a page in `folder`; afterwards nothing was wrong, and nothing came from elsewhere."""
    shutil.copytree(NGL, folder / "_static" / "ngl")
    (folder / "chapters").mkdir()
    page = folder / "chapters" / "page.html"
    page.write_text(f'<!doctype html><html lang="en" data-content_root="../"><title>t</title>{view.html}')
    with chromium() as driver:
        driver.get(page.as_uri())
        with inside(driver, driver.find_element(By.TAG_NAME, "iframe")):
            yield driver
        assert errors(driver) == []
        assert [url for url in requests(driver) if not url.startswith(folder.as_uri())] == []


@pytest.mark.browser
def test_view_draws_and_plays_from_a_file(tmp_path):
    frames = [ps4((x, 3, 4)) for x in np.linspace(2, 5, 20)]
    view = views.structure(frames, "Moving unit", arrows=[[[0, 0, 0], [0, 0, 5]]], highlight=[5])
    with opened(view, tmp_path) as driver:
        picture = pixels(driver.find_element(By.ID, "view"))
        assert np.mean(np.any(picture < 240, axis=2)) > 0.02
        assert plays(driver)
        driver.find_element(By.ID, "names").click()
        assert driver.find_element(By.ID, "names").get_attribute("aria-pressed") == "true"
        assert [item.text for item in driver.find_elements(By.CSS_SELECTOR, "#legend li")] == [
            "Li (1)", "P (1)", "S (4)"]
        assert not driver.find_element(By.ID, "density").is_displayed()


def test_groups_and_arrows_have_their_colours():
    arrows = [[[0, 0, 0], [0, 0, 5]], [[0, 0, 0], [0, 5, 0]]]
    data = data_of(views.structure(ps4(), "Two", arrows=arrows, arrow_colours=["#0072b2", "#cc79a7"],
                                   groups={"moved": ("#0072b2", [5]), "also": ("#cc79a7", [1, 2])}))
    assert data["arrows"] == [[*arrows[0], "#0072b2"], [*arrows[1], "#cc79a7"]]
    assert data["tints"] == {"5": "#0072b2", "1": "#cc79a7", "2": "#cc79a7"}
    assert (data["counts"], data["groups"]) == ({"P": 1, "S": 2}, [["moved", "#0072b2", 1], ["also", "#cc79a7", 2]])
    assert data_of(views.structure(ps4(), "One", arrows=arrows))["arrows"] == arrows


@pytest.mark.browser
def test_a_group_is_drawn_and_named(tmp_path):
    apart = Atoms("Li2", [[2, 3, 4], [5, 3, 4]], cell=CELL, pbc=True)
    view = views.structure(apart, "Two", groups={"Li, green": ("#009e73", [0]), "Li, red": ("#d90000", [1])})
    with opened(view, tmp_path) as driver:
        picture = pixels(driver.find_element(By.ID, "view")).astype(int)
        assert [item.text for item in driver.find_elements(By.CSS_SELECTOR, "#legend li")] == [
            "Li, green (1)", "Li, red (1)"]
        for colour in (1, 0):
            others = picture[..., [k for k in range(3) if k != colour]].max(-1)
            assert np.mean(picture[..., colour] - others > 30) > 0.001


def blue(driver):
    """Share of the pixels that are blue; P and S are not."""
    picture = pixels(driver.find_element(By.ID, "view"))
    return np.mean(picture[..., 2] - picture[..., 0] > 25)


@pytest.mark.browser
def test_surface_of_a_density_can_be_hidden_and_moved(tmp_path):
    view = views.structure(ps4((3, 3, 4))[:5], "Density", density=peak((0.3, 0.6, 0.45)), polyhedra=False, share=0.5)
    with opened(view, tmp_path) as driver:
        button, slider, text = (driver.find_element(By.ID, name) for name in ("density", "level", "inside"))
        wait = WebDriverWait(driver, 20)
        wait.until(lambda d: blue(d) > 0.003)
        half = blue(driver)
        assert text.text.startswith("holds 50 %, ")
        slider.send_keys(Keys.END)
        wait.until(lambda d: blue(d) > 2 * half)
        assert text.text.startswith("holds 99 %, ")
        assert text.text == slider.get_attribute("aria-valuetext")
        assert slider.accessible_name == "Share of the ions inside the surface, in per cent"
        button.click()
        wait.until(lambda d: blue(d) < 0.0003)
        assert button.get_attribute("aria-pressed") == "false"
        button.send_keys(Keys.ENTER)
        wait.until(lambda d: blue(d) > 2 * half)


SURFACE = """const surface = periodicVolume(data.density, data.cell).getSurface(arguments[0], 0);
return [Array.from(surface.getPosition()), Array.from(surface.getNormal())];"""


@pytest.mark.browser
@pytest.mark.parametrize("fractions", [(0.3, 0.6, 0.45), (0.02, 0.97, 0.0)])
def test_surface_lies_around_the_peak_in_a_skew_cell_and_ends_at_its_faces(fractions, tmp_path):
    """The root of the peak is exp(-r^2 / 4 width^2): at half of its height r = 2 width sqrt(ln 2)."""
    with opened(views.structure(ps4(), "Peak", density=peak(fractions, (24, 20, 28))), tmp_path) as driver:
        points, normals = (np.reshape(x, (-1, 3)) for x in driver.execute_script(SURFACE, 127.5))
    offsets = find_mic(points - np.array(fractions) @ CELL, CELL)[0]
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=1), 1.2 * np.sqrt(np.log(2)), atol=0.04)
    cosines = np.sum(offsets * normals, axis=1) / np.linalg.norm(offsets, axis=1) / np.linalg.norm(normals, axis=1)
    assert cosines.max() < -0.95  # NGL takes normals that point to what is higher
    inside_cell = points @ np.linalg.inv(CELL)
    assert inside_cell.min() > -1e-6
    assert inside_cell.max() < 1 + 1e-6
    if fractions[0] == 0.02:  # through all faces: what leaves at one comes in at the other
        np.testing.assert_allclose([inside_cell.min(0), inside_cell.max(0)], [3 * [0], 3 * [1]], atol=1e-6)
