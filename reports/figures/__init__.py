"""Figures of result rows as PDF, SVG and PNG, with captions beside them. Pure functions; Matplotlib is imported here.

Each figure is a module: numbers of rows, `draw`, which takes them, and its caption. A figure exists only where its data
do.
"""

from reports.figures.every import Drawing, Figure, all_drawings, captions, drawn, groups_of, left_out

__all__ = ["Drawing", "Figure", "all_drawings", "captions", "drawn", "groups_of", "left_out"]
