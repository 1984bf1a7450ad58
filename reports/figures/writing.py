"""A drawn sheet as PDF, SVG and PNG. Equal sheets give equal bytes: no dates, no random names."""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.analysis.settings import BANNER
from reports.figures.style import PAGE, Sheet, in_style
from reports.render.latex_signs import latex_escape
from reports.render.markdown import markdown_escape

DPI = 200
# What Matplotlib would write into each form: dates, and versions of programs.
_LEFT_OUT = {"pdf": ("CreationDate", "Creator", "Producer"), "svg": ("Date", "Creator"), "png": ("Software",)}


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
            sheet, contents = drawing.draw(drawing.numbers), {}
            if drawing.random_weights:
                banner(sheet)
            for form, names in _LEFT_OUT.items():
                sink = io.BytesIO()
                with warnings.catch_warnings():  # a letter that the font lacks is a box in PDF and PNG
                    warnings.filterwarnings("ignore", message="Glyph .* missing from")
                    sheet.savefig(sink, format=form, dpi=DPI, metadata=dict.fromkeys(names))
                contents[form] = sink.getvalue()
            yield Figure(drawing.name, contents, drawing.caption, float(sheet.get_size_inches()[0]))


def banner(sheet: Sheet) -> None:
    """Write across a sheet that its weights are random."""
    wide, tall = map(float, sheet.get_size_inches())
    size = min(3.2 * wide, 16.0 * tall)  # nine tenths of the width, where that is not too high
    sheet.text(
        0.5, 0.5, BANNER, fontsize=max(size, 6.5), color="#B00020", alpha=0.35, rotation=12 if tall > 1.5 else 0,
        ha="center", va="center", zorder=10,
    )  # fmt: skip


def captions(figures: Sequence[Figure], left_out: Sequence[str] = ()) -> tuple[str, str]:
    """Return the captions of all figures as Markdown and as LaTeX.

    Args:
        figures: in the order of the report.
        left_out: sentences on what is not there.
    """
    parts = ["# Figures", *(markdown_escape(sentence) for sentence in left_out)]
    for one in figures:
        name, links = markdown_escape(one.name), f"([PDF]({one.name}.pdf), [SVG]({one.name}.svg))"
        parts += [f"## {name}", f"![{name}]({one.name}.png)", f"{markdown_escape(one.caption)} {links}"]
    head = "% At their own size; from a folder above: \\graphicspath{{figures/}}\n"
    return "\n\n".join(parts) + "\n", head + "\n".join(map(latex_figure, figures))


def latex_figure(one: Figure) -> str:
    """Return a figure as LaTeX, in a file that knows by `graphicx` where figures lie."""
    star, caption = "*" if one.width >= PAGE else "", latex_escape(one.caption).replace("λ", r"$\lambda$")
    return (
        f"\\begin{{figure{star}}}[t]\n  \\centering\n  \\includegraphics{{{one.name}.pdf}}\n"
        f"  \\caption{{{caption}}}\n  \\label{{fig:{one.name}}}\n\\end{{figure{star}}}\n"
    )
