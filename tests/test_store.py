"""Files are whole or not there; damaged ones are refused with the place of the damage."""
import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms

from esgap.store import (
    FrameStore,
    labelled,
    only_writer,
    parse_frames,
    provenance,
    read_frames,
    read_record,
    structure_hash,
    write_atomically,
    write_frames,
    write_record,
)


def frame(name="a", x=0.0):
    atoms = Atoms("LiPS", [[x, 0, 0], [2, 0.1, 0], [0, 2, -0.3]], cell=[[5, 0, 0], [1, 6, 0], [0.5, 1, 7]], pbc=True)
    atoms.info.update(name=name, generation=2)
    stress = [0.1, 0.2, 0.3, 0.04, 0.05, 0.06]
    return labelled(atoms, -1 / 3, np.arange(9).reshape(3, 3) / 7, stress, {"hirshfeld": np.array([0.1, 0.2, -0.3])},
                    reference="PBE, at 300/40 Ry")


def test_frames_come_back(tmp_path):
    write_frames(tmp_path / "x.xyz", [frame("a"), frame("b", 0.5)])
    a, b = read_frames(tmp_path / "x.xyz")
    assert (a.info, b.info["name"]) == (frame().info, "b")
    assert a.get_potential_energy() == -1 / 3
    np.testing.assert_allclose(a.get_forces(), frame().get_forces(), atol=1e-8)
    np.testing.assert_array_equal(a.get_stress(), frame().get_stress())
    np.testing.assert_allclose(b.arrays["hirshfeld"], [0.1, 0.2, -0.3], atol=1e-8)
    assert structure_hash(a) == structure_hash(frame())


@pytest.mark.parametrize("change", ["positions", "cell", "pbc", "numbers"])
def test_structure_hash_sees_every_change_but_no_label(change):
    a, b = frame(), frame("other name")
    b.calc = None
    assert structure_hash(a) == structure_hash(b)
    if change == "pbc":
        b.pbc = [True, True, False]
    elif change == "cell":
        b.cell[2, 1] += 2e-8
    elif change == "positions":
        b.positions[2, 1] += 2e-8
    else:
        b.numbers[:2] = b.numbers[1::-1]
    assert structure_hash(a) != structure_hash(b)


@pytest.mark.parametrize(("damage", "message"), [
    (lambda t: "", "holds no frames"),
    (lambda t: t.replace("3\n", "three\n", 1), "line 1: expected the number .* opens frame 0, found 'three'"),
    (lambda t: t[:-30], "ends in the middle of frame 1 .opened in line 6 with 3 atoms."),
    (lambda t: t[:-1], "ends in the middle of frame 1"),
    (lambda t: t.replace("\n3\n", "\n\n3\n"), "line 6: expected the number of atoms"),
    (lambda t: t.replace("  2.00000000", "  two", 1), "not valid extended XYZ"),
    (lambda t: t.replace("  2.00000000", "  nan", 1), r"frame 0 of .* \(a\) has a value that is not finite"),
    (lambda t: t.replace("energy=-0.3333333333333333", "energy=nan", 1), "has a value that is not finite"),
])
def test_damaged_frames_are_refused(tmp_path, damage, message):
    write_frames(tmp_path / "x.xyz", [frame("a"), frame("b")])
    text = (tmp_path / "x.xyz").read_text()
    assert damage(text) != text
    (tmp_path / "x.xyz").write_text(damage(text))
    with pytest.raises(ValueError, match=message):
        read_frames(tmp_path / "x.xyz")


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(FileNotFoundError, match="give the path of an extended XYZ file"):
        read_frames(tmp_path / "none.xyz")
    (tmp_path / "x.xyz").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not a text file"):
        read_frames(tmp_path / "x.xyz")


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    write_atomically(tmp_path / "x", "old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*x \(No space left on device\); .* make room"):
        write_atomically(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_second_writer_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    hold = ("import sys, time; from esgap.store import only_writer\n"
            "with only_writer(sys.argv[1]): print(1, flush=True); ")
    with subprocess.Popen([sys.executable, "-c", hold + "time.sleep(60)", tmp_path / "x"], stdout=subprocess.PIPE) as p:
        p.stdout.readline()
        (tmp_path / ".x.abcdefgh.tmp").write_text("half")
        refused = pytest.raises(RuntimeError, match=f"is being written by process {p.pid} on .*: wait")
        with refused, only_writer(tmp_path / "x"):
            pass
        p.send_signal(signal.SIGKILL)
    with only_writer(tmp_path / "x"):
        assert os.listdir(tmp_path) == ["x.lock"]
    assert os.listdir(tmp_path) == []


def test_frame_store_survives_a_kill_between_merge_and_tidying(tmp_path):
    def key(atoms):
        return atoms.info["name"]

    store = FrameStore(tmp_path / "x.xyz", key)
    for name in "cab":
        store.add(frame(name))
    part = next(store.parts.iterdir())
    saved = part.read_text()
    store.merge("ab")
    assert [key(a) for a in read_frames(tmp_path / "x.xyz")] == ["a", "b", "c"]
    assert not store.parts.exists()
    store.parts.mkdir()
    part.write_text(saved)
    again = FrameStore(tmp_path / "x.xyz", key)
    again.merge("ab")
    assert [key(a) for a in read_frames(tmp_path / "x.xyz")] == ["a", "b", "c"]
    for name in "abc":
        again.discard(name)
    again.merge()
    assert os.listdir(tmp_path) == []


def test_a_frame_that_cannot_be_a_label_is_not_stored(tmp_path):
    bad = frame()
    bad.calc.results["energy"] = np.nan
    with pytest.raises(ValueError, match=r"the new frame a .*not finite"):
        FrameStore(tmp_path / "x.xyz", str).add(bad)
    assert os.listdir(tmp_path) == []


def test_records_say_what_made_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").write_text("abc")
    monkeypatch.setattr(sys, "argv", ["/somewhere/lib/esgap/__main__.py", "label", str(tmp_path / "in"), "/else/out"])
    write_record("r.json", {"D": np.float64(0.1), "r": np.arange(3)}, ["in"], seed=7)
    record = read_record("r.json")
    assert (record["D"], record["r"], record["made_by"]["seed"]) == (0.1, [0, 1, 2], 7)
    assert record["made_by"]["command"] == "python -m esgap label in out"
    assert record["made_by"]["inputs"] == {"in": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    assert {"python", "esgap", "numpy", "ase"} <= set(record["made_by"]["versions"])
    assert provenance(["in"], 7) == record["made_by"]


def test_records_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match=r"already has an entry 'made_by'"):
        write_record(tmp_path / "r.json", {"made_by": 1})
    with pytest.raises(TypeError, match=r"holds numbers, strings, lists and arrays; .* is a complex"):
        write_record(tmp_path / "r.json", {"z": 1j})
    with pytest.raises(FileNotFoundError, match=r"no file .*r\.json"):
        read_record(tmp_path / "r.json")
    (tmp_path / "r.json").write_text('{"a": ')
    with pytest.raises(ValueError, match="is not valid JSON"):
        read_record(tmp_path / "r.json")
    with pytest.raises(ValueError, match="holds no frames"):
        parse_frames("\n\n")
