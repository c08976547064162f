"""What this book asks of Sphinx beyond Jupyter Book's configuration.

Executed chapters are cached under a hash of everything they can depend on, so that an edit in lib/ or data/ executes
them again. Pages carry no script from another site and no live-code script (thebe), which is never used here.
"""
import hashlib
import sys
from pathlib import Path

from esgap.sweep import input_files

INPUTS = ["lib", "data", "requirements.txt", "pyproject.toml"]


def inputs_hash(root):
    """Hash of names and contents of all input files, and of the Python version; working files do not count."""
    digest = hashlib.sha256(sys.version.encode())
    for name, path in (file for place in INPUTS for file in input_files(root / place, place, root)):
        digest.update(name.encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def choose_cache(app, config):
    """Name the execution cache after its inputs."""
    root = Path(app.confdir)
    config.nb_execution_cache_path = str(root / "_build" / "executed" / inputs_hash(root))


def drop_foreign_scripts(app, pagename, templatename, context, doctree):
    """Keep only scripts that lie beside the page, and no thebe."""
    context["script_files"] = [js for js in context.get("script_files", []) if not _is_foreign(js)]


def _is_foreign(script):
    text = f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {}).get('body')}"
    return "thebe" in text.lower() or "://" in str(getattr(script, "filename", script))


def setup(app):
    app.connect("config-inited", choose_cache)
    app.connect("html-page-context", drop_foreign_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
