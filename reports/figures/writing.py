"""A drawn sheet as PDF, SVG and PNG. Equal sheets give equal bytes: no dates, no random names."""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure as Sheet

from reports.analysis.settings import BANNER
from reports.figures.style import in_style

DPI = 200
_METADATA: Mapping[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Figure:
    """A finished figure.

    Attributes:
        name: of its files, without folder and suffix.
        contents: suffix ("pdf", "svg", "png") -> bytes.
        caption: what stands below it, in one paragraph; nothing of it is drawn.
        width: in inches.
    """

    name: str
    contents: Mapping[str, bytes]
    caption: str
    width: float


@dataclass(frozen=True)
class Drawing:
    """A figure that is still to be drawn, here or by another process.

    Attributes:
        name: of its files, without folder and suffix.
        caption: what stands below.
        draw: at the top of a module: numbers -> sheet.
        numbers: what is drawn.
        random_weights: whether it is of random weights, even in part: then it gets the banner.
    """

    name: str
    caption: str
    draw: Callable[[Any], Sheet]
    numbers: Any
    random_weights: bool = False


def drawn(drawings: Iterable[Drawing]) -> Iterator[Figure]:
    """Draw figures in the style of all, one after the other."""
    with in_style():
        for drawing in drawings:
            yield _drawn(drawing)


def _drawn(drawing: Drawing) -> Figure:
    sheet = drawing.draw(drawing.numbers)
    if drawing.random_weights:
        banner(sheet)
    contents = {}
    for form, metadata in _METADATA.items():
        sink = io.BytesIO()
        with warnings.catch_warnings():  # a letter that the font lacks is a box in PDF and PNG
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            sheet.savefig(sink, format=form, dpi=DPI, metadata=dict(metadata))
        contents[form] = sink.getvalue()
    return Figure(drawing.name, contents, drawing.caption, float(sheet.get_size_inches()[0]))


def banner(sheet: Sheet) -> None:
    """Write across a sheet that its weights are random."""
    wide, tall = map(float, sheet.get_size_inches())
    size = min(3.2 * wide, 16.0 * tall)  # nine tenths of the width, where that is not too high
    sheet.text(
        0.5, 0.5, BANNER, fontsize=max(size, 6.5), color="#B00020", alpha=0.35, rotation=12 if tall > 1.5 else 0,
        ha="center", va="center", zorder=10,
    )  # fmt: skip
