"""Gaussian approximation potentials with and without long-range electrostatics.

Units everywhere: A, eV, e, fs; stress in eV/A^3 with ASE's sign. Double precision throughout.
"""
import importlib.metadata
import os

# Without its fusion emitters XLA compiles twice as fast, and what it compiles is no slower (measured with 0.10). Only
# for that version: another may not know the flag, and XLA ends a program for a flag it does not know.
FLAG = "--xla_cpu_use_fusion_emitters"
if importlib.metadata.version("jaxlib").startswith("0.10.") and FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{FLAG}=false {os.environ.get('XLA_FLAGS', '')}".strip()

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)  # before any array exists: energies must cancel to 1e-9 eV

from .calculators import ElectrostaticBaseline, UniformField, es_gap  # noqa: E402
from .fit import FitSettings, fit_gap  # noqa: E402
from .gap_calculator import GAP  # noqa: E402
from .models import load_model, save_model  # noqa: E402
from .soap import Soap  # noqa: E402
from .store import data_path, read_frames  # noqa: E402

__version__ = "0.1.0"
__all__ = ["GAP", "ElectrostaticBaseline", "FitSettings", "Soap", "UniformField", "data_path", "es_gap", "fit_gap",
           "load_model", "read_frames", "save_model"]
