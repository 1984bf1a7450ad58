"""Figures of result rows as PDF, SVG and PNG, with captions beside them. Pure functions; Matplotlib is imported here.

Each figure is a module with `numbers`, which takes rows and returns what is drawn, and `draw`, which takes that. A
figure exists only where its data do.
"""

from reports.figures.every import all_drawings
from reports.figures.several import for_paper, several_drawings
from reports.figures.wording import MAX_SETTINGS, captions, left_out
from reports.figures.writing import Drawing, Figure, drawn

__all__ = [
    "MAX_SETTINGS", "Drawing", "Figure", "all_drawings", "captions", "drawn", "for_paper", "left_out",
    "several_drawings",
]  # fmt: skip
