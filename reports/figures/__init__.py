"""Figures of result rows as PDF, SVG and PNG, with captions beside them. Pure functions; Matplotlib is imported here.

Each figure is a module: numbers of rows, and `draw`, which takes them. A figure exists only where its data do.
"""

from reports.figures.every import all_drawings, for_paper, groups_of, left_out
from reports.figures.wording import captions
from reports.figures.writing import Drawing, Figure, drawn

__all__ = ["Drawing", "Figure", "all_drawings", "captions", "drawn", "for_paper", "groups_of", "left_out"]
