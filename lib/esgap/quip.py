"""Gaussian approximation potentials in files: QUIP's XML (with its sparse-point files) and a compact .npz.

A model read from XML gives quippy's numbers, one written here loads in quippy and in `quip`. Only `soap` descriptors
with the dot_product kernel and `distance_2b` with ard_se are understood; every other option is refused by name, because
a model evaluated with an option ignored would look like a model and be wrong. Files are written under a temporary name
and then renamed.
An .npz keeps the expansion coefficients of the sparse points, 40 % of the numbers, where they give the points back.
Format: observed in files written by gap_fit of quippy-ase 0.10.3.
"""
import hashlib
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .gap import SparseGAP, Term
from .soap import Soap, point_coefficients, points_of, quip_order
from .store import read_arrays, write_arrays, write_atomically
from .two_body import Distance2b, PairTerm

COVARIANCES = {"soap": (2, "dot_product"), "distance_2b": (1, "ard_se")}  # covariance_type in the XML, gap_fit's name
FORMAT, FORMAT_WITH_PAIRS = "esgap SparseGAP 1", "esgap SparseGAP 2"  # of an .npz
ROUNDING = 4e-15  # largest change of a component of a sparse point in an .npz
CENTRE_TERM_CHANGED = 1426512068  # gap_version before which the centre went to all channels
# options of the fit, no part of the descriptor
_OF_THE_FIT = {"zeta", "delta", "covariance_type", "n_sparse", "sparse_method", "sparse_file", "add_species", "f0",
               "config_type_n_sparse", "print_sparse_index", "unique_hash_tolerance", "unique_descriptor_tolerance",
               "theta_fac", "theta_uniform", "n_species", "mark_sparse_atoms", "xml_version"}


def _truth(text):
    return text.strip().upper() in ("T", "TRUE", ".TRUE.")


def _integers(text):
    return tuple(int(z) for z in text.replace(",", " ").split())


_FIELDS = {
    "soap": {"n_max": int, "l_max": int, "atom_sigma": float, "cutoff": float, "cutoff_transition_width": float,
             "central_weight": float, "covariance_sigma0": float, "basis_error_exponent": float, "Z": int,
             "cutoff_dexp": int, "cutoff_scale": float, "cutoff_rate": float, "normalise": _truth,
             "central_reference_all_species": _truth, "species_Z": _integers},
    "distance_2b": {"cutoff": float, "cutoff_transition_width": float, "Z1": int, "Z2": int}}
_REQUIRED = {"soap": ("n_max", "l_max", "atom_sigma", "cutoff"), "distance_2b": ("cutoff",)}
_ALIASES = {"atom_gaussian_width": "atom_sigma", "normalize": "normalise"}
_ONLY_DEFAULT = {
    "soap": {"average": "F", "diagonal_radial": "F", "nu_r": "2", "nu_s": "2", "z_mix": "F", "r_mix": "F",
             "sym_mix": "F", "coupling": "T", "radial_basis": "EQUISPACED_GAUSS", "n_z": "1", "z_map": ""},
    "distance_2b": {"n_exponents": "1", "exponents": "1", "tail_exponent": "0", "tail_range": "1", "only_inter": "F",
                    "only_intra": "F", "resid_name": ""}}


def _same(text, default):
    try:
        return float(text) == float(default)
    except ValueError:
        return (_truth(text) == _truth(default)) if default in "TF" and default else text.upper() == default.upper()


def parse_descriptor(text, gap_version=CENTRE_TERM_CHANGED):
    """'soap n_max=8 l_max=4 ... Z=3 species_Z={3 15 16}' -> Soap, 'distance_2b cutoff=6 Z1=3 Z2=16' -> Distance2b.

    Anything that is not supported is a ValueError."""
    kind, _, rest = text.strip().partition(" ")
    if kind not in _FIELDS:
        raise ValueError(f"descriptor {kind!r} is not supported, only `soap` and `distance_2b`: evaluate this model "
                         "with quippy")
    pairs = re.findall(r"(\w+)\s*=\s*(?:\{+([^}]*)\}+|(\S+))", rest)
    options = {key.lower(): (braced or plain).strip() for key, braced, plain in pairs}
    names, refused, values = {name.lower(): name for name in _FIELDS[kind]}, _ONLY_DEFAULT[kind], {}
    for key, value in options.items():
        name = names.get(_ALIASES.get(key, key))
        if name:
            values[name] = _FIELDS[kind][name](value)
        elif key in refused:
            if not _same(value, refused[key]):
                raise ValueError(f"{kind} option {key}={value} is not supported, only {key}="
                                 f"{refused[key] or '(none)'}: evaluate this model with quippy")
        elif key not in _OF_THE_FIT:
            raise ValueError(f"{kind} option {key}={value} is not known here: evaluate this model with quippy")
    missing = [k for k in _REQUIRED[kind] if k not in values]
    if missing:
        raise ValueError(f"{kind} descriptor without {', '.join(missing)}: {text.strip()!r}")
    if kind == "distance_2b":
        return Distance2b(**values)
    if gap_version < CENTRE_TERM_CHANGED:
        values["central_reference_all_species"] = True
    return Soap(**values)


def _kind(descriptor):
    return "soap" if isinstance(descriptor, Soap) else "distance_2b"


def descriptor_text(descriptor):
    """QUIP's command string of a descriptor."""
    def written(value, of_type):
        if of_type is _truth:
            return "T" if value else "F"
        return f"{{{' '.join(map(str, value))}}}" if of_type is _integers else repr(of_type(value))

    kind = _kind(descriptor)
    text = [f"{name}={written(getattr(descriptor, name), of_type)}" for name, of_type in _FIELDS[kind].items()]
    return " ".join([kind, *text, *([f"n_species={len(descriptor.species_Z)}"] if kind == "soap" else [])])


def to_quip(X, soap):
    """Descriptors (M, D) in our order -> (M, D+1) in QUIP's, with covariance_sigma0 as last component."""
    return np.hstack([np.asarray(X)[:, quip_order(soap)], np.full((len(X), 1), soap.covariance_sigma0)])


def from_quip(X, soap):
    """The inverse of `to_quip`."""
    out = np.empty((len(X), soap.n_components))
    out[:, quip_order(soap)] = X[:, :-1]
    return out


def read_model(path):
    """SparseGAP from QUIP XML or, if `path` does not end in .xml, from our .npz."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no potential at {path}: give the path of a QUIP .xml or of an .npz saved by esgap")
    return _read_xml(path) if path.suffix == ".xml" else _read_npz(path)


def write_model(model, path):
    """To QUIP XML with sparse-point files beside it if `path` ends in .xml, else to .npz."""
    path = Path(path)
    if path.suffix == ".xml":
        _write_xml(model, path)
    else:
        _write_npz(model, path)


def _read_xml(path):
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{path} is not a complete XML file ({error}): copy it again") from None
    params = root if root.tag == "GAP_params" else root.find(".//GAP_params")
    if params is None:
        raise ValueError(f"{path} holds no GAP_params: it is not a GAP potential")
    extra = [e.get("init_args") for e in root.iter("Potential") if "Sum" in e.get("init_args", "")]
    data = params.find("GAP_data")
    if data.get("do_core", "F") == "T" or extra:
        raise ValueError(f"{path} adds a core potential ({'do_core=T' if not extra else extra[0]}), which is not "
                         "supported: fit to the difference and give the other part as `baseline`")
    version = int(params.get("gap_version", CENTRE_TERM_CHANGED))
    e0 = {int(e.get("Z")): float(e.get("value")) for e in data.findall("e0")}
    terms = [_read_term(g, path, version) for g in params.iter("gpCoordinates")]
    if not terms:
        raise ValueError(f"{path} holds no gpCoordinates: there is nothing to evaluate")
    return SparseGAP(tuple(t for t in terms if isinstance(t, Term)), {Z: v for Z, v in e0.items() if v},
                     params.get("label", "GAP"), tuple(t for t in terms if isinstance(t, PairTerm)))


def _read_term(g, path, version):
    descriptor = parse_descriptor(g.find("descriptor").text, version)
    number, name = COVARIANCES[_kind(descriptor)]
    if int(g.get("covariance_type")) != number:
        raise ValueError(f"covariance_type={g.get('covariance_type')} is not supported, only {number} "
                         f"({name}): evaluate this model with quippy")
    X, alpha, cutoff = _read_points(g, path, descriptor)
    delta = float(g.get("signal_variance"))
    if isinstance(descriptor, Distance2b):
        if float(g.get("signal_mean", 0)):
            raise ValueError(f"distance_2b option f0={g.get('signal_mean')} is not supported, only f0=0: evaluate "
                             "this model with quippy")
        return PairTerm(descriptor, X[:, 0], alpha, cutoff, delta, float(g.find("theta").text))
    if np.any(X[:, -1] != descriptor.covariance_sigma0):
        raise ValueError(f"{path}: last components of the sparse points differ from covariance_sigma0="
                         f"{descriptor.covariance_sigma0}")
    return Term(descriptor, from_quip(X, descriptor), alpha * cutoff, delta, float(g.get("zeta")))


def _dimensions(descriptor):
    return descriptor.n_components + 1 if isinstance(descriptor, Soap) else 1


def _read_points(g, path, descriptor):
    """Sparse points (M, dimensions), their weights (M,) and cutoff values (M,)."""
    M, d = int(g.get("n_sparseX")), int(g.get("dimensions"))
    if d != _dimensions(descriptor):
        raise ValueError(f"{path} states {d} dimensions, its descriptor has {_dimensions(descriptor)}: "
                         f"an option is missing from {descriptor_text(descriptor)!r}")
    points = g.findall("sparseX")
    if g.get("sparseX_filename"):
        X = _read_numbers(path.parent / g.get("sparseX_filename"), g.get("sparseX_md5sum"))
    else:
        X = np.array(" ".join(text for p in points for text in p.itertext()).split(), float)
    if X.size != M * d or len(points) != M:
        raise ValueError(f"{path}: {X.size} numbers of sparse points and {len(points)} weights, expected {M * d} and "
                         f"{M}; the file of sparse points is incomplete or of another fit")
    return X.reshape(M, d), *(np.array([float(p.get(name)) for p in points]) for name in ("alpha", "sparseCutoff"))


def _read_numbers(file, md5):
    if not file.is_file():
        raise FileNotFoundError(f"no file {file} of sparse points: it belongs beside the XML, copy both together")
    text = file.read_bytes()
    if md5 and hashlib.md5(text).hexdigest() != md5:
        raise ValueError(f"{file} is not the file this XML was written with (its md5 is not {md5}): "
                         "copy both from the same fit")
    return np.array(text.split(), float)


def _write_xml(model, path):
    label = re.sub(r"\W", "_", model.label)
    out = [f"<{label}>", f'<Potential label="{label}" init_args="IP GAP label={label}"/>',
           f'<GAP_params label="{label}" gap_version="1769700636">', '  <GAP_data do_core="F">']
    out += [f'    <e0 Z="{Z}" value="{float(model.e0.get(Z, 0.0))!r}"/>' for Z in range(1, 119)]
    terms = (*model.terms, *model.pair_terms)
    out += ["  </GAP_data>", f'  <gpSparse label="{label}" n_coordinate="{len(terms)}" fitted="T">']
    for n, t in enumerate(terms, 1):
        out += _write_term(t, f"{label}{n}", path)
    out += ["  </gpSparse>", "</GAP_params>", f"</{label}>", ""]
    write_atomically(path, "\n".join(out))  # last: an XML never names a file that is not there


def _write_term(t, label, path):
    """The file of sparse points of a term -> its lines in the XML at `path`."""
    if isinstance(t, PairTerm):
        descriptor, X, cutoff = t.descriptor, t.points, t.sparse_cutoff
        own, theta = "", [f"      <theta> {float(t.theta)!r} </theta>"]
    else:
        descriptor, X, cutoff = t.soap, to_quip(t.X, t.soap), np.ones(len(t.X))
        own, theta = f'zeta="{float(t.zeta)!r}" ', []
    name, text = f"{path.name}.sparseX.{label}", "".join(f"{x:.17e}\n" for x in X.ravel()).encode()
    write_atomically(path.parent / name, text)
    return [f'    <gpCoordinates label="{label}" dimensions="{_dimensions(descriptor)}" '
            f'signal_variance="{float(t.delta)!r}" signal_mean="0.0" sparsified="T" n_permutations="1" '
            f'covariance_type="{COVARIANCES[_kind(descriptor)][0]}" {own}n_sparseX="{len(X)}" '
            f'sparseX_filename="{name}" sparseX_md5sum="{hashlib.md5(text).hexdigest()}">', *theta,
            f"      <descriptor>{descriptor_text(descriptor)}</descriptor>",
            '      <permutation i="1">1  </permutation>',  # the identity, as gap_fit writes it
            *(f'      <sparseX i="{k}" alpha="{float(a)!r}" sparseCutoff="{float(c)!r}"/>'
              for k, (a, c) in enumerate(zip(t.alpha, cutoff, strict=True), 1)), "    </gpCoordinates>"]


def _write_npz(model, path):
    header = {"format": FORMAT, "label": model.label,
              "e0": {str(Z): float(v) for Z, v in model.e0.items()},
              "terms": [{"soap": asdict(t.soap), "delta": float(t.delta), "zeta": float(t.zeta)} for t in model.terms]}
    arrays = {}
    for k, t in enumerate(model.terms):
        C = point_coefficients(t.X, t.soap)
        rebuilt = np.abs(points_of(C, t.soap) - t.X).max() < ROUNDING  # else they are not points of real environments
        arrays |= {f"alpha{k}": t.alpha, **({f"C{k}": C} if rebuilt else {f"X{k}": t.X})}
    if model.pair_terms:  # a version without them must not read the rest as the whole
        header |= {"format": FORMAT_WITH_PAIRS, "pair_terms": [
            {"descriptor": asdict(t.descriptor), "delta": float(t.delta), "theta": float(t.theta)}
            for t in model.pair_terms]}
        arrays |= {f"pair{k}": np.array([t.points, t.alpha, t.sparse_cutoff]) for k, t in enumerate(model.pair_terms)}
    write_arrays(path, header, **arrays)


def _read_npz(path):
    try:
        header, arrays = read_arrays(path)
        if header["format"] not in (FORMAT, FORMAT_WITH_PAIRS):
            raise ValueError(f"format {header['format']!r}")
        soaps = [Soap(**t["soap"]) for t in header["terms"]]
        points = [points_of(arrays[f"C{k}"], soap) if f"C{k}" in arrays else arrays[f"X{k}"]
                  for k, soap in enumerate(soaps)]
        terms = tuple(Term(soap, X, arrays[f"alpha{k}"], t["delta"], t["zeta"])
                      for k, (soap, X, t) in enumerate(zip(soaps, points, header["terms"], strict=True)))
        pair_terms = tuple(PairTerm(Distance2b(**t["descriptor"]), *arrays[f"pair{k}"], t["delta"], t["theta"])
                           for k, t in enumerate(header.get("pair_terms", [])))
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:  # what a file of something else may lead to
        raise ValueError(f"{path} is not a potential saved by esgap ({error}); QUIP potentials must end in "
                         ".xml") from error
    return SparseGAP(terms, {int(Z): v for Z, v in header["e0"].items()}, header["label"], pair_terms)
