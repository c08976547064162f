"""Several figures, one at a time: a slider for Jupyter and static HTML, without network or script files.

Each figure becomes a PNG inside the page, with a text of its own for those who do not see it. The data of all go along
as one CSV (`figure_data`), as metadata of the page.
"""
import base64
import html
import io
from dataclasses import dataclass

import matplotlib.pyplot as plt

from esgap.figure_data import figure_table

SHOW = ("const f=this.closest('figure'); f.querySelectorAll('img').forEach((x,k)=>x.hidden=k!=this.value); "
        "f.querySelector('output').textContent=this.dataset.labels.split('|')[this.value]; "
        "this.setAttribute('aria-valuetext',f.querySelector('output').textContent)")


@dataclass(frozen=True)
class FigureSlider:
    """Pictures (PNG) with a label each; shows itself. Made by `figure_slider`."""

    pictures: tuple[bytes, ...]
    labels: tuple[str, ...]
    alts: tuple[str, ...]
    title: str
    start: int
    table: str  # CSV

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}, {"text/html": {"csv": self.table}}

    def _repr_html_(self):
        images = "".join(
            f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{html.escape(alt)}" '
            f'style="max-width:100%"{"" if k == self.start else " hidden"}>'
            for k, (png, alt) in enumerate(zip(self.pictures, self.alts, strict=True)))
        now = html.escape(self.labels[self.start])
        control = (f'<input type="range" min="0" max="{len(self.pictures) - 1}" step="1" value="{self.start}" '
                   f'aria-label="{html.escape(self.title)}" aria-valuetext="{now}" '
                   f'data-labels="{html.escape("|".join(self.labels))}" '
                   f'oninput="{html.escape(SHOW)}" style="width:min(60%,24em)">')
        return (f'<figure class="figure-slider">{images}<figcaption>{html.escape(self.title)} {control} '
                f"<output>{now}</output></figcaption></figure>")

    def __repr__(self):
        return f"FigureSlider({self.title!r}: {', '.join(self.labels)})"


def figure_slider(figures, labels, title, alt, start=0):
    """Show matplotlib `figures` one at a time and close them.

    labels: one text each beside the slider; title: what the slider changes; alt: describes a figure, with {label} for
    its label. start: which is shown first. Raises ValueError unless there is one label without "|" a figure.
    """
    if not figures or len(figures) != len(labels):
        raise ValueError(f"{len(figures)} figures and {len(labels)} labels: give one label for each figure")
    if any("|" in label for label in labels):
        raise ValueError(f"labels {labels} contain '|', which separates them: use another sign")
    if not 0 <= start < len(figures):
        raise ValueError(f"start is {start}; there are figures 0 to {len(figures) - 1}")
    tables = [figure_table(f).partition("\n")[::2] for f in figures]  # (header, rows)
    alts = tuple(alt.format(label=label) for label in labels)
    table = "\n".join([tables[0][0], "".join(rows for _, rows in tables)])
    return FigureSlider(tuple(_png(f) for f in figures), tuple(labels), alts, title, start, table)


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor="auto")
    plt.close(figure)
    return file.getvalue()
