"""Views: whole units, continuous paths, both faces, and refusals that say what to do."""
import base64
import json
import re
import shutil
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from selenium.webdriver.common.by import By

from browser import chromium, errors, inside, pixels, plays, requests
from esgap import views

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
])
def test_refusals(frames, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        views.structure(frames, **{"title": "Title", **arguments})


@pytest.mark.browser
def test_view_draws_and_plays_from_a_file(tmp_path):
    frames = [ps4((x, 3, 4)) for x in np.linspace(2, 5, 20)]
    view = views.structure(frames, "Moving unit", arrows=[[[0, 0, 0], [0, 0, 5]]], highlight=[5])
    shutil.copytree(NGL, tmp_path / "_static" / "ngl")
    (tmp_path / "chapters").mkdir()
    page = tmp_path / "chapters" / "page.html"
    page.write_text(f'<!doctype html><html lang="en" data-content_root="../"><title>t</title>{view.html}')
    with chromium() as driver:
        driver.get(page.as_uri())
        with inside(driver, driver.find_element(By.TAG_NAME, "iframe")):
            picture = pixels(driver.find_element(By.ID, "view"))
            assert np.mean(np.any(picture < 240, axis=2)) > 0.02
            assert plays(driver)
            driver.find_element(By.ID, "names").click()
            assert driver.find_element(By.ID, "names").get_attribute("aria-pressed") == "true"
            assert [item.text for item in driver.find_elements(By.CSS_SELECTOR, "#legend li")] == [
                "Li (1)", "P (1)", "S (4)"]
        assert errors(driver) == []
        assert [url for url in requests(driver) if not url.startswith(tmp_path.as_uri())] == []
