"""`python -m esgap frames` writes what the shipped labels were made for."""
import numpy as np

import esgap
from esgap.__main__ import main
from esgap.reference import frame_key


def test_generation_0_is_what_the_shipped_labels_belong_to(tmp_path, capsys):
    assert main(["frames", "gen0", str(tmp_path / "gen0.xyz")]) == 0
    assert "81 configurations" in capsys.readouterr().out
    written = esgap.read_frames(tmp_path / "gen0.xyz")
    labelled = esgap.read_frames(esgap.data_path("dft/gen0.xyz"))
    for new, old in zip(written, labelled, strict=True):  # files hold 1e-8 A: rounded alike, they are the same
        np.testing.assert_allclose(new.positions, old.positions, atol=1e-10)
        assert new.info["config_type"] == old.info["config_type"]
        assert new.calc is None
        assert set(new.arrays) == {"numbers", "positions"}
        new.info["reference"] = old.info["reference"]
        assert frame_key(new) == frame_key(old)  # label would take the shipped label for this frame


def test_locality_set(tmp_path):
    assert main(["frames", "locality", str(tmp_path / "locality.xyz")]) == 0
    frames = esgap.read_frames(tmp_path / "locality.xyz")
    assert len(frames) == 67
    assert all(len(a) == 84 for a in frames)
    assert len({a.info["name"] for a in frames}) == 67
    assert main(["frames", "locality", str(tmp_path / "other.xyz"), "--seed", "1"]) == 0
    other = esgap.read_frames(tmp_path / "other.xyz")
    assert np.abs(other[5].positions - frames[5].positions).max() > 0.01


def test_unwritable_output_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["frames", "locality", str(tmp_path / "file" / "x.xyz")]) == 2
    assert "file" in capsys.readouterr().err
