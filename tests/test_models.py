"""Stored models come back as they were, and are refused when their two files do not belong together."""
import numpy as np
import pytest

import esgap
from esgap import charges, models, structures


@pytest.fixture(scope="module")
def gap():
    settings = esgap.FitSettings(esgap.Soap(2, 1, atom_sigma=0.5, cutoff=3.5), n_sparse=8, e0="fit")
    return esgap.fit_gap(esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[:2], settings).calculator


@pytest.mark.parametrize("zeta", [charges.qeq_exponents(), None])
def test_es_gap_is_the_sum_it_was(gap, tmp_path, zeta):
    crystal = structures.crystal()
    baseline = esgap.ElectrostaticBaseline(charges.neutral_charges(crystal, {"Li": 0.5, "P": 1.0}), zeta)
    esgap.save_model(tmp_path / "both.npz", gap, baseline, note="for a test")
    loaded = esgap.load_model(tmp_path / "both.npz", accuracy=1e-8)
    expected = esgap.es_gap(gap, baseline).get_property("forces", crystal.copy())
    np.testing.assert_allclose(loaded.get_property("forces", crystal.copy()), expected, atol=1e-9)


def test_gap_alone(gap, tmp_path):
    esgap.save_model(tmp_path / "gap.npz", gap)
    loaded, crystal = esgap.load_model(str(tmp_path / "gap.npz")), structures.crystal()
    assert isinstance(loaded, esgap.GAP)
    assert loaded.get_property("energy", crystal) == pytest.approx(gap.get_property("energy", crystal), abs=1e-9)


def test_refusals(gap, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model at .*none\.npz: train one with"):
        esgap.load_model(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="model 'gap-es': give gap, es-gap, or the path"):
        models.model_path("gap-es")
    with pytest.raises(ValueError, match=r"does not end in \.npz"):
        esgap.save_model(tmp_path / "x.xml", gap)
    esgap.save_model(tmp_path / "a.npz", gap)
    esgap.save_model(tmp_path / "b.npz", gap, esgap.ElectrostaticBaseline({"Li": 0.0, "P": 0.0, "S": 0.0}))
    (tmp_path / "a.npz").write_bytes((tmp_path / "b.npz").read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"a\.json describes another file than"):
        esgap.load_model(tmp_path / "a.npz")
