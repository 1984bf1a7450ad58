"""Figures of result rows as PDF, SVG and PNG, with captions. Only this package imports Matplotlib at module level.

Each figure is a module with functions for its numbers, `draw` and its caption. Figures without data are omitted.
"""

from reports.figures.every import Drawing, Figure, all_drawings, captions, drawn, groups_of, left_out

__all__ = ["Drawing", "Figure", "all_drawings", "captions", "drawn", "groups_of", "left_out"]
