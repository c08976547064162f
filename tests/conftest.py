"""Fixtures of several test files."""
import matplotlib as mpl
import pytest

mpl.use("Agg")


@pytest.fixture
def ax():
    """An Axes in the book's style; what is drawn on it must render."""
    import matplotlib.pyplot as plt

    from esgap import figures
    figures.use_style()
    fig, ax = plt.subplots()
    yield ax
    fig.canvas.draw()
    plt.close(fig)
